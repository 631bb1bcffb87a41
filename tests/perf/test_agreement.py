# SPDX-License-Identifier: Apache-2.0
"""Whether load tools agree: differences that chance may have made are none, all others are."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from perf.clients import apart
from perf.goals import judge
from perf.scenarios import scenario_named
from perf.turns import medians

GOALS = scenario_named("agreement_grpc").goals


def tool(rates: Sequence[float], latency: float = 20000.0) -> dict[str, Any]:
    """A tool that has seen these rates in its rounds."""
    return medians([{"requests_per_s": rate, "p50_us": latency, "p99_us": 2 * latency} for rate in rates])


def met(figures: dict[str, dict[str, Any]]) -> list[bool | None]:
    """Of rates, medians and 99th percentiles: whether the goal is met."""
    found = {**figures, "agreement": apart(figures, "pyinfer")}
    return [judge(goal, found).met for goal in GOALS]


def test_a_true_difference_is_one() -> None:
    """A share of 2 %, of tools whose runs are a tenth of that apart: each of the figures, and whichever is higher."""
    calm, off = [400.0, 400.3, 399.8, 400.1], [392.1, 391.8, 392.0, 392.4]
    same = tool(calm)
    assert met({"pyinfer": same, "a": tool([400.2, 400.0, 400.1, 399.9])}) == [True, True, True]
    for pair in ({"pyinfer": same, "a": tool(off)}, {"pyinfer": tool(off), "a": same}):
        assert met(pair) == [False, True, True]
    assert met({"pyinfer": same, "a": tool(calm, 20400.0)}) == [True, False, False]
    # one tool that agrees does not hide another that does not
    assert met({"pyinfer": same, "a": same, "b": tool(off), "c": same})[0] is False


def test_noise_is_that_of_the_runs() -> None:
    """The same difference, of tools whose own runs are as far apart."""
    assert met({"pyinfer": tool([408, 396, 399, 401]), "a": tool([392, 399, 386, 394])}) == [True, True, True]
    found = apart({"pyinfer": tool([400, 400]), "a": tool([400, 410])}, "pyinfer")
    assert found["requests_per_s_noise"] >= 0.025


def test_what_rounds_have_in_common_is_in_no_ratio() -> None:
    drift = [1.0, 0.9, 0.8, 0.7]
    found = apart({"pyinfer": tool([400 * x for x in drift]), "a": tool([398 * x for x in drift])}, "pyinfer")
    assert found["requests_per_s_apart"] == pytest.approx(400 / 398 - 1)


def test_a_histogram_can_not_tell_less_than_its_range() -> None:
    found = apart({"pyinfer": tool([400] * 4, 20000.0), "a": tool([400] * 4, 20050.0)}, "pyinfer")
    assert 0.002 < found["p50_us_noise"] <= 0.004 < 0.01
    assert found["p50_us_apart"] < found["p50_us_noise"]
    assert "p50_us_noise" not in apart({"pyinfer": tool([400]), "a": tool([400])}, "pyinfer")


def test_tools_that_see_the_same_nearly_always_agree() -> None:
    source = random.Random(7)

    def runs() -> list[float]:
        return [source.gauss(400, 4) for _ in range(4)]

    agreed = sum(met({"pyinfer": tool(runs()), "a": tool(runs())})[0] is True for _ in range(300))
    assert agreed > 0.97 * 300
