# SPDX-License-Identifier: Apache-2.0
"""Which levels of load are measured, one after the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions, Range

__all__ = ["levels"]


def levels(options: PerfOptions, session: Session, found: list[Level]) -> Iterator[Level]:
    """The levels to measure, in order. The last of ``found`` is the level that was given last."""
    spread: Range | None = options.concurrency or options.request_rate
    closed = options.concurrency or options.periodic or options.session_concurrency
    kind = "Concurrency" if closed else "Request Rate"
    if options.periodic:
        yield Level(kind, options.periodic.end)
    elif options.session_concurrency:
        yield Level(kind, options.session_concurrency)
    elif spread is None:
        times = session.data.times_ns
        rate = len(times) * 1e9 / max(1, times[-1]) if times else len(session.intervals) * 1e9 / sum(session.intervals)
        yield Level(kind, rate)
    elif options.binary_search:
        yield from _search(spread, kind, options, found)
    else:
        value = spread.start
        while spread.end == 0 or value <= spread.end * (1 + 1e-9):
            yield Level(kind, value)
            if not found[-1].meets(options):
                return
            value += spread.step


def _search(spread: Range, kind: str, options: PerfOptions, found: list[Level]) -> Iterator[Level]:
    """As perf_analyzer: both ends first, then halves; the step is how exact the answer is to be."""
    low, high = spread.start, spread.end
    yield Level(kind, low)
    if not found[-1].meets(options):
        return
    yield Level(kind, high)
    if found[-1].meets(options):
        return
    while high - low > spread.step:
        middle = (low + high) / 2
        if kind == "Concurrency":
            middle = float(int(middle))
        yield Level(kind, middle)
        if found[-1].meets(options):
            low = middle
        else:
            high = middle
