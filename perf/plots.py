# SPDX-License-Identifier: Apache-2.0
"""Charts as SVG, by hand: the same values give the same bytes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

__all__ = ["Row", "chart"]

#: label, and for each server what was measured: lowest, middle and highest
Row = tuple[str, Mapping[str, tuple[float, float, float]]]

_WIDTH, _LEFT, _RIGHT, _TOP = 920, 420, 70, 62
_LINE, _GAP = 15, 9
_COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#8a5a9e", "#c77f1a", "#3f8e9e", "#7a7a7a")
_LONGEST_LABEL = 62


def chart(title: str, unit: str, rows: Sequence[Row], *, middle: str, ends: str) -> str:
    """A line for each server of each row, from lowest to highest, with a dot in the middle and its number; logarithmic.

    ``middle`` and ``ends`` say what these are. At least one row, and all values above 0.
    """
    servers = list(dict.fromkeys(name for _, values in rows for name in values))
    spreads = [spread for _, values in rows for spread in values.values()]
    first = math.floor(math.log10(min(low for low, _, _ in spreads)))
    last = max(first + 1, math.ceil(math.log10(max(high for _, _, high in spreads))))
    height = _TOP + sum(_LINE * len(values) + _GAP for _, values in rows) + 30

    def place(value: float) -> float:
        return _LEFT + (math.log10(value) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)

    parts = [
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(12, 20, title, size=15, weight="bold"),
        _text(12, 38, f"{unit}, logarithmic; dot: {middle}, line: {ends}", colour="#555555"),
    ]
    left = 12.0
    for name in servers:
        parts.append(f'<circle cx="{left + 5:.1f}" cy="51" r="4.5" fill="{_colour(servers, name)}"/>')
        parts.append(_text(left + 14, 55, name))
        left += 30 + 7 * len(name)
    for power in range(first, last + 1):
        x = place(10.0**power)
        parts.append(f'<path d="M{x:.1f} {_TOP}V{height - 26}" stroke="#dddddd"/>')
        parts.append(_text(x, height - 10, f"{10.0**power:,g}" if power < 0 else f"{10**power:,}", anchor="middle"))
    top = float(_TOP + _GAP)
    for label, values in rows:
        centre = top + _LINE * len(values) / 2
        parts.append(_text(_LEFT - 12, centre + 4, _shortened(label), anchor="end"))
        for name, (low, mean, high) in values.items():
            y, colour = top + _LINE / 2, _colour(servers, name)
            parts.append(f'<path d="M{place(low):.1f} {y:.1f}H{place(high):.1f}" stroke="{colour}" stroke-width="2"/>')
            parts.append(f'<circle cx="{place(mean):.1f}" cy="{y:.1f}" r="4.5" fill="{colour}"/>')
            parts.append(_text(place(max(mean, high)) + 8, y + 4, _number(mean), colour=colour))
            top += _LINE
        top += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'font-family="sans-serif" font-size="12">\n<title>{escape(title)}</title>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _colour(servers: Sequence[str], name: str) -> str:
    return _COLOURS[servers.index(name) % len(_COLOURS)]


def _shortened(label: str) -> str:
    return label if len(label) <= _LONGEST_LABEL else label[: _LONGEST_LABEL - 1].rstrip(" ,") + "…"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _text(
    x: float, y: float, text: str, *, size: int = 0, weight: str = "", anchor: str = "", colour: str = "#222222"
) -> str:
    more = f' font-size="{size}"' if size else ""
    more += f' font-weight="{weight}"' if weight else ""
    more += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}"{more}>{escape(text)}</text>'
