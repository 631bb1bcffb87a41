# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG, inside of a page that has :data:`STYLE`. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

__all__ = ["STYLE", "Line", "bars", "chart"]

#: a name, and its points
Line = tuple[str, Sequence[tuple[float, float]]]

STYLE = """
svg { width: 100%; height: auto; }
text { font-size: 11px; }
@media (prefers-color-scheme: dark) { text { fill: #ccc; } }
"""
_WIDTH, _HEIGHT, _MARGIN = 640, 300, 56
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5a9e", "#c77f1a", "#3f8e9e")
#: of a logarithmic axis that has more than powers of ten
_MOST_TICKS = 8
#: lines with fewer points have dots
_MOST_DOTS = 40


def _scale(values: Sequence[float], low: float, high: float, log: bool) -> tuple[Callable[[float], float], list[float]]:
    """How a value becomes a place between ``low`` and ``high``, and where the axis has ticks."""
    least, most = min(values, default=1.0), max(values, default=1.0)
    if log:
        ticks = _log_ticks(max(least, 1e-9), max(most, 1e-9))
        first, last = math.log10(ticks[0]), math.log10(ticks[-1])
        return lambda v: low + (math.log10(max(v, ticks[0])) - first) / (last - first) * (high - low), ticks
    step = 10 ** math.floor(math.log10(most or 1))
    step = next(part for part in (step / 5, step / 2, step, step * 2) if most / part <= 6)
    top = math.ceil(most / step) * step or 1
    return lambda v: low + v / top * (high - low), [step * i for i in range(round(top / step) + 1)]


def _log_ticks(least: float, most: float) -> list[float]:
    """From at most ``least`` to at least ``most``: powers of ten, and 2 and 5 times these where there is room."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    steps = [float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= least or i == 0)
    last = min(i for i, step in enumerate(steps) if (step >= most and i > first) or i == len(steps) - 1)
    ticks = steps[first : last + 1]
    if len(ticks) <= _MOST_TICKS:
        return ticks
    return [10.0**power for power in range(powers[0], max(powers[0] + 2, powers[-1] + 1))]


def chart(title: str, x: str, y: str, lines: Sequence[Line], *, log_x: bool = False, log_y: bool = False) -> str:
    """Lines over the same axes, which are named ``x`` and ``y``. Axes that are not logarithmic begin at 0."""
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
        if len(each) < _MOST_DOTS:
            parts += [f'<circle cx="{to_x(a):.1f}" cy="{to_y(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in each]
        parts.append(
            f'<text x="{_WIDTH - 20}" y="{24 + 14 * number}" text-anchor="end" style="fill:{colour}">'
            f"{escape(name)}</text>"
        )
    return _titled(title, _HEIGHT, parts)


def bars(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A bar for each row, of a part for each name, with its label before it. At most six names."""
    most = max((sum(parts) for _, parts in rows), default=1.0) or 1.0
    shapes = [
        f'<text x="{_MARGIN + 95 * i}" y="12" style="fill:{_COLOURS[i]}">{escape(name)}</text>'
        for i, name in enumerate(names)
    ]
    for number, (label, parts) in enumerate(rows):
        left, top = float(_MARGIN), 22 + 20 * number
        shapes.append(_label(_MARGIN - 6, top + 12, label, "end"))
        for i, value in enumerate(parts):
            width = value / most * (_WIDTH - _MARGIN - 12)
            shapes.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="16" fill="{_COLOURS[i]}"/>')
            left += width
    return _titled(title, 30 + 20 * len(rows), shapes)


def _titled(title: str, height: float, parts: Sequence[str]) -> str:
    return f'<h2>{escape(title)}</h2>\n<svg viewBox="0 0 {_WIDTH} {height}" role="img">' + "".join(parts) + "</svg>"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
