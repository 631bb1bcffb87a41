# SPDX-License-Identifier: Apache-2.0
"""Goals are held against figures, and scenarios ask only for figures that their runs have."""

from __future__ import annotations

import pytest

from perf.goals import describe, figure, judge
from perf.padding import MODELS as PADDING_MODELS
from perf.scenarios import SCENARIOS, Goal, scenario_named
from perf.slo import LOADS
from perf.slo import MODELS as SLO_MODELS

SERVERS = {"pyinfer": {"cpu_us": 12.0, "p50_us": 100.0}, "triton": {"p50_us": 330.0}, "in_process": {"cpu_us": 9.0}}
THIRD = Goal("pyinfer.p50_us", "<=", factor=1 / 3, of="triton.p50_us")
ABOVE = Goal("pyinfer.cpu_us", "<=", 15, factor=1, of="in_process.cpu_us")


@pytest.mark.parametrize(
    ("goal", "met", "limit", "text"),
    [
        (Goal("pyinfer.cpu_us", "<=", 12), True, 12, "cpu_us <= 12"),
        (Goal("pyinfer.cpu_us", "<=", 11.9), False, 11.9, "cpu_us <= 11.9"),
        (Goal("pyinfer.cpu_us", ">=", 12), True, 12, "cpu_us >= 12"),
        (THIRD, True, 110, "p50_us <= 1/3 of triton.p50_us"),
        (ABOVE, True, 24, "cpu_us <= in_process.cpu_us + 15"),
        (Goal("pyinfer.cpu_us", ">=", factor=0.6, of="echo.cpu_us"), None, None, "cpu_us >= 60% of echo.cpu_us"),
        (Goal("pyinfer.growth_mib", "<=", 5), None, 5, "growth_mib <= 5"),
    ],
)
def test_judge_and_describe(goal: Goal, met: bool | None, limit: float | None, text: str) -> None:
    verdict = judge(goal, SERVERS)
    assert verdict.met is met
    assert verdict.limit == (None if limit is None else pytest.approx(limit))
    assert describe(goal) == text


def test_figure_of_what_was_not_measured_is_none() -> None:
    assert figure(SERVERS, "pyinfer.cpu_us") == 12
    assert figure(SERVERS, "echo.cpu_us") is None
    assert figure({}, "pyinfer.cpu_us") is None


def test_scenarios_have_names_of_their_own_and_goals_within_their_reach() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
    for scenario in SCENARIOS:
        measured = {"pyinfer", *scenario.peers} | ({"in_process"} if scenario.in_process else set())
        measured |= {"without_histograms"} if scenario.kind == "histograms" else set()
        measured |= {"core"} if scenario.kind == "json" else set()
        measured |= {"waiting_1", "waiting_1000", "waiting_1000000"} if scenario.kind == "queue" else set()
        if scenario.kind == "goodput":
            measured |= {f"{model.name}_{load}" for model in SLO_MODELS for load in LOADS}
        measured |= {"slo", "better"} if scenario.kind == "batching_hurts" else set()
        measured |= set(PADDING_MODELS) if scenario.kind == "padding" else set()
        assert scenario.goals, scenario.name
        for goal in scenario.goals:
            for metric in filter(None, (goal.metric, goal.of)):
                assert metric.partition(".")[0] in measured, (scenario.name, metric)


def test_an_unknown_scenario_is_told_the_names() -> None:
    assert scenario_named("grpc_8x8").connections == 8
    with pytest.raises(ValueError, match="grpc_8x8, grpc_64x1"):
        scenario_named("grpc_9x9")
