# SPDX-License-Identifier: Apache-2.0
"""Stability, what the server did, warnings and reports: all from numbers, without a server."""

from __future__ import annotations

import csv
import io
import re

import pytest

from pyinfer._core import LatencyHistogram, LoadWindow
from pyinfer.perf.levels import highest_text, levels
from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.perf.report import csv_text, error_text, level_tables, notes_text
from pyinfer.perf.results import Measured, Window, is_stable, warnings_of
from pyinfer.perf.target import ServerTimes

MS = 1_000_000
PARTS = ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


class Load:
    """A LoadWindow with numbers of our own."""

    def __init__(self, durations_ns: dict[int, int], seconds: float = 1.0) -> None:
        self.latency, self.send_delay = LatencyHistogram(), LatencyHistogram()
        for duration, count in durations_ns.items():
            self.latency.record(duration, count)
        self.started_ns, self.ended_ns = 0, round(seconds * 1e9)
        self.errors: dict[str, int] = {}
        self.failed = self.send_ns = self.receive_ns = self.cpu_ns = 0
        self.unanswered = self.overdue = self.oldest_ns = 0
        self.streamed = LoadWindow().streamed


def table_text(levels: list[Level], options: PerfOptions) -> str:
    """Tables and notes as plain text."""
    return "\n".join([*(table.text() for table in level_tables(levels, options)), notes_text(levels, options)])


def window(durations_ns: dict[int, int], **more: object) -> Window:
    return Window(Load(durations_ns), **more)  # type: ignore[arg-type]


def test_three_windows_have_to_agree_in_rate_and_latency() -> None:
    a, b, c = window({MS: 100}), window({MS: 109}), window({MS: 112})
    assert is_stable([a, a, b], 10, -1)
    assert not is_stable([a, b, c], 10, -1)  # 12 % from first to last
    assert is_stable([c, a, a, b], 10, -1)  # the last three count
    assert not is_stable([a, a], 10, -1)
    slow = window({MS: 99, 50 * MS: 1})
    assert not is_stable([a, a, slow], 10, -1)
    assert is_stable([a, a, slow], 10, 90)  # but for the slowest it is as fast
    assert not is_stable([window({})] * 3, 10, -1)


def times(count: int, ns: int) -> ServerTimes:
    return ServerTimes(dict.fromkeys(PARTS, (count, ns)), count, count)


def test_the_mean_of_the_windows_has_an_interval() -> None:
    windows = [window({MS: count}) for count in (90, 100, 110)]
    measured = Measured("Concurrency", 4, windows[0], is_stable=True, windows=windows)
    # Student's t of two degrees of freedom, by the table: 4.303
    assert measured.spread(lambda one: one.throughput) == pytest.approx(4.303 * 10 / 3**0.5 / 100, rel=1e-3)
    assert measured.spread(lambda one: one.latency_us()) == 0
    assert Measured("Concurrency", 4, windows[0], is_stable=True).spread(lambda one: one.throughput) is None
    told = table_text([Level("Concurrency", 4, measured)], PerfOptions(limit_rows_per_s=1000, limit_file="f"))
    assert told.split()[:6] == ["concurrency", "infer/s", "+-%", "of", "limit", "avg"]
    assert "95 % confidence" in told


def test_batches_are_those_since_the_first_reading() -> None:
    before = ServerTimes({}, 0, 0, {1: 5, 4: 1})
    after = ServerTimes({}, 0, 0, {1: 5, 4: 3, 8: 2})
    assert after.minus(before).batches == {4: 2, 8: 2}


def test_the_servers_share_is_the_difference_of_its_counters() -> None:
    one = window({MS: 10}, before=times(5, 5 * 1000), after=times(15, 5 * 1000 + 10 * 20_000), batch_size=4)
    assert one.throughput == 40
    assert one.server_us("queue") == 20
    assert one.network_us == 1000 - 6 * 20


def notes(kind: str, one: Window) -> list[str]:
    return warnings_of(Measured(kind, 4, one, is_stable=True), one.load)


def test_a_stall_that_a_closed_loop_hides_is_flagged() -> None:
    hidden = window({MS: 4000, 1000 * MS: 4})
    (text,) = notes("Concurrency", hidden)
    assert "stood still for up to 1000 ms" in text
    assert "coordinated omission" in text
    # an open loop has it in its percentiles; and a server that is slow now and then, in proportion, is no stall
    assert not notes("Request Rate", hidden)
    even = window({MS: 90, 2 * MS: 10})
    assert not notes("Concurrency", even)


def test_what_has_no_answer_is_told() -> None:
    one = window({MS: 10})
    one.load.unanswered, one.load.overdue, one.load.oldest_ns = 3, 4, 1500 * MS  # type: ignore[misc]
    (text,) = notes("Request Rate", one)
    assert "7 requests had no answer" in text
    assert "1.50 s" in text


def level(kind: str, value: float, durations_ns: dict[int, int]) -> Level:
    return Level(kind, value, Measured(kind, value, window(durations_ns), is_stable=True))


def test_csv_rows_are_sorted_by_throughput() -> None:
    found = [level("Concurrency", 1, {MS: 200}), level("Concurrency", 2, {MS: 100})]
    rows = list(csv.DictReader(io.StringIO(csv_text(found, PerfOptions(model="m", verbose_csv=True)))))
    assert [row["Concurrency"] for row in rows] == ["2", "1"]
    assert rows[0]["Inferences/Second"] == "100"
    assert rows[0]["p99 latency"] == rows[0]["Avg latency"] == "1000"
    text = csv_text(found, PerfOptions(model="m", verbose_csv=True, percentile=42))
    assert "p42 latency,p50 latency" in text
    assert "Avg latency" not in text


def test_errors_are_shown_by_their_text() -> None:
    assert error_text('HTTP status 400: {"error":"no: way"}') == "HTTP status 400: no: way"
    assert error_text("HTTP status 502: <html>") == "HTTP status 502: <html>"
    assert error_text("UNAVAILABLE: x") == "UNAVAILABLE: x"
    one = level("Concurrency", 1, {MS: 10})
    assert one.measured
    one.measured.window.load.errors.update({'HTTP status 400: {"error":"a"}': 2, "b": 3})
    table = table_text([one], PerfOptions(model="m"))
    assert table.index("3 requests failed: b") < table.index("2 requests failed: HTTP status 400: a")


def test_results_are_shown_as_shares_of_what_is_possible() -> None:
    one = level("Concurrency", 4, {MS: 100})
    plain, shared = PerfOptions(model="m"), PerfOptions(model="m", limit_file="f", limit_rows_per_s=400.0)
    assert "of limit" not in table_text([one], plain)
    head, row, _, *notes = table_text([one], shared).splitlines()
    assert head.split()[2:4] == ["of", "limit"]
    assert row.split()[2:4] == ["25.0", "%"]
    assert any("400.0 rows/s that f has" in note for note in notes)


def highest_under(ms: float, knee: float, *, fails: float = 1e9, keeps_up: float = 1e9) -> tuple[list[float], str]:
    """(the rates that are tried, the answer) on a server that takes 2 ms up to ``knee`` requests a second and 90 ms
    beyond, fails some from ``fails`` on and lets those wait that are more than ``keeps_up`` a second.
    """
    options = PerfOptions(model="m", concurrency=None, highest_rate=True, percentile=99, latency_threshold_ms=ms)
    found: list[Level] = []
    for one in levels(options, None, found):  # type: ignore[arg-type]
        left = max(0, round(one.value - keeps_up))
        met = window({(2 if one.value <= knee else 90) * MS: round(one.value) - left})
        met.load.failed = 1 if one.value >= fails else 0  # type: ignore[misc]
        ends = [window({}) for _ in range(3)]
        for number, end in enumerate(ends):
            end.load.overdue = number * left // 2  # type: ignore[misc]
        one.measured = Measured(one.kind, one.value, met, is_stable=True, windows=ends)
        found.append(one)
    return [one.value for one in found], highest_text(found, options)


def test_the_highest_rate_under_a_limit_is_found() -> None:
    tried, answer = highest_under(5, 700)
    assert tried[:6] == [16, 64, 256, 1024, 512, 724]
    assert len(tried) <= 12
    found = re.fullmatch(r"Highest request rate with a p99 of 5 ms at most: ([\d.]+) a second \(2 ms\)\.\n", answer)
    assert found
    assert 700 / 1.05 <= float(found[1]) <= 700
    # errors, and requests that do not come back, are no better than late ones
    for more in ({"fails": 700.0}, {"keeps_up": 0.95 * 700}):
        found = re.search(r": ([\d.]+) a second", highest_under(5, 1e9, **more)[1])
        assert found
        assert 700 / 1.06 <= float(found[1]) <= 700 * 1.01
    # below the first one, and nowhere
    tried, answer = highest_under(5, 3)
    assert tried[:3] == [16, 4, 1]
    assert re.search(r": (2\.[89]|3)\d* a second", answer)
    tried, answer = highest_under(1, 700)
    assert tried == [16, 4, 1]
    assert answer == "No request rate that was tried has a p99 of 1 ms at most.\n"
    assert highest_under(100, 700)[0][-1] <= 1e7  # a server without limits ends the search


def search(spread: Range, limit_of_load: float, **more: object) -> list[float]:
    """The levels that are measured on a server that is fast up to a load, and slow beyond."""
    options = PerfOptions(model="m", concurrency=spread, latency_threshold_ms=5, **more)  # type: ignore[arg-type]
    found: list[Level] = []
    for one in levels(options, None, found):  # type: ignore[arg-type]
        durations = {(1 if one.value <= limit_of_load else 9) * MS: 10}
        found.append(level(one.kind, one.value, durations))
    return [one.value for one in found]


def test_ranges_end_at_the_limit() -> None:
    assert search(Range(1, 9, 4), 100) == [1, 5, 9]
    assert search(Range(1, 9, 2), 4) == [1, 3, 5]
    assert search(Range(2, 0, 2), 5) == [2, 4, 6]


def test_binary_search_closes_in() -> None:
    assert search(Range(1, 64, 1), 23, binary_search=True) == [1, 64, 32, 16, 24, 20, 22, 23]
    assert search(Range(1, 64, 1), 100, binary_search=True) == [1, 64]
    assert search(Range(8, 64, 1), 2, binary_search=True) == [8]
