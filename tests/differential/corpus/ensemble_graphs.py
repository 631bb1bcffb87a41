# SPDX-License-Identifier: Apache-2.0
"""Ensembles in one another, with a tensor that several steps read and with optional inputs; those that can not serve."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import get, grpc_infer, json_infer, post, tensor

__all__ = ["graphs", "loads"]

_A, _B = tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])
_PAIR = [("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])]
_BROKEN = (
    "unknown_step", "unknown_version", "unknown_input", "unknown_output", "unmapped", "larger", "other_type",
    "other_shape", "circle", "two_decoupled",
)  # fmt: skip


def graphs() -> Iterable[Case]:
    """Answers, and requests that the ensemble refuses."""
    for model in ("twice", "nested", "fork"):
        yield Case(f"{model}", json_infer(model, [_A, _B], id="seven"))
        yield Case(f"{model} over gRPC", grpc_infer(model, _PAIR, [struct.pack("<2i", 5, 7), struct.pack("<2i", 1, 2)]))
        rows = [tensor(name, "INT32", [3, 2], [1, 2, 3, 4, 5, 6]) for name in "AB"]
        yield Case(f"{model}, three rows", json_infer(model, rows))
        yield Case(f"{model}, an input is missing", json_infer(model, [_A]))
        yield Case(f"{model}, another shape", json_infer(model, [_A, tensor("B", "INT32", [1, 3], [1, 2, 3])]))
        for names in (["SUM"], ["DIFFERENCE"], ["DIFFERENCE", "SUM"]):
            yield Case(f"{model}, {names}", json_infer(model, [_A, _B], outputs=[{"name": name} for name in names]))
        classes = [{"name": name, "parameters": {"classification": 1}} for name in ("SUM", "DIFFERENCE")]
        yield Case(f"{model}, a class", json_infer(model, [_A, _B], outputs=classes))
    for names in ("A", "AB", "AC", "ABC", ""):
        given = [tensor(name, "FP32", [1, 1], [1]) for name in names]
        yield Case(f"optional inputs {names}", json_infer("optionals", given))


def loads() -> Iterable[Case]:
    """What is said of a graph that can not serve; what an ensemble does without a step."""
    for name in _BROKEN:
        yield Case(f"load {name}", post(f"/v2/repository/models/{name}/load"))
        yield Case(f"{name} is not ready", get(f"/v2/models/{name}/ready"))
    one = [tensor("A", "FP32", [1, 1], [1])]
    yield Case("unload a step", post("/v2/repository/models/optional/unload"))
    yield Case("its ensemble is not ready", get("/v2/models/optionals/ready"))
    yield Case("and serves nothing", json_infer("optionals", one))
    yield Case("load the ensemble", post("/v2/repository/models/optionals/load"))
    yield Case("both serve", json_infer("optionals", one))
