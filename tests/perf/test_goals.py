# SPDX-License-Identifier: Apache-2.0
"""Goals are read from text and held against figures."""

from __future__ import annotations

import pytest

from perf.goals import figure, judge, parse_goal

SERVERS = {"pyinfer": {"cpu_us": 12.0, "p50_us": 100.0}, "triton": {"p50_us": 330.0}, "in_process": {"cpu_us": 9.0}}


@pytest.mark.parametrize(
    ("text", "met", "limit"),
    [
        ("pyinfer.cpu_us <= 12", True, 12),
        ("pyinfer.cpu_us <= 11.9", False, 11.9),
        ("pyinfer.cpu_us >= 12", True, 12),
        ("pyinfer.p50_us <= 1/3 of triton.p50_us", True, 110),
        ("triton.p50_us >= 2 times pyinfer.p50_us", True, 200),
        ("pyinfer.cpu_us <= triton.p50_us", True, 330),
        ("pyinfer.p50_us >= 33.5% of triton.p50_us", False, 110.55),
        ("pyinfer.cpu_us <= in_process.cpu_us + 15", True, 24),
        ("pyinfer.cpu_us <= 1/3 of in_process.cpu_us + 8.5", False, 11.5),
        ("pyinfer.cpu_us >= 60% of echo.cpu_us", None, None),
        ("pyinfer.growth_mib <= 5", None, 5),
    ],
)
def test_judge(text: str, met: bool | None, limit: float | None) -> None:
    goal = parse_goal(text)
    verdict = judge(goal, SERVERS)
    assert goal.text == text
    assert verdict.met is met
    assert verdict.limit == (None if limit is None else pytest.approx(limit))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cpu_us <= 3",
        "pyinfer.cpu_us < 3",
        "pyinfer.cpu_us <= 3 us",
        "pyinfer.cpu_us <= of triton.cpu_us",
        "a.b <= 1 + 2",
    ],
)
def test_what_is_no_goal_is_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="not a goal: '" + text.replace("+", r"\+").replace(".", r"\.")):
        parse_goal(text)


def test_figure_of_what_was_not_measured_is_none() -> None:
    assert figure(SERVERS, "pyinfer.cpu_us") == 12
    assert figure(SERVERS, "echo.cpu_us") is None
    assert figure({}, "pyinfer.cpu_us") is None
