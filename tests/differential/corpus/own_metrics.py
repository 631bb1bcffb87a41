# SPDX-License-Identifier: Apache-2.0
"""Metrics that a model makes: what each step answers, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import json_infer, tensor

__all__ = ["own_metrics"]

PLANS: dict[str, list[list[object]]] = {
    "counter": [
        ["family", "f", "c_total", "counts", "COUNTER"],
        ["metric", "m", "f", {"a": "1"}],
        ["value", "m"],
        ["increment", "m", 2],
        ["increment", "m", 0.5],
        ["value", "m"],
        ["increment", "m", -1],
        ["value", "m"],
        ["set", "m", 5],
        ["value", "m"],
        ["observe", "m", 5],
    ],
    "gauge": [
        ["family", "f", "g", "is", "GAUGE"],
        ["metric", "m", "f", {}],
        ["set", "m", -2.5],
        ["value", "m"],
        ["increment", "m", 3],
        ["increment", "m", -10],
        ["value", "m"],
        ["observe", "m", 1],
    ],
    "histogram": [
        ["family", "f", "h", "spreads", "HISTOGRAM"],
        ["metric", "m", "f", {"a": "1"}, [1, 2.5, 10]],
        ["observe", "m", 2],
        ["value", "m"],
    ],
    "histogram, other steps": [
        ["family", "f", "h2", "spreads", "HISTOGRAM"],
        ["metric", "m", "f", {"a": "1"}, [1, 2.5, 10]],
        ["increment", "m", 1],
        ["set", "m", 1],
    ],
    "histogram without buckets": [
        ["family", "f", "h3", "spreads", "HISTOGRAM"],
        ["metric", "none", "f", {"a": "2"}],
    ],
    "buckets": [
        ["family", "f", "h4", "spreads", "HISTOGRAM"],
        ["metric", "unsorted", "f", {"a": "3"}, [3, 1]],
        ["metric", "twice", "f", {"a": "5"}, [1, 1]],
        ["metric", "empty", "f", {"a": "4"}, []],
    ],
    "buckets of a counter": [
        ["family", "f", "cb", "counts", "COUNTER"],
        ["metric", "m", "f", {}, [1, 2]],
    ],
    "the same labels twice": [
        ["family", "f", "twice", "counts", "COUNTER"],
        ["metric", "m", "f", {"a": "1"}],
        ["increment", "m", 1],
        ["metric", "n", "f", {"a": "1"}],
        ["increment", "n", 1],
        ["value", "m"],
        ["value", "n"],
        ["forget", "m"],
        ["increment", "n", 1],
        ["value", "n"],
    ],
    "the same family twice": [
        ["family", "f", "family", "counts", "COUNTER"],
        ["family", "g", "family", "counts", "COUNTER"],
        ["metric", "m", "f", {"a": "1"}],
        ["metric", "n", "g", {"a": "1"}],
        ["increment", "m", 1],
        ["value", "n"],
        ["family", "text", "family", "other text", "COUNTER"],
        ["family", "kind", "family", "counts", "GAUGE"],
    ],
    "names": [
        ["family", "f", "", "x", "COUNTER"],
        ["family", "f", "with space", "x", "COUNTER"],
        ["family", "f", "9", "x", "COUNTER"],
    ],
    "a name of the server": [["family", "f", "nv_inference_count", "x", "COUNTER"]],
    "labels": [
        ["family", "f", "labels", "x", "COUNTER"],
        ["metric", "m", "f", {"": "1"}],
    ],
    "more labels": [
        ["family", "f", "labels2", "x", "COUNTER"],
        ["metric", "m", "f", {"with space": "1"}],
        ["metric", "m", "f", {"le": "1"}],
        ["metric", "m", "f", {"a": 1}],
        ["metric", "m", "f", [1]],
    ],
    "values": [
        ["family", "f", "values", "x", "GAUGE"],
        ["metric", "m", "f", {}],
        ["set", "m", True],
        ["value", "m"],
    ],
}


def own_metrics() -> Iterable[Case]:
    """A plan each, for the model ``measured``."""
    for name, plan in PLANS.items():
        yield Case(name, json_infer("measured", [tensor("PLAN", "BYTES", [1], [json.dumps(plan)])]), lane="metrics")
