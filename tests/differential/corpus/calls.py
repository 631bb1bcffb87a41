# SPDX-License-Identifier: Apache-2.0
"""Models that call models: what comes back of each kind of call, and of each mistake."""

from __future__ import annotations

import json
from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import json_infer, tensor

__all__ = ["calls"]

FLOATS = {"model": "floats", "input": ["INPUT0", "float32", [1.5, -2.0], [1, 2]], "outputs": ["OUTPUT0"]}
REPEAT = {"model": "repeat", "input": ["IN", "int32", [4, 5, 6], [3]], "outputs": ["OUT", "INDEX"]}

FAIL = {"model": "fail", "input": ["INPUT", "float32", [1, 2], [1, 2]], "outputs": ["OUTPUT"]}


def calls() -> Iterable[Case]:
    """One call of the model ``caller`` each; it says what it got."""
    plans = {
        "one": FLOATS,
        "awaited": {**FLOATS, "how": "async"},
        "five at once": {**FLOATS, "how": "async", "times": 5},
        "one after the other": {**FLOATS, "times": 3},
        "outputs not asked for": {**FLOATS, "outputs": []},
        "an ensemble": {**FLOATS, "model": "chain", "input": ["IN", "float32", [1, 2], [1, 2]], "outputs": ["OUT"]},
        "a version": {**FLOATS, "options": {"model_version": 1}},
        "responses": {**REPEAT, "how": "decoupled"},
        "responses awaited": {**REPEAT, "how": "async decoupled"},
        "no responses": {**REPEAT, "input": ["IN", "int32", [], [0]], "how": "decoupled"},
        "responses of a model that has one": {**FLOATS, "how": "decoupled"},
        **{
            f"the callee: {mode}": {**FAIL, "options": {"parameters": {"mode": mode}}}
            for mode in ("raise", "raise model exception", "error", "code INVALID_ARG", "code CANCELLED", "empty text")
        },
        "an error among responses": {**REPEAT, "how": "decoupled", "options": {"parameters": {"mode": "error at 1"}}},
        "parameters and an id": {
            "model": "inspect",
            "input": ["INPUT", "float32", [1], [1]],
            "outputs": ["REQUEST"],
            "options": {"request_id": "mine", "parameters": {"text": "x", "flag": True, "number": 7}},
        },
        # mistakes
        "unknown model": {**FLOATS, "model": "nobody"},
        "unknown version": {**FLOATS, "options": {"model_version": 7}},
        "unknown output": {**FLOATS, "outputs": ["OUTPUT9"]},
        "unknown input": {**FLOATS, "input": ["INPUT9", "float32", [1], [1, 1]]},
        "wrong type": {**FLOATS, "input": ["INPUT0", "int32", [1], [1, 1]]},
        "wrong rank": {**FLOATS, "input": ["INPUT0", "float32", [1], [1, 1, 1]]},
        "too many rows": {**FLOATS, "input": ["INPUT0", "float32", [0] * 9, [9, 1]]},
        "many responses unasked": REPEAT,
        "model without a name": {**FLOATS, "model": ""},
        "wrong parameters": {**FLOATS, "options": {"parameters": {"a": [1]}}},
    }
    for name, plan in plans.items():
        yield Case(name, json_infer("caller", [tensor("PLAN", "BYTES", [1], [json.dumps(plan)])]))
