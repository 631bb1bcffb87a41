# SPDX-License-Identifier: Apache-2.0
"""Which levels of load are measured, one after the other. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions, Range

__all__ = ["highest", "highest_text", "levels"]

#: requests a second that --highest-rate tries first, how much higher or lower each next rate is until the answer is
#: between two of them, where that ends, and how far these two may be apart in the end
_FIRST_RATE, _FACTOR = 16.0, 4.0
_LOWEST, _MOST = 1.0, 1e7
_EXACT = 1.05
#: of the requests that were to be sent, so many may be added to those that are waited for
_LEFT = 0.05


def levels(options: PerfOptions, session: Session, found: list[Level]) -> Iterator[Level]:
    """The levels to measure, in order. The last of ``found`` is the level that was given last."""
    spread: Range | None = options.concurrency or options.request_rate
    closed = options.concurrency or options.periodic or options.session_concurrency
    kind = "Concurrency" if closed else "Request Rate"
    if options.periodic:
        yield Level(kind, options.periodic.end)
    elif options.session_concurrency:
        yield Level(kind, options.session_concurrency)
    elif options.highest_rate:
        yield from _highest_rate(options, found)
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


def _highest_rate(options: PerfOptions, found: list[Level]) -> Iterator[Level]:
    """From one rate to ever higher ones, or lower ones, until one keeps the limit and one does not; then between."""
    low, high = 0.0, 0.0
    rate = _FIRST_RATE
    while not (low and high) and _LOWEST <= rate <= _MOST:
        yield Level("Request Rate", rate)
        if _keeps(found[-1], options):
            low, rate = rate, rate * _FACTOR
        else:
            high, rate = rate, rate / _FACTOR
    while low and high and high / low > _EXACT:
        middle = float(f"{math.sqrt(low * high):.3g}")
        yield Level("Request Rate", middle)
        if _keeps(found[-1], options):
            low = middle
        else:
            high = middle


def _keeps(level: Level, options: PerfOptions) -> bool:
    """Whether its latency is within the limit, without an error, and no more requests are waited for in the end than
    after the first window.
    """
    if not level.meets(options) or level.measured is None or level.measured.window.load.failed:
        return False
    waiting = [window.load.unanswered + window.load.overdue for window in level.measured.windows]
    # short windows hold few requests, of which one or two may be on their way
    most = _LEFT * level.value * level.measured.window.seconds + 3
    return not waiting or waiting[-1] - waiting[0] <= most


def highest(found: Sequence[Level], options: PerfOptions) -> Level | None:
    """The level that ``--highest-rate`` asks for; None where no rate keeps the limit."""
    kept = [level for level in found if _keeps(level, options)]
    return max(kept, key=lambda level: level.value, default=None)


def highest_text(found: Sequence[Level], options: PerfOptions) -> str:
    """The answer to ``--highest-rate``, a line; empty where nobody has asked."""
    if not options.highest_rate or not found:
        return ""
    latency = "average latency" if options.percentile < 0 else f"p{options.percentile}"
    limit = f"{latency} of {options.latency_threshold_ms:g} ms at most"
    level = highest(found, options)
    if level is None or level.measured is None:
        return f"No request rate that was tried has a {limit}.\n"
    took = level.measured.window.latency_us(options.percentile) / 1e3
    return f"Highest request rate with a {limit}: {level.value:g} a second ({took:.3g} ms).\n"
