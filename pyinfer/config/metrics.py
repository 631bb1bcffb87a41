# SPDX-License-Identifier: Apache-2.0
"""What ``--metrics-config`` can say: which families of metrics there are. Pure; imports nothing of pyinfer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["MetricsConfig", "first_response_bounds", "foreign_families", "metrics_config", "metrics_setting"]

_BOOLEANS = ("counter_latencies", "histogram_latencies", "summary_latencies", "pyinfer_histograms")
_QUANTILES = "summary_quantiles"
_FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
#: milliseconds
_FIRST_RESPONSE_BOUNDS = (100.0, 500.0, 2000.0, 5000.0)


@dataclass(frozen=True)
class MetricsConfig:
    """The settings with Triton's defaults; ``pyinfer_histograms`` is our own."""

    counter_latencies: bool = True
    histogram_latencies: bool = False
    summary_latencies: bool = False
    #: (quantile, error that is allowed, as a share of all values)
    summary_quantiles: tuple[tuple[float, float], ...] = (
        (0.5, 0.05),
        (0.9, 0.01),
        (0.95, 0.001),
        (0.99, 0.001),
        (0.999, 0.001),
    )
    pyinfer_histograms: bool = True


def metrics_setting(value: str) -> tuple[str, str]:
    """One value of the flag, ``<setting>=<value>``, taken apart. Raises ValueError for what can not be."""
    name, equals, text = value.partition("=")
    if not equals:
        raise ValueError("expected <setting>=<value>")
    metrics_config([(name, text)])
    return name, text


metrics_setting.metavar = "SETTING=VALUE"  # type: ignore[attr-defined]


def metrics_config(settings: Iterable[tuple[str, str]]) -> MetricsConfig:
    """What all given settings come to; the last one of a name wins. Raises ValueError."""
    config = MetricsConfig()
    for name, text in settings:
        if name in _BOOLEANS:
            changed: dict[str, Any] = {name: _boolean(name, text)}
            config = replace(config, **changed)
        elif name == _QUANTILES:
            config = replace(config, summary_quantiles=_quantiles(text))
        else:
            raise ValueError(f"expected one of {', '.join((*_BOOLEANS, _QUANTILES))} as the setting")
    return config


def first_response_bounds(metrics: MetricsConfig, model: Mapping[str, Any]) -> tuple[float, ...]:
    """The upper bounds, in milliseconds, of the histogram of first responses that a model has; none: it has none.

    ``model`` is a configuration in Triton's JSON form; its ``model_metrics`` may choose other bounds than the default.
    """
    decoupled = model.get("model_transaction_policy", {}).get("decoupled", False)
    if not (metrics.histogram_latencies and decoupled):
        return ()
    bounds = _FIRST_RESPONSE_BOUNDS
    for control in model.get("model_metrics", {}).get("metric_control", ()):
        if control["metric_identifier"]["family"] == _FIRST_RESPONSE:
            bounds = tuple(control["histogram_options"]["buckets"])
    return bounds


def foreign_families(model: Mapping[str, Any]) -> list[str]:
    """Families that ``model_metrics`` of a configuration names and that can not be chosen anything for."""
    controls = model.get("model_metrics", {}).get("metric_control", ())
    named = [control["metric_identifier"]["family"] for control in controls]
    return [family for family in named if family != _FIRST_RESPONSE]


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(f"expected true or false for {name}")
    return text.lower() == "true"


def _quantiles(text: str) -> tuple[tuple[float, float], ...]:
    """``0.5:0.05,0.99:0.001``. Double quotes around it, as in Triton's examples, are no part of it."""
    return tuple(_quantile(pair) for pair in text.strip('"').split(","))


def _quantile(pair: str) -> tuple[float, float]:
    left, colon, right = pair.partition(":")
    try:
        quantile, error = float(left), float(right)
    except ValueError:
        quantile = error = math.nan
    if not colon or not 0 <= quantile <= 1 or not 0 < error <= 1:
        raise ValueError(f"expected <quantile>:<error>, with a quantile from 0 to 1 and an error above 0, got '{pair}'")
    return quantile, error
