# SPDX-License-Identifier: Apache-2.0
"""Compare results with goals. Pure: values in, verdicts out; no test asserts on wall-clock time through this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from perf.scenarios import Goal

__all__ = ["Verdict", "describe", "figure", "judge"]


@dataclass(frozen=True)
class Verdict:
    """``met`` is None where a figure was not measured. ``limit`` is the number that ``value`` was held against."""

    goal: Goal
    met: bool | None
    value: float | None
    limit: float | None


def figure(servers: Mapping[str, Mapping[str, Any]], metric: str) -> float | None:
    """``servers["pyinfer"]["cpu_us"]`` for ``pyinfer.cpu_us``; None where it was not measured."""
    server, _, name = metric.partition(".")
    value = servers.get(server, {}).get(name)
    return None if value is None else float(value)


def judge(goal: Goal, servers: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """Hold one goal against the figures of one scenario's result."""
    value, limit = figure(servers, goal.metric), goal.constant
    if goal.of is not None:
        reference = figure(servers, goal.of)
        if reference is None:
            return Verdict(goal, None, value, None)
        limit += goal.factor * reference
    if value is None:
        return Verdict(goal, None, None, limit)
    return Verdict(goal, value <= limit if goal.relation == "<=" else value >= limit, value, limit)


def describe(goal: Goal) -> str:
    """The goal as a short text: ``cpu_us <= 13``, ``p50_us <= 1/3 of triton.p50_us``."""
    name = goal.metric.partition(".")[2]
    if goal.of is None:
        return f"{name} {goal.relation} {goal.constant:g}"
    if goal.factor == 1:
        share = goal.of
    elif goal.factor < 0.5:
        share = f"1/{round(1 / goal.factor)} of {goal.of}"
    else:
        share = f"{goal.factor:.0%} of {goal.of}"
    return f"{name} {goal.relation} {share}" + (f" + {goal.constant:g}" if goal.constant else "")
