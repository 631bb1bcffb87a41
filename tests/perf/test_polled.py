# SPDX-License-Identifier: Apache-2.0
"""The bench of a monitor asks a real server, and only in the windows that are to have one."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf.bodies import fp32_rows, make_body
from perf.load import LoadError, Window, measure_window
from perf.polled import measure_polled
from perf.servers import Server, build_repository, start_server


def test_windows_with_and_without_a_monitor(tmp_path: Path) -> None:
    body = make_body("grpc", "identity", fp32_rows(4), name="INPUT0", output="OUTPUT0")

    def window(server: Server) -> Window:
        return measure_window(server, body, 1, 1, 0.3)

    with start_server("pyinfer", build_repository(tmp_path / "models", ["identity"])) as server:
        figures = measure_polled(server, "identity", lambda: window(server), 1)
        assert figures["pyinfer"]["polls_per_s"] > 0
        assert figures["unpolled"]["polls_per_s"] == 0
        assert min(row["requests_per_s"] for row in figures.values()) > 0
        assert sum(row["failures"] for row in figures.values()) == 0
        with pytest.raises(LoadError, match="HTTP status 400: .*'none' is not available"):
            measure_polled(server, "none", lambda: window(server), 1)
