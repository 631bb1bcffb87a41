# SPDX-License-Identifier: Apache-2.0
"""The bench of killed workers: each of them comes back, and nothing is lost or left behind."""

from __future__ import annotations

from pathlib import Path

from perf.kills import KILLED, OTHER, measure_kills
from perf.servers import build_repository, start_server


def test_workers_come_back(tmp_path: Path) -> None:
    with start_server("pyinfer", build_repository(tmp_path / "models", [KILLED, OTHER])) as server:
        figures = measure_kills(server, 4)
        assert server.counts(KILLED).inferences > 4
    assert figures["kills"] == 4
    assert 0 < figures["back_p50_ms"] <= figures["back_p99_ms"]
    assert figures["other_requests"] > 0
    left = ("other_failures", "more_processes", "more_files")
    assert max(figures[name] for name in left) <= 0, figures
