# SPDX-License-Identifier: Apache-2.0
"""The bench of events counts what a real server sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf.events import measure_events
from perf.load import LoadError
from perf.servers import build_repository, start_server


def test_events_are_counted(tmp_path: Path) -> None:
    repository = build_repository(tmp_path / "models", ["events", "identity"])
    with start_server("pyinfer", repository) as server:
        for events in (1, 7, 3000):
            figures = measure_events(server, "events", events, 0.05)
            assert figures.keys() == {"cpu_us", "events_per_s"}
            assert figures["events_per_s"] > 0
        with pytest.raises(LoadError, match="identity was asked for 2 events and sent 1"):
            measure_events(server, "identity", 2, 0.05)
