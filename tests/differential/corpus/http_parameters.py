# SPDX-License-Identifier: Apache-2.0
"""HTTP inference: parameters of requests and of outputs, classification, what models say about errors."""

from __future__ import annotations

import json
from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import json_infer, post, tensor

__all__ = ["classification", "model_errors", "outputs", "parameters", "tensor_parameters"]

_ONE = tensor("INPUT", "FP32", [1], [1])
_SCORES = tensor("SCORES", "FP32", [1, 4], [0.5, 3.25, -1, 3])
#: not BYTES: this version of the peer divides by the size of an element, which is 0, and ends
_KINDS = ("FP32", "INT32", "UINT8", "FP64", "INT8", "INT64", "UINT64", "BOOL", "FP16")

#: JSON texts of values, so that numbers are written as meant
VALUES = (
    "0", "1", "-1", "1.0", "1.5", "1e2", "true", "false", "null", '""', '"1"', '"text"', "[]", "[1]", "{}", '{"a":1}',
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809", "18446744073709551615", "18446744073709551616",
    "4294967296", "2147483648", "1e308", "0.1", r'"\u0000"', '"é"', '"' + "x" * 1000 + '"',
)  # fmt: skip

#: names with a meaning, names that are kept by the model, and others
KEYS = (
    "sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output", "keep", "keep me", "",
    "triton_x", "triton_", "Triton_x", "triton", "triton_enable_empty_final_response", "headers", "é", "classification", "binary_data_size",
)  # fmt: skip


def parameters() -> Iterable[Case]:
    """Each name with each kind of value; the model shows what it was given."""
    for key in KEYS:
        for value in VALUES:
            body = f'{{"inputs":[{json.dumps(_ONE)}],"parameters":{{{json.dumps(key)}:{value}}}}}'
            yield Case(f"{key}: {value[:40]}", post("/v2/models/inspect/infer", body))
    several = {"keep a": 1, "keep b": True, "keep c": "x", "keep d": 2.5, "priority": 1, "timeout": 5}
    yield Case("several", json_infer("inspect", [_ONE], parameters=several))
    many = {f"keep {index}": index for index in range(200)}
    yield Case("two hundred", json_infer("inspect", [_ONE], parameters=many))
    for names in (["SIZE"], ["REQUEST"], ["SIZE", "REQUEST"], ["SIZE", "X"]):
        yield Case(f"asked for {names}", json_infer("inspect", [_ONE], id="me", outputs=[{"name": n} for n in names]))


def outputs() -> Iterable[Case]:
    """Kinds of outputs: JSON or binary, for the request and for each output."""
    a, b = tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])
    flags = ({}, {"binary_data": True}, {"binary_data": False})
    for whole in ({}, {"binary_data_output": True}, {"binary_data_output": False}):
        yield Case(f"{whole}, none listed", json_infer("pair", [a, b], parameters=whole))
        for first in flags:
            yield Case(
                f"{whole}, SUM {first}",
                json_infer("pair", [a, b], parameters=whole, outputs=[{"name": "SUM", "parameters": first}]),
            )
            for second in flags:
                listed = [{"name": "SUM", "parameters": first}, {"name": "DIFFERENCE", "parameters": second}]
                yield Case(
                    f"{whole}, SUM {first}, DIFFERENCE {second}",
                    json_infer("pair", [a, b], parameters=whole, outputs=listed),
                )
    for value in VALUES[:22]:
        body = f'{{"inputs":[{json.dumps(a)},{json.dumps(b)}],"outputs":[{{"name":"SUM","parameters":{{"binary_data":{value}}}}}]}}'
        yield Case(f"binary_data: {value}", post("/v2/models/pair/infer", body))
    for kind in ("FP16", "BF16", "BYTES", "FP32", "BOOL"):
        for binary in (True, False):
            entry = tensor("INPUT0", kind, [1, 0], [])
            chosen = [{"name": "OUTPUT0", "parameters": {"binary_data": binary}}]
            yield Case(f"empty {kind} binary {binary}", json_infer(kind.lower(), [entry], outputs=chosen))


def tensor_parameters() -> Iterable[Case]:
    """Parameters of inputs and outputs."""
    a, b = tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])
    for key in ("x", "shared_memory", "classification", "triton_x", "binary_data"):
        for value in ("1", "true", '"a"', "null", "1.5", "{}"):
            entry = json.dumps(_ONE)[:-1] + f',"parameters":{{{json.dumps(key)}:{value}}}}}'
            yield Case(f"of an input {key}: {value}", post("/v2/models/inspect/infer", f'{{"inputs":[{entry}]}}'))
    for key in ("x", "triton_x", "shared_memory_offset", "shared_memory_byte_size"):
        yield Case(
            f"output parameter {key}", json_infer("pair", [a, b], outputs=[{"name": "SUM", "parameters": {key: 1}}])
        )


def classification() -> Iterable[Case]:
    """Classes of outputs of each data type, with and without batches."""
    for kind in _KINDS:
        for k in (1, 2, 4, 5):
            yield Case(f"{kind} {k}", json_infer("scores", [_SCORES], outputs=[_classes(kind, k)]))
    two = tensor("SCORES", "FP32", [2, 4], [0.5, 3.25, -1, 3, 9, 8, 7, 6.5])
    for kind in _KINDS:
        yield Case(f"batch {kind}", json_infer("scores", [two], outputs=[_classes(kind, 3)]))
        listed = [_classes(kind, 1), {"name": "FP32"}] if kind != "FP32" else [_classes(kind, 1)]
        yield Case(f"beside {kind}", json_infer("scores", [two], outputs=listed))
    flat = tensor("SCORES", "FP32", [4], [0.5, 3.25, -1, 3])
    for k in (1, 3, 4, 100, 1000000, 1000001, 2**31, 2**32, 2**32 + 1):
        yield Case(f"flat {k}", json_infer("scores_flat", [flat], outputs=[_classes("FP32", k)]))
    for value in VALUES[:24]:
        body = (
            f'{{"inputs":[{json.dumps(flat)}],"outputs":[{{"name":"FP32","parameters":{{"classification":{value}}}}}]}}'
        )
        yield Case(f"classification: {value}", post("/v2/models/scores_flat/infer", body))
    for binary in (True, False):
        chosen = {"name": "FP32", "parameters": {"classification": 2, "binary_data": binary}}
        yield Case(f"binary {binary}", json_infer("scores_flat", [flat], outputs=[chosen]))
    yield Case(
        "binary_data_output",
        json_infer("scores_flat", [flat], outputs=[_classes("FP32", 2)], parameters={"binary_data_output": True}),
    )
    for values in (
        [0, 0, 0, 0],
        [1e-7, 2e-7, 3e-7, 4e-7],
        [1e30, 2e30, 3e30, 3.4e38],
        [1e6, 123456.789, 0.1, 1 / 3],
        [-1, -2, -3, -4],
        [2, 2, 1, 1],
    ):
        entry = tensor("SCORES", "FP32", [4], values)
        yield Case(f"values {values}", json_infer("scores_flat", [entry], outputs=[_classes("FP32", 1)]))


def _classes(name: str, k: int) -> dict[str, object]:
    return {"name": name, "parameters": {"classification": k}}


def model_errors() -> Iterable[Case]:
    """What a Python model does wrong, or says is wrong."""
    for mode in MODES:
        entry = tensor("INPUT", "FP32", [1, 2], [1, 2])
        yield Case(mode, json_infer("fail", [entry], parameters={"mode": mode}))
        yield Case(
            f"{mode}, with id and output",
            json_infer("fail", [entry], id="7", outputs=[{"name": "OUTPUT"}], parameters={"mode": mode}),
        )
    yield Case("decoupled", json_infer("repeat", [tensor("IN", "INT32", [1], [1])]))
    yield Case("decoupled with a bad body", post("/v2/models/repeat/infer", "{"))


MODES = (
    "", "raise", "raise model exception", "error", "code UNKNOWN", "code INTERNAL", "code NOT_FOUND", "code INVALID_ARG",
    "code UNAVAILABLE", "code UNSUPPORTED", "code ALREADY_EXISTS", "code CANCELLED", "error beside outputs", "empty text", "no outputs",
    "unknown output", "other type", "other shape",
)  # fmt: skip
