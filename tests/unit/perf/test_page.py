# SPDX-License-Identifier: Apache-2.0
"""The page of charts: whole by itself, well-formed, with every level in it."""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from html.parser import HTMLParser

import pytest

from pyinfer._core import LatencyHistogram, LoadWindow
from pyinfer.perf.charts import chart
from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.perf.page import page_text
from pyinfer.perf.results import Measured, Window

MS = 1_000_000


class Loaded:
    def __init__(self, load: LoadWindow) -> None:
        self.latency, self.send_delay, self.errors = load.latency, load.send_delay, load.errors
        self.started_ns, self.ended_ns = 0, 1000 * MS
        self.failed = self.send_ns = self.receive_ns = self.cpu_ns = 0
        self.streamed = Streamed()


class Streamed:
    def __init__(self) -> None:
        self.responses = self.tokens = 0
        self.first, self.gap, self.token = LatencyHistogram(), LatencyHistogram(), LatencyHistogram()


def level(value: float, durations_ns: list[int], gaps_ns: Sequence[int] = (), tokens: int = 0) -> Level:
    load = LoadWindow()
    for duration in durations_ns:
        load.latency.record(duration)
    loaded = Loaded(load)
    for gap in gaps_ns:
        loaded.streamed.first.record(3 * gap)
        loaded.streamed.gap.record(gap)
    loaded.streamed.responses, loaded.streamed.tokens = 2 * len(gaps_ns), tokens or 2 * len(gaps_ns)
    window = Window(loaded)  # type: ignore[arg-type]
    return Level("Concurrency", value, Measured("Concurrency", value, window, is_stable=True))


class Balance(HTMLParser):
    """Fails where an element is not closed; collects the points of the curves."""

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


def read(text: str) -> dict[str, list[str]]:
    """The names of the lines of each chart, by its title. The page is whole, and its curves are inside of it."""
    reader = Balance()
    reader.feed(text)
    assert not reader.open
    assert not re.search(r"(?:src|href)=|https?:|nan|inf(?!er)", text)
    assert all(50 <= x <= 600 and 20 <= y <= 300 for x, y in reader.points)
    charts = re.findall(r"<h2>(.*?)</h2>\n<svg(.*?)</svg>", text, re.DOTALL)
    return {title: re.findall(r'<text x="630.0"[^>]*>(.*?)</text>', svg) for title, svg in charts}


@pytest.mark.parametrize("count", [0, 1, 2, 8])
def test_page_is_whole_and_its_curves_are_inside(count: int) -> None:
    found = [level(n + 1, [MS * (n + 1), 7 * MS, 900 * MS]) for n in range(count)]
    text = page_text(found, PerfOptions(model="<m>&", url="host:1"))
    charts = read(text)
    assert "<m>" not in text
    assert text.count("Where the average request spent its time") == 1
    assert charts["Latency: share that took longer"] == [f"concurrency {n + 1}" for n in range(count)]
    assert ("Latency by throughput" in charts) == (count > 1)
    assert not [title for title in charts if "esponse" in title]


@pytest.mark.parametrize("tokens", [0, 900])
def test_streams_have_charts_of_their_own(tokens: int) -> None:
    options = PerfOptions(model="m", streaming=True)
    one = [level(1, [90 * MS], [MS, 2 * MS, 30 * MS], tokens)]
    charts = read(page_text(one, options))
    assert charts["Time to first response: share that took longer"] == ["concurrency 1"]
    assert charts["Inter-response latency: share that took longer"] == ["concurrency 1"]
    assert "Responses a second" not in charts
    # a level whose requests have one response each has no gaps
    several = [*one, level(4, [80 * MS], [4 * MS], tokens), level(8, [80 * MS])]
    charts = read(page_text(several, options))
    assert charts["Time to first response by throughput"] == ["p50", "p95", "p99", "p99.9"]
    assert charts["Inter-response latency: share that took longer"] == ["concurrency 1", "concurrency 4"]
    assert charts["Responses a second"] == (["responses", "tokens"] if tokens else ["responses"])


def test_what_streams_take_is_the_servers_time() -> None:
    plain, streamed = level(1, [MS]).measured, level(1, [MS], [MS]).measured
    assert plain is not None
    assert streamed is not None
    for one in (plain, streamed):
        one.window.load.send_ns, one.window.load.receive_ns = 1000, MS // 2  # type: ignore[misc]
    assert (plain.window.client_us, streamed.window.client_us) == (501, 1)
    assert (round(plain.window.network_us), round(streamed.window.network_us)) == (499, 999)


def test_growth_has_its_charts() -> None:
    one = level(3, [MS] * 3, [MS])
    for sent in (0, 0, 2 * MS):
        one.records += struct.pack("=5q", sent, sent, sent + 3 * MS, 0, 0)
        one.response_records += struct.pack("=3q", 2, sent + MS, sent + 3 * MS)
    options = PerfOptions(model="m", streaming=True, periodic=Range(2, 3, 1))
    charts = read(page_text([one], options))
    assert charts["Requests while the concurrency grew"] == ["in flight", "sent in all"]
    assert charts["Responses a second while the concurrency grew"] == ["responses"]
    assert charts["Average waits while the concurrency grew"] == ["first response", "between responses", "end"]
    one.records = one.response_records = b""
    assert "while the concurrency grew" not in page_text([one], options)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((187, 199), [100, 200]),
        ((0.01, 1), [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1]),
        ((3e-5, 1), [1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1]),
        ((5, 5), [5, 10]),
    ],
)
def test_logarithmic_axes_are_no_longer_than_needed(values: tuple[float, float], ticks: list[float]) -> None:
    text = chart("t", "x", "y", [("line", [(value, 1.0) for value in values])], log_x=True)
    assert [float(x) for x in re.findall(r'y="276.0" text-anchor="middle">(.*?)<', text)] == pytest.approx(ticks)
