# SPDX-License-Identifier: Apache-2.0
"""Metrics that models make, without a server. What Triton answers is in test_model_metrics_steps.py."""

from __future__ import annotations

import gc
import math
import threading

import pytest

from pyinfer import _core
from pyinfer.backends.python import utils as pb_utils
from pyinfer.backends.python.metric_registry import MetricKind, MetricMemory, families, register


def page() -> list[str]:
    return _core.metrics_page([], families()).decode().splitlines()


def test_the_lines_of_each_kind() -> None:
    counter = pb_utils.MetricFamily(name="u_total", description="counts", kind=pb_utils.MetricFamily.COUNTER)
    gauge = pb_utils.MetricFamily("u_now", "is", pb_utils.MetricFamily.GAUGE)
    histogram = pb_utils.MetricFamily("u_spread", "spreads", pb_utils.MetricFamily.HISTOGRAM)
    counted = counter.Metric(labels={"b": "2", "a": 'x"y'})
    now = gauge.Metric()
    spread = histogram.Metric(labels={"a": "1"}, buckets=[0.5, 10])
    counted.increment(2)
    counted.increment(0.5)
    now.set(-3)
    for value in (0.5, 0.6, 11, math.nan):
        spread.observe(value)
    assert page() == [
        "# HELP u_total counts",
        "# TYPE u_total counter",
        'u_total{a="x\\"y",b="2"} 2.5',
        "# HELP u_now is",
        "# TYPE u_now gauge",
        "u_now -3",
        "# HELP u_spread spreads",
        "# TYPE u_spread histogram",
        'u_spread_bucket{a="1",le="0.5"} 1',
        'u_spread_bucket{a="1",le="10"} 2',
        'u_spread_bucket{a="1",le="+Inf"} 4',
        'u_spread_sum{a="1"} NaN',
        'u_spread_count{a="1"} 4',
    ]


def test_what_nobody_holds_is_gone() -> None:
    family = pb_utils.MetricFamily("u_gone", "goes", pb_utils.MetricFamily.GAUGE)
    one, other = family.Metric({"a": "1"}), family.Metric({"a": "2"})
    one.set(1)
    del one
    gc.collect()
    assert page()[2:] == ['u_gone{a="2"} 0']
    del family
    gc.collect()
    with pytest.raises(pb_utils.TritonModelException, match="'MetricFamily' has been deleted"):
        other.value()
    del other
    gc.collect()
    assert page() == []
    again = pb_utils.MetricFamily("u_gone", "is another", pb_utils.MetricFamily.COUNTER)
    assert again.Metric({"a": "1"}).value() == 0


def test_threads_lose_no_count() -> None:
    family = pb_utils.MetricFamily("u_threads", "", pb_utils.MetricFamily.COUNTER)
    metrics = [family.Metric({"a": "1"}) for _ in range(4)]

    def count(metric: pb_utils.Metric) -> None:
        for _ in range(5000):
            metric.increment(1)

    threads = [threading.Thread(target=count, args=(metric,)) for metric in metrics]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics[0].value() == 20000


@pytest.mark.parametrize("value", ["1", None, [1]])
def test_values_that_are_no_numbers(value: object) -> None:
    family = pb_utils.MetricFamily("u_values", "", pb_utils.MetricFamily.GAUGE)
    metric = family.Metric()
    with pytest.raises(TypeError, match="must be a number"):
        metric.set(value)  # type: ignore[arg-type]


def test_no_value_of_a_model_breaks_the_page() -> None:
    """The same metric of two models, whose memories hold whatever they wrote."""
    family = register("u_sums", "adds up", MetricKind.COUNTER)
    parts = [family.metric({}, [], MetricMemory()) for _ in range(2)]
    for values, shown in (((math.inf, -math.inf), "NaN"), ((1e308, 1e308), "+Inf")):
        for part, value in zip(parts, values, strict=True):
            part.values.set(part.first, value)
        assert page()[2:] == [f"u_sums {shown}"]


def test_texts_that_the_page_can_not_show() -> None:
    with pytest.raises(pb_utils.TritonModelException, match="must be text that UTF-8 has"):
        pb_utils.MetricFamily("u_text", "\ud800", pb_utils.MetricFamily.COUNTER)
    family = pb_utils.MetricFamily("u_label", "labelled", pb_utils.MetricFamily.COUNTER)
    with pytest.raises(pb_utils.TritonModelException, match="non-string"):
        family.Metric({"a": "\udfff"})
