# SPDX-License-Identifier: Apache-2.0
"""Scenarios are data that the benches can run, and ask only for figures that their runs have."""

from __future__ import annotations

from pathlib import Path

import pytest

from perf import scenarios
from perf.benches import KINDS
from perf.clients import CLIENTS
from perf.padding import MODELS as PADDING_MODELS
from perf.peer_servers import PEERS
from perf.scenarios import SCENARIOS, Scenario, read_scenarios, scenario_named
from perf.slo import LOADS
from perf.slo import MODELS as SLO_MODELS

#: servers, and what stands for one, that runs of a kind have beside pyinfer and its peers
ROWS = {
    "histograms": {"without_histograms"},
    "ensemble": {"one_model"},
    "polled": {"unpolled"},
    "json": {"core"},
    "calls": {"own_threads", "executions"},
    "queue": {"waiting_1", "waiting_1000", "waiting_1000000"},
    "goodput": set(LOADS),
    "batching_hurts": {"slo", "better"},
    "padding": set(PADDING_MODELS),
    "agreement": {"agreement"},
}


def test_every_file_is_read() -> None:
    folder = Path(scenarios.__file__).parent
    found = [scenario for path in folder.glob("*.toml") for scenario in read_scenarios(path.read_text(), path.name)]
    assert sorted(scenario.name for scenario in found) == sorted(scenario.name for scenario in SCENARIOS)
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.name)
def test_it_can_be_run_and_judged(scenario: Scenario) -> None:
    assert scenario.kind in KINDS
    known = set(CLIENTS) if scenario.kind in ("clients", "agreement") else {"echo", "triton", *PEERS}
    assert set(scenario.peers) <= known
    assert scenario.goals or set(scenario.peers) & set(PEERS), "beside optional peers nothing was promised"
    assert scenario.kind != "goodput" or scenario.model in {model.name for model in SLO_MODELS}
    measured = {
        "pyinfer",
        *scenario.peers,
        *({"in_process"} if scenario.in_process else ()),
        *ROWS.get(scenario.kind, ()),
    }
    for goal in scenario.goals:
        for metric in filter(None, (goal.metric, goal.of)):
            assert metric.partition(".")[0] in measured, metric


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[scenario]]\nname = "a"\ntitle = "b"\nstream = 1', "a.toml: a has no field 'stream'"),
        ('[[scenario]]\nname = "a"\ntitle = "b"\ngoals = ["pyinfer.cpu_us = 3"]', "a.toml: not a goal"),
        ('[[scenario]]\nname = "a"', "a.toml: .*title"),
        ("[[scenario]", "a.toml: "),
    ],
)
def test_what_a_file_should_not_hold_is_told_with_its_name(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        read_scenarios(text, "a.toml")


def test_an_unknown_scenario_is_told_the_names() -> None:
    assert scenario_named("grpc_8x8").connections == 8
    with pytest.raises(ValueError, match="grpc_8x8, grpc_64x1"):
        scenario_named("grpc_9x9")
