# SPDX-License-Identifier: Apache-2.0
"""Metrics of models, step by step: what tritonserver 2.51 answers to the same steps, in its words.

Asked once and kept, because that server does not survive all of these steps every time. The one difference: names of
the server's own families are refused here.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest

from pyinfer.backends.python import utils as pb_utils


def _failed(what: str, why: str) -> str:
    return f"{what}: Failed to process the request for model '{threading.current_thread().name}', message: {why}"


#: steps and what comes of each: None, a value, or the text of an error
PLANS: dict[str, list[tuple[list[Any], Any]]] = {
    "counter": [
        (["family", "f", "c_total", "counts", "COUNTER"], None),
        (["metric", "m", "f", {"a": "1"}], None),
        (["value", "m"], 0.0),
        (["increment", "m", 2], None),
        (["increment", "m", 0.5], None),
        (["value", "m"], 2.5),
        (
            ["increment", "m", -1],
            _failed(
                "Failed to increment metric value",
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by non-negative values.",
            ),
        ),
        (["value", "m"], 2.5),
        (
            ["set", "m", 5],
            _failed("Failed to set metric value", "TRITONSERVER_METRIC_KIND_COUNTER does not support Set"),
        ),
        (["value", "m"], 2.5),
        (
            ["observe", "m", 5],
            _failed("Failed to observe metric value", "TRITONSERVER_METRIC_KIND_COUNTER does not support Observe"),
        ),
    ],
    "gauge": [
        (["family", "f", "g", "is", "GAUGE"], None),
        (["metric", "m", "f", {}], None),
        (["set", "m", -2.5], None),
        (["value", "m"], -2.5),
        (["increment", "m", 3], None),
        (["increment", "m", -10], None),
        (["value", "m"], -9.5),
        (
            ["observe", "m", 1],
            _failed("Failed to observe metric value", "TRITONSERVER_METRIC_KIND_GAUGE does not support Observe"),
        ),
    ],
    "histogram": [
        (["family", "f", "h", "spreads", "HISTOGRAM"], None),
        (["metric", "m", "f", {"a": "1"}, [1, 2.5, 10]], None),
        (["observe", "m", 2], None),
        (
            ["value", "m"],
            _failed("Failed to get metric value", "TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Value"),
        ),
    ],
    "histogram, other steps": [
        (["family", "f", "h2", "spreads", "HISTOGRAM"], None),
        (["metric", "m", "f", {"a": "1"}, [1, 2.5, 10]], None),
        (
            ["increment", "m", 1],
            _failed(
                "Failed to increment metric value", "TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Increment"
            ),
        ),
        (
            ["set", "m", 1],
            _failed("Failed to set metric value", "TRITONSERVER_METRIC_KIND_HISTOGRAM does not support Set"),
        ),
    ],
    "histogram without buckets": [
        (["family", "f", "h3", "spreads", "HISTOGRAM"], None),
        (["metric", "none", "f", {"a": "2"}], "Failed to create metric. Missing required buckets."),
    ],
    "buckets": [
        (["family", "f", "h4", "spreads", "HISTOGRAM"], None),
        (
            ["metric", "unsorted", "f", {"a": "3"}, [3, 1]],
            _failed("Error when creating Metric", "Bucket Boundaries must be strictly sorted"),
        ),
        (
            ["metric", "twice", "f", {"a": "5"}, [1, 1]],
            _failed("Error when creating Metric", "Bucket Boundaries must be strictly sorted"),
        ),
        (["metric", "empty", "f", {"a": "4"}, []], None),
    ],
    "buckets of a counter": [
        (["family", "f", "cb", "counts", "COUNTER"], None),
        (["metric", "m", "f", {}, [1, 2]], "Failed to create metric. Unexpected buckets found."),
    ],
    "the same labels twice": [
        (["family", "f", "twice", "counts", "COUNTER"], None),
        (["metric", "m", "f", {"a": "1"}], None),
        (["increment", "m", 1], None),
        (["metric", "n", "f", {"a": "1"}], None),
        (["increment", "n", 1], None),
        (["value", "m"], 2.0),
        (["value", "n"], 2.0),
    ],
    "the same family twice": [
        (["family", "f", "family", "counts", "COUNTER"], None),
        (["family", "g", "family", "counts", "COUNTER"], None),
        (["metric", "m", "f", {"a": "1"}], None),
        (["metric", "n", "g", {"a": "1"}], None),
        (["increment", "m", 1], None),
        (["value", "n"], 1.0),
        (["family", "text", "family", "other text", "COUNTER"], None),
        (
            ["family", "kind", "family", "counts", "GAUGE"],
            _failed("Error when creating MetricFamily", "Family name already exists with different type"),
        ),
    ],
    "names": [
        (["family", "f", "", "x", "COUNTER"], _failed("Error when creating MetricFamily", "Invalid metric name")),
        (
            ["family", "f", "with space", "x", "COUNTER"],
            _failed("Error when creating MetricFamily", "Invalid metric name"),
        ),
        (["family", "f", "9", "x", "COUNTER"], _failed("Error when creating MetricFamily", "Invalid metric name")),
    ],
    "a name of the server": [
        (
            ["family", "f", "nv_inference_count", "x", "COUNTER"],
            _failed("Error when creating MetricFamily", "names that begin with nv_ or pyinfer_ are the server's own"),
        ),
    ],
    "labels": [
        (["family", "f", "labels", "x", "COUNTER"], None),
        (["metric", "m", "f", {"": "1"}], _failed("Error when creating Metric", "Invalid label name")),
    ],
    "more labels": [
        (["family", "f", "labels2", "x", "COUNTER"], None),
        (["metric", "m", "f", {"with space": "1"}], _failed("Error when creating Metric", "Invalid label name")),
        (["metric", "m", "f", {"le": "1"}], None),
        (
            ["metric", "m", "f", {"a": 1}],
            _failed("Error when creating Metric", "attempt to access JSON non-string as string"),
        ),
        (["metric", "m", "f", [1]], "Failed to create metric. Labels must be a dictionary."),
    ],
    "values": [
        (["family", "f", "values", "x", "GAUGE"], None),
        (["metric", "m", "f", {}], None),
        (["set", "m", True], None),
        (["value", "m"], 1.0),
    ],
}


def take(kept: dict[str, Any], step: str, key: str, *rest: Any) -> Any:
    if step == "family":
        name, text, kind = rest
        kept[key] = pb_utils.MetricFamily(name=name, description=text, kind=getattr(pb_utils.MetricFamily, kind))
        return None
    if step == "metric":
        family, labels, *buckets = rest
        kept[key] = kept[family].Metric(labels=labels, **({"buckets": buckets[0]} if buckets else {}))
        return None
    return getattr(kept[key], step)(*rest)


@pytest.mark.parametrize("name", PLANS)
def test_steps_come_out_as_in_triton(name: str) -> None:
    kept: dict[str, Any] = {}
    for step, expected in PLANS[name]:
        try:
            seen = take(kept, *step)
        except pb_utils.TritonModelException as error:
            seen = str(error)
        assert seen == expected, step
