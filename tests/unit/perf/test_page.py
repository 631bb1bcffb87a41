# SPDX-License-Identifier: Apache-2.0
"""The page of charts: whole by itself, well-formed, with every level in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pyinfer._core import LoadWindow
from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.page import page_text
from pyinfer.perf.results import Measured, Window

MS = 1_000_000


class Loaded:
    def __init__(self, load: LoadWindow) -> None:
        self.latency, self.send_delay, self.errors = load.latency, load.send_delay, load.errors
        self.started_ns, self.ended_ns = 0, 1000 * MS
        self.failed = self.send_ns = self.receive_ns = self.cpu_ns = 0


def level(value: float, durations_ns: list[int]) -> Level:
    load = LoadWindow()
    for duration in durations_ns:
        load.latency.record(duration)
    window = Window(Loaded(load))  # type: ignore[arg-type]
    return Level("Concurrency", value, Measured("Concurrency", value, window, is_stable=True))


class Balance(HTMLParser):
    """Fails where an element of the drawing is not closed; collects the points of the curves."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.points: list[tuple[float, float]] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("svg", "text", "pre", "h1", "h2", "style", "title"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        points = dict(attributes).get("points")
        for pair in (points or "").split():
            x, y = pair.split(",")
            self.points.append((float(x), float(y)))

    def handle_endtag(self, tag: str) -> None:
        if tag in ("svg", "text", "pre", "h1", "h2", "style", "title"):
            assert self.open.pop() == tag


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_page_is_whole_and_its_curves_are_inside(count: int) -> None:
    found = [level(n + 1, [MS * (n + 1), 7 * MS, 900 * MS]) for n in range(count)]
    text = page_text(found, PerfOptions(model="<m>&", url="host:1"))
    reader = Balance()
    reader.feed(text)
    assert not reader.open
    assert "<m>" not in text
    assert not re.search(r"(?:src|href)=|https?:", text)
    assert all(50 <= x <= 640 and 0 <= y <= 300 for x, y in reader.points)
    assert len(reader.points) >= 3 * count
