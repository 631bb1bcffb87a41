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
svg { width: 100%; max-width: 44rem; height: auto; }
text { font-size: 11px; }
@media (prefers-color-scheme: dark) { text { fill: #ccc; } }
"""
_WIDTH, _HEIGHT, _MARGIN = 720, 300, 56
#: of the plot; what is beyond it is for the names of lines, or the sums of bars
_RIGHT, _TOP, _BOTTOM = _WIDTH - 120, 24, _HEIGHT - 40
#: to be seen on a light page and on a dark one
_COLOURS = ("#3b8fd4", "#e0576a", "#3fa66b", "#a974c4", "#d08a2a", "#4aa5b5")
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
    to_x, ticks_x = _scale([point[0] for point in points], _MARGIN, _RIGHT, log_x)
    to_y, ticks_y = _scale([point[1] for point in points], _BOTTOM, _TOP, log_y)
    parts = [_line(to_x(tick), _TOP, to_x(tick), _BOTTOM) for tick in ticks_x]
    parts += [_line(_MARGIN, to_y(tick), _RIGHT, to_y(tick)) for tick in ticks_y]
    parts += [_label(to_x(tick), _HEIGHT - 24, f"{tick:g}", "middle") for tick in ticks_x]
    parts += [_label(_MARGIN - 6, to_y(tick) + 4, f"{tick:g}", "end") for tick in ticks_y]
    parts += [_label((_MARGIN + _RIGHT) / 2, _HEIGHT - 6, x, "middle"), _label(4, 11, y, "start")]
    between = min(15.0, (_BOTTOM - _TOP) / max(1, len(lines)))
    for number, (name, each) in enumerate(lines):
        colour = _COLOURS[number % len(_COLOURS)]
        # the colours come again, dashed
        dashes = f' stroke-dasharray="{8 // (1 + number // len(_COLOURS))} 3"' if number >= len(_COLOURS) else ""
        path = " ".join(f"{to_x(a):.1f},{to_y(b):.1f}" for a, b in each)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if len(each) < _MOST_DOTS:
            parts += [f'<circle cx="{to_x(a):.1f}" cy="{to_y(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in each]
        height = _TOP + between * (number + 0.5)
        parts.append(
            f'<line x1="{_RIGHT + 8}" y1="{height:.1f}" x2="{_RIGHT + 26}" y2="{height:.1f}" '
            f'stroke="{colour}" stroke-width="2"{dashes}/>'
        )
        parts.append(_label(_RIGHT + 30, height + 4, name, "start"))
    return _titled(title, _HEIGHT, parts)


def bars(title: str, names: Sequence[str], rows: Sequence[tuple[str, Sequence[float]]]) -> str:
    """A bar for each row, of a part for each name, its label before it and its sum behind. At most six names."""
    most = max((sum(parts) for _, parts in rows), default=1.0) or 1.0
    shapes = [
        f'<rect x="{_MARGIN + 110 * i}" y="3" width="10" height="10" fill="{_COLOURS[i]}"/>'
        + _label(_MARGIN + 14 + 110 * i, 12, name, "start")
        for i, name in enumerate(names)
    ]
    for number, (label, parts) in enumerate(rows):
        left, top = float(_MARGIN), 22 + 20 * number
        shapes.append(_label(_MARGIN - 6, top + 12, label, "end"))
        for i, value in enumerate(parts):
            width = value / most * (_RIGHT - _MARGIN)
            shapes.append(f'<rect x="{left:.1f}" y="{top}" width="{width:.1f}" height="16" fill="{_COLOURS[i]}"/>')
            left += width
        shapes.append(_label(left + 6, top + 12, f"{sum(parts):.0f}", "start"))
    return _titled(title, 30 + 20 * len(rows), shapes)


def _titled(title: str, height: float, parts: Sequence[str]) -> str:
    return f'<h2>{escape(title)}</h2>\n<svg viewBox="0 0 {_WIDTH} {height}" role="img">' + "".join(parts) + "</svg>"


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#888" stroke-opacity=".3"/>'


def _label(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
