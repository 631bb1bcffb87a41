# SPDX-License-Identifier: Apache-2.0
"""Goals, and results held against them. Pure: values in, verdicts out; no test asserts on wall-clock time through this.

A goal is a line of text: a metric, written ``server.figure``, ``<=`` or ``>=``, and its limit. The limit is a number,
or a share of another metric, with a number on top if need be::

    pyinfer.cpu_us <= 13
    pyinfer.cpu_us <= 1/3 of triton.cpu_us
    padded.requests_per_s >= 2 times unpadded.requests_per_s
    pyinfer.cpu_us <= in_process.cpu_us + 15
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

__all__ = ["Goal", "Verdict", "figure", "judge", "parse_goal"]

_METRIC = r"[a-z]\w*\.[a-z]\w*"
_NUMBER = r"\d+(?:\.\d+)?"
_GOAL = re.compile(
    rf"(?P<metric>{_METRIC}) (?P<relation><=|>=) (?:(?P<number>{_NUMBER})"
    rf"|(?:(?P<share>{_NUMBER}%|\d+/\d+) of |(?P<times>{_NUMBER}) times )?"
    rf"(?P<of>{_METRIC})(?: \+ (?P<more>{_NUMBER}))?)"
)


@dataclass(frozen=True)
class Goal:
    """``metric`` must be ``relation`` to ``constant + factor * of``. ``text`` is what it was read from."""

    text: str
    metric: str
    relation: str
    constant: float
    factor: float = 0.0
    of: str | None = None


@dataclass(frozen=True)
class Verdict:
    """``met`` is None where a figure was not measured. ``limit`` is the number that ``value`` was held against."""

    goal: Goal
    met: bool | None
    value: float | None
    limit: float | None


def parse_goal(text: str) -> Goal:
    """Raises ValueError for what is no goal."""
    found = _GOAL.fullmatch(text)
    if found is None:
        raise ValueError(f"not a goal: {text!r}")
    if found["of"] is None:
        return Goal(text, found["metric"], found["relation"], float(found["number"]))
    factor = float(found["times"] or 1)
    if share := found["share"]:
        factor = float(share[:-1]) / 100 if share.endswith("%") else float(Fraction(share))
    return Goal(text, found["metric"], found["relation"], float(found["more"] or 0), factor, found["of"])


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
