# SPDX-License-Identifier: Apache-2.0
"""What was met while a concurrency grew (``--periodic-concurrency-range``), step by step. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.perf.records import records_of
from pyinfer.perf.table import Table

__all__ = ["RampStep", "ramp_note", "ramp_steps", "ramp_table"]

#: of a table that people read
_MOST_ROWS = 25


@dataclass(frozen=True)
class RampStep:
    """From when requests were added until the next ones were. Times are nanoseconds.

    ``requests`` have been sent by then, in all, ``in_flight`` of them were not over. ``latencies`` and ``firsts``, to
    the first response, are those of the successful requests that were added; ``gaps``, between responses, and
    ``responses_per_s`` those of all that came meanwhile. Where answers are no streams, each is a response.
    """

    started: int
    requests: int
    in_flight: int
    latencies: Sequence[int]
    firsts: Sequence[int]
    gaps: Sequence[int]
    responses_per_s: float
    failed: int


def ramp_steps(level: Level, spread: Range) -> list[RampStep]:
    """Of a level that was measured with this range, as far as it came."""
    requests = sorted(records_of(level), key=lambda one: one.sent)
    if not requests:
        return []
    bounds = [0, *range(int(spread.start), len(requests), int(spread.step)), len(requests)]
    groups = [requests[low:high] for low, high in pairwise(bounds)]
    starts = [group[0].sent for group in groups]
    end = max(one.ended for one in requests)
    gaps: list[list[int]] = [[] for _ in groups]
    counts = [0] * len(groups)
    for one in requests:
        came = one.responses or ([] if one.failed else [one.ended])
        for number, time in enumerate(came):
            step = bisect_right(starts, time) - 1
            counts[step] += 1
            if number:
                gaps[step].append(time - came[number - 1])
    steps = []
    for number, group in enumerate(groups):
        until = starts[number + 1] if number + 1 < len(groups) else end
        before = sum(1 for one in requests[: bounds[number]] if one.ended > starts[number])
        steps.append(
            RampStep(
                starts[number],
                bounds[number + 1],
                before + len(group),
                [one.ended - one.intended for one in group if not one.failed],
                [one.responses[0] - one.intended for one in group if one.responses and not one.failed],
                gaps[number],
                counts[number] * 1e9 / max(1, until - starts[number]),
                sum(one.failed for one in group),
            )
        )
    return steps


def ramp_table(level: Level, options: PerfOptions) -> Table | None:
    """A row for each step, of many steps for some; None where the concurrency did not grow."""
    steps = ramp_steps(level, options.periodic) if options.periodic else []
    if not steps:
        return None
    streamed = options.streaming
    head = ["requests", "in flight", "at ms", *(["first avg us", "max", "gap avg us"] if streamed else [])]
    head += ["responses/s" if streamed else "answers/s", "avg us", "max", "errors"]
    stride = -(-len(steps) // _MOST_ROWS)
    shown = [*steps[:-1][::stride], steps[-1]]
    rows = []
    for one in shown:
        cells = [str(one.requests), str(one.in_flight), f"{(one.started - steps[0].started) / 1e6:.0f}"]
        cells += [_mean(one.firsts), _most(one.firsts), _mean(one.gaps)] if streamed else []
        cells += [f"{one.responses_per_s:.1f}", _mean(one.latencies), _most(one.latencies), str(one.failed)]
        rows.append(cells)
    return Table(head, rows)


def ramp_note(level: Level, options: PerfOptions) -> str:
    """What has to be known of the steps; empty where that is nothing."""
    if not options.periodic:
        return ""
    early = sum(1 for one in records_of(level) if max(1, len(one.responses)) < options.request_period)
    text = (
        f"{early} requests were over before they had --request-period {options.request_period} responses; the next "
        "ones were sent as if they had"
    )
    return text if early else ""


def _mean(durations_ns: Sequence[int]) -> str:
    return f"{fmean(durations_ns) / 1e3:.0f}" if durations_ns else "-"


def _most(durations_ns: Sequence[int]) -> str:
    return f"{max(durations_ns) / 1e3:.0f}" if durations_ns else "-"
