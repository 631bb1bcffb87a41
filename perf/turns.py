# SPDX-License-Identifier: Apache-2.0
"""Contestants take turns, so that a slow minute of the machine hits all of them alike. Pure but for ``measure``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

__all__ = ["medians", "take_turns"]

_Seen = TypeVar("_Seen")


def take_turns(names: Sequence[str], rounds: int, measure: Callable[[str], _Seen]) -> dict[str, list[_Seen]]:
    """``measure(name)`` of each, ``rounds`` times: A B, B A, A B, ..."""
    seen: dict[str, list[_Seen]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 == 0 else reversed(names):
            seen[name].append(measure(name))
    return seen


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Of each figure the median over the rows, and the rows themselves as ``windows``. At least one row."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]} | {"windows": list(rows)}
