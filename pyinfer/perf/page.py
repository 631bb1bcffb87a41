# SPDX-License-Identifier: Apache-2.0
"""Results as one page of HTML that needs nothing else: charts are SVG, styles are in it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from pyinfer._core import LatencyHistogram
from pyinfer.perf.charts import STYLE, Line, bars, chart
from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.ramp import ramp_steps
from pyinfer.perf.report import level_tables, notes_text
from pyinfer.perf.results import Measured

__all__ = ["page_text"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { overflow-x: auto; background: #f4f4f4; padding: .8rem; font-size: 12px; }
.notes { white-space: pre-line; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } pre { background: #222; } }
"""

#: responses that come in one read have no time between them, and a logarithmic axis has no 0
_FINEST_MS = 1e-3


def page_text(levels: Sequence[Level], options: PerfOptions) -> str:
    """Charts of what was measured, and the tables."""
    results = [level.measured for level in levels if level.measured is not None]
    results = [one for one in results if one.window.load.latency.count]
    title = escape(
        f"{options.model} at {options.url or 'localhost'}, {options.protocol}, batch size {options.batch_size}"
    )
    charts = _distributed("Latency", "inferences a second", results, _latency, lambda one: one.window.throughput)
    if options.streaming:
        charts += _streamed(results)
    if options.periodic:
        charts += [part for level in levels for part in _growing(level, options)]
    charts += [_split(results), *_batches(results)]
    return (
        f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}{STYLE}</style>\n"
        f"<h1>{title}</h1>\n" + "\n".join([*charts, *_tables(levels, options)]) + "\n</html>\n"
    )


def _tables(levels: Sequence[Level], options: PerfOptions) -> list[str]:
    """With the notes, whose lines may be as long as they are, below them."""
    tables = [f"<pre>{escape(table.text())}</pre>" for table in level_tables(levels, options)]
    return [*tables, f'<p class="notes">{escape(notes_text(levels, options))}</p>'] if tables else []


def _latency(one: Measured) -> LatencyHistogram:
    return one.window.load.latency


def _streamed(results: Sequence[Measured]) -> list[str]:
    """Of answers that are streams: how long they let their readers wait, and how much they bring."""

    def rate(one: Measured) -> float:
        return one.window.response_throughput

    responses = "responses a second"
    charts = [
        *_distributed("Time to first response", responses, results, lambda one: one.window.load.streamed.first, rate),
        *_distributed("Inter-response latency", responses, results, lambda one: one.window.load.streamed.gap, rate),
    ]
    if len(results) > 1:
        ordered = sorted(results, key=lambda one: one.value)
        lines: list[Line] = [("responses", [(one.value, rate(one)) for one in ordered])]
        # where the server tells of tokens, there are more or fewer of them than responses
        if any(one.window.load.streamed.tokens != one.window.load.streamed.responses for one in ordered):
            lines.append(("tokens", [(one.value, one.window.token_throughput) for one in ordered]))
        charts.append(chart("Responses a second", results[0].kind.lower(), "a second", lines))
    return charts


def _distributed(
    name: str,
    axis: str,
    results: Sequence[Measured],
    histogram: Callable[[Measured], LatencyHistogram],
    rate: Callable[[Measured], float],
) -> list[str]:
    """A duration by throughput, where there are several levels, and how it is distributed at each of them."""
    shown = [one for one in results if histogram(one).count]
    charts = []
    if len(shown) > 1:
        ordered = sorted(shown, key=rate)
        lines: list[Line] = [
            (f"p{percent:g}", [(rate(one), histogram(one).percentile(percent) / 1e6) for one in ordered])
            for percent in (50, 95, 99, 99.9)
        ]
        charts.append(chart(f"{name} by throughput", axis, "ms", lines))
    tails = [(f"{one.kind.lower()} {one.value:g}", _tail(histogram(one))) for one in shown]
    charts.append(chart(f"{name}: share that took longer", "ms", "share", tails, log_x=True, log_y=True))
    return charts


def _tail(histogram: LatencyHistogram) -> list[tuple[float, float]]:
    """The share that is longer, by milliseconds."""
    seen = 0
    points: list[tuple[float, float]] = []
    for longest, count in histogram.ranges():
        points.append((max(longest / 1e6, _FINEST_MS), 1 - seen / histogram.count))
        seen += count
    return points


def _growing(level: Level, options: PerfOptions) -> list[str]:
    """What became of it while the concurrency grew."""
    steps = ramp_steps(level, options.periodic) if options.periodic else []
    if not steps:
        return []
    seconds = [(one.started - steps[0].started) / 1e9 for one in steps]
    waits: list[Line] = []
    for name, of in (("first response", "firsts"), ("between responses", "gaps"), ("end", "latencies")):
        points = [(at, _mean_ms(getattr(one, of))) for at, one in zip(seconds, steps, strict=True) if getattr(one, of)]
        waits += [(name, points)] if points else []
    sent = [
        ("in flight", [(at, float(one.in_flight)) for at, one in zip(seconds, steps, strict=True)]),
        ("sent in all", [(at, float(one.requests)) for at, one in zip(seconds, steps, strict=True)]),
    ]
    rates = [("responses", [(at, one.responses_per_s) for at, one in zip(seconds, steps, strict=True)])]
    return [
        chart("Requests while the concurrency grew", "seconds", "requests", sent),
        chart("Responses a second while the concurrency grew", "seconds", "a second", rates),
        chart("Average waits while the concurrency grew", "seconds", "ms", waits),
    ]


def _mean_ms(durations_ns: Sequence[int]) -> float:
    return sum(durations_ns) / len(durations_ns) / 1e6


def _split(results: Sequence[Measured]) -> str:
    """Where the average request spent its time, a bar for each level."""
    names = ("client", "network+", "queue", "compute input", "compute infer", "compute output")
    rows = []
    for one in results:
        window = one.window
        server = [window.server_us(part) for part in ("queue", "compute_input", "compute_infer", "compute_output")]
        rows.append((f"{one.value:g}", [window.client_us, window.network_us, *server]))
    return bars("Where the average request spent its time, microseconds", names, rows)


def _batches(results: Sequence[Measured]) -> list[str]:
    """How large the batches were that the server made of the requests, where it tells."""
    lines: list[Line] = []
    for one in results:
        batches = one.window.server.batches if one.window.server else {}
        total = sum(batches.values())
        points = [(float(size), count / total) for size, count in batches.items()]
        lines += [(f"{one.kind.lower()} {one.value:g}", points)] if points else []
    return [chart("Batch sizes", "batch size", "share of the executions", lines)] if lines else []
