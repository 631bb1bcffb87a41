# SPDX-License-Identifier: Apache-2.0
"""``--metrics-config``, and what a model's configuration says about its metrics."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfer.config.metrics import (
    MetricsConfig,
    first_response_bounds,
    foreign_families,
    metrics_config,
    metrics_setting,
)


def test_defaults_are_tritons() -> None:
    config = metrics_config([])
    assert (config.counter_latencies, config.histogram_latencies, config.summary_latencies) == (True, False, False)
    assert config.summary_quantiles == ((0.5, 0.05), (0.9, 0.01), (0.95, 0.001), (0.99, 0.001), (0.999, 0.001))
    assert config.pyinfer_histograms


@pytest.mark.parametrize(
    ("value", "changed"),
    [
        ("counter_latencies=false", {"counter_latencies": False}),
        ("counter_latencies=True", {}),
        ("histogram_latencies=true", {"histogram_latencies": True}),
        ("summary_latencies=true", {"summary_latencies": True}),
        ("summary_quantiles=0.5:0.1", {"summary_quantiles": ((0.5, 0.1),)}),
        ('summary_quantiles="0:0.1,1:1"', {"summary_quantiles": ((0.0, 0.1), (1.0, 1.0))}),
        ("pyinfer_histograms=false", {"pyinfer_histograms": False}),
    ],
)
def test_settings(value: str, changed: dict[str, Any]) -> None:
    assert metrics_config([metrics_setting(value)]) == MetricsConfig(**changed)


def test_the_last_of_a_name_wins() -> None:
    settings = [("summary_latencies", "true"), ("counter_latencies", "false"), ("summary_latencies", "false")]
    assert metrics_config(settings) == MetricsConfig(counter_latencies=False)


NAMES = "counter_latencies, histogram_latencies, summary_latencies, pyinfer_histograms, summary_quantiles"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("", "expected <setting>=<value>"),
        ("summary_latencies", "expected <setting>=<value>"),
        ("summaries=true", f"expected one of {NAMES} as the setting"),
        ("=true", f"expected one of {NAMES} as the setting"),
        ("summary_latencies=1", "expected true or false for summary_latencies"),
        ("summary_latencies=", "expected true or false for summary_latencies"),
        *(
            (f"summary_quantiles={pair}", f"got '{pair.rpartition(',')[2]}'")
            for pair in (
                "",
                "0.5",
                "0.5:",
                ":0.1",
                "x:y",
                "0.5:0.1,x",
                "1.1:0.1",
                "-0.1:0.1",
                "0.5:0",
                "0.5:2",
                "nan:1",
            )
        ),
    ],
)
def test_settings_that_are_refused(value: str, text: str) -> None:
    with pytest.raises(ValueError) as caught:
        metrics_setting(value)
    assert text in str(caught.value)


HISTOGRAM = "nv_inference_first_response_histogram_ms"


def model(*buckets: float, family: str = HISTOGRAM, decoupled: bool = True) -> dict[str, Any]:
    config: dict[str, Any] = {"model_transaction_policy": {"decoupled": decoupled}}
    if buckets:
        control = {"metric_identifier": {"family": family}, "histogram_options": {"buckets": list(buckets)}}
        config["model_metrics"] = {"metric_control": [control]}
    return config


ON = MetricsConfig(histogram_latencies=True)


@pytest.mark.parametrize(
    ("metrics", "config", "bounds"),
    [
        (ON, model(), (100, 500, 2000, 5000)),
        (ON, model(-1, 0, 2.5), (-1, 0, 2.5)),
        (ON, model(1, family="other"), (100, 500, 2000, 5000)),
        (ON, model(1, decoupled=False), ()),
        (ON, {}, ()),
        (MetricsConfig(), model(1), ()),
    ],
)
def test_bounds_of_first_responses(metrics: MetricsConfig, config: dict[str, Any], bounds: tuple[float, ...]) -> None:
    assert first_response_bounds(metrics, config) == bounds


def test_families_that_nothing_can_be_chosen_for() -> None:
    assert foreign_families(model(1)) == foreign_families({}) == []
    assert foreign_families(model(1, family="nv_inference_count")) == ["nv_inference_count"]
