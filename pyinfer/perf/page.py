# SPDX-License-Identifier: Apache-2.0
"""Results as one page of HTML that needs nothing else: charts are SVG, styles are in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.report import table_text
from pyinfer.perf.results import Measured

__all__ = ["page_text"]

_WIDTH, _HEIGHT, _MARGIN = 640, 300, 56
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5a9e", "#c77f1a", "#3f8e9e")
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 44rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { overflow-x: auto; background: #f4f4f4; padding: .8rem; }
svg { width: 100%; height: auto; }
text { font-size: 11px; }
@media (prefers-color-scheme: dark) { body { background: #161616; color: #ddd; } pre { background: #222; }
text { fill: #ccc; } }
"""

_Line = tuple[str, Sequence[tuple[float, float]]]


def page_text(levels: Sequence[Level], options: PerfOptions) -> str:
    """Curves of throughput and latency, the distribution of latencies, the split of the time, and the table."""
    results = [level.measured for level in levels if level.measured is not None]
    results = [one for one in results if one.window.load.latency.count]
    title = escape(
        f"{options.model} at {options.url or 'localhost'}, {options.protocol}, batch size {options.batch_size}"
    )
    charts = (
        [_chart("Latency by throughput", "inferences a second", "ms", _curves(results))] if len(results) > 1 else []
    )
    distribution = _distribution(results)
    charts.append(_chart("Share of requests that took longer", "ms", "share", distribution, log_x=True, log_y=True))
    charts.append(_split(results))
    return (
        f"<!DOCTYPE html>\n<html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>\n"
        f"<h1>{title}</h1>\n" + "\n".join(charts) + f"\n<pre>{escape(table_text(levels, options))}</pre>\n</html>\n"
    )


def _curves(results: Sequence[Measured]) -> list[_Line]:
    ordered = sorted(results, key=lambda one: one.window.throughput)
    return [
        (
            f"p{percent:g}",
            [(one.window.throughput, one.window.load.latency.percentile(percent) / 1e6) for one in ordered],
        )
        for percent in (50, 95, 99, 99.9)
    ]


def _distribution(results: Sequence[Measured]) -> list[_Line]:
    lines: list[_Line] = []
    for one in results:
        latency, seen = one.window.load.latency, 0
        points: list[tuple[float, float]] = []
        for longest, count in latency.ranges():
            points.append((longest / 1e6, 1 - seen / latency.count))
            seen += count
        lines.append((f"{one.kind.lower()} {one.value:g}", points))
    return lines


def _scale(values: Sequence[float], low: float, high: float, log: bool) -> tuple[Callable[[float], float], list[float]]:
    """How a value becomes a place between ``low`` and ``high``, and where the axis has ticks."""
    least, most = min(values, default=1.0), max(values, default=1.0)
    if log:
        first, last = math.floor(math.log10(max(least, 1e-9))), math.ceil(math.log10(max(most, 1e-9)))
        last = max(last, first + 1)
        return (
            lambda v: low + (math.log10(max(v, 10.0**first)) - first) / (last - first) * (high - low),
            [10.0**power for power in range(first, last + 1)],
        )
    step = 10 ** math.floor(math.log10(most or 1))
    step = next(part for part in (step / 5, step / 2, step, step * 2) if most / part <= 6)
    top = math.ceil(most / step) * step or 1
    return lambda v: low + v / top * (high - low), [step * i for i in range(round(top / step) + 1)]


def _chart(title: str, x: str, y: str, lines: Sequence[_Line], *, log_x: bool = False, log_y: bool = False) -> str:
    points = [point for _, each in lines for point in each]
    to_x, ticks_x = _scale([point[0] for point in points], _MARGIN, _WIDTH - 12, log_x)
    to_y, ticks_y = _scale([point[1] for point in points], _HEIGHT - 40, 12, log_y)
    parts = [_line(to_x(tick), 12, to_x(tick), _HEIGHT - 40) for tick in ticks_x]
    parts += [_line(_MARGIN, to_y(tick), _WIDTH - 12, to_y(tick)) for tick in ticks_y]
    parts += [_label(to_x(tick), _HEIGHT - 24, f"{tick:g}", "middle") for tick in ticks_x]
    parts += [_label(_MARGIN - 6, to_y(tick) + 4, f"{tick:g}", "end") for tick in ticks_y]
    parts += [_label(_WIDTH / 2, _HEIGHT - 6, x, "middle"), _label(4, 10, y, "start")]
    for number, (name, each) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        path = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in each)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(
            f'<text x="{_WIDTH - 20}" y="{24 + 14 * number}" text-anchor="end" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    return f"<h2>{escape(title)}</h2>\n" + _svg(_HEIGHT, parts)


def _split(results: Sequence[Measured]) -> str:
    """Where the average request spent its time, a bar for each level."""
    names = ("client", "network+", "queue", "compute input", "compute infer", "compute output")
    rows = []
    for one in results:
        window = one.window
        server = [window.server_us(part) for part in ("queue", "compute_input", "compute_infer", "compute_output")]
        rows.append((f"{one.value:g}", [window.send_us + window.receive_us, window.network_us, *server]))
    most = max((sum(parts) for _, parts in rows), default=1.0) or 1.0
    shapes = [
        f'<text x="{_MARGIN + 95 * i}" y="12" style="fill:{_COLOURS[i]}">{name}</text>' for i, name in enumerate(names)
    ]
    for number, (label, parts) in enumerate(rows):
        left, top = float(_MARGIN), 22 + 20 * number
        shapes.append(_label(_MARGIN - 6, top + 12, label, "end"))
        for i, value in enumerate(parts):
            width = value / most * (_WIDTH - _MARGIN - 12)
            shapes.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="16" fill="{_COLOURS[i]}"/>')
            left += width
    return "<h2>Where the average request spent its time</h2>\n" + _svg(30 + 20 * len(rows), shapes)


def _svg(height: float, parts: Sequence[str]) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">' + "".join(parts) + "</svg>"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
