# SPDX-License-Identifier: Apache-2.0
"""Contestants take turns in both orders."""

from __future__ import annotations

from itertools import count

from perf.turns import in_turns, medians


def test_who_was_first_is_last_in_the_next_round() -> None:
    order: list[str] = []
    clock = count()

    def measure(name: str) -> int:
        order.append(name)
        return next(clock)

    seen = in_turns(["a", "b", "c"], 3, measure)
    assert order == ["a", "b", "c", "c", "b", "a", "a", "b", "c"]
    # what drifts evenly has the same mean for all after each second round
    assert [sum(values[:2]) for values in seen.values()] == [5, 5, 5]


def test_medians_keep_the_rows() -> None:
    rows = [{"x": 3.0, "y": 1.0}, {"x": 1.0, "y": 9.0}, {"x": 2.0, "y": 5.0}]
    assert medians(rows) == {"x": 2.0, "y": 5.0, "windows": rows}
