# SPDX-License-Identifier: Apache-2.0
"""Contestants take turns, so that a slow minute of the machine hits all of them alike. Pure but for ``measure``."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from pyinfer.perf.turns import take_turns

__all__ = ["in_turns", "medians"]

_Seen = TypeVar("_Seen")


def in_turns(names: Sequence[str], rounds: int, measure: Callable[[str], _Seen]) -> dict[str, list[_Seen]]:
    """What ``measure(name)`` gives for each, ``rounds`` times: A B, B A, A B, ..."""
    seen: dict[str, list[_Seen]] = {name: [] for name in names}
    for _, name in take_turns(names, rounds):
        seen[name].append(measure(name))
    return seen


def medians(rows: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Of each figure the median over the rows, and the rows themselves as ``windows``. At least one row."""
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]} | {"windows": list(rows)}
