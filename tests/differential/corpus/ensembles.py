# SPDX-License-Identifier: Apache-2.0
"""Ensembles of Python models: chains, branches, decoupled steps, steps that fail, and what a request hands to its steps."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from differential.case import Case
from differential.corpus.build import call, get, grpc_infer, infer_request, json_infer, stream, tensor

__all__ = ["ensemble_errors", "ensemble_statistics", "ensemble_streams", "ensemble_views", "ensembles"]

_PAIR = [tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])]
_NAMES = ("chain", "branches", "each", "failing", "seen", "summed")


def ensembles() -> Iterable[Case]:
    for name in _NAMES:
        for tail in ("", "/ready", "/config", "/versions/1", "/versions/2"):
            yield Case(f"{name}{tail}", get(f"/v2/models/{name}{tail}"))
        for rpc in ("ModelReady", "ModelMetadata", "ModelConfig"):
            yield Case(f"{rpc} of {name}", call(rpc, name=name))
    for rows, columns in ((1, 1), (1, 3), (8, 2), (2, 0)):
        data = [float(number) for number in range(rows * columns)]
        inputs = [tensor("IN", "FP32", [rows, columns], data)]
        yield Case(f"chain of {rows}x{columns}", json_infer("chain", inputs, id="a"))
        raw = struct.pack(f"<{len(data)}f", *data)
        yield Case(
            f"chain of {rows}x{columns} over gRPC", grpc_infer("chain", [("IN", "FP32", [rows, columns])], [raw])
        )
    yield Case(
        "chain, binary answer",
        json_infer("chain", [tensor("IN", "FP32", [1, 1], [1])], parameters={"binary_data_output": True}),
    )
    yield Case("all outputs of branches", json_infer("branches", _PAIR, id="b"))
    for names in (("PLUS",), ("MINUS",), ("PLUS", "MINUS"), ("MINUS", "PLUS")):
        outputs = [{"name": name} for name in names]
        yield Case(f"branches, outputs {names}", json_infer("branches", _PAIR, outputs=outputs))
        yield Case(
            f"branches, outputs {names} over gRPC",
            grpc_infer("branches", [("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])], [bytes(8)] * 2, outputs=names),
        )
    for key in (1, 2**40):
        for at, flag in ((1, "start"), (2, ""), (3, "end"), (4, "")):
            parameters = {"sequence_id": key, **({f"sequence_{flag}": True} if flag else {})}
            inputs = [tensor("IN", "INT32", [1, 1], [at])]
            yield Case(f"sequence {key}, {at}", json_infer("summed", inputs, parameters=parameters))


def ensemble_views() -> Iterable[Case]:
    """What a step sees of the request."""
    inputs = [tensor("IN", "FP32", [1], [1])]
    for parameters in (
        {},
        {"text": "a", "number": 3, "truth": True, "float": 1.5},
        {"keep_this": "x"},
        {"priority": 1},
        {"sequence_id": 5},
        {"sequence_id": "text", "sequence_start": True},
    ):
        yield Case(f"seen: {parameters}", json_infer("seen", inputs, parameters=parameters))
        yield Case(f"seen: {parameters} with an id", json_infer("seen", inputs, parameters=parameters, id="an id"))


def ensemble_errors() -> Iterable[Case]:
    """Requests that are refused, and steps that fail."""
    one = tensor("IN", "FP32", [1, 1], [1])
    for name, inputs in {
        "no input": [],
        "unknown input": [tensor("X", "FP32", [1, 1], [1])],
        "input of a step": [tensor("INPUT0", "FP32", [1, 1], [1])],
        "too many": [one, tensor("X", "FP32", [1, 1], [1])],
        "wrong type": [tensor("IN", "INT32", [1, 1], [1])],
        "wrong rank": [tensor("IN", "FP32", [1], [1])],
        "batch of 9": [tensor("IN", "FP32", [9, 1], [1] * 9)],
        "too few elements": [tensor("IN", "FP32", [1, 2], [1])],
    }.items():
        yield Case(name, json_infer("chain", inputs))
    yield Case("unknown output", json_infer("chain", [one], outputs=[{"name": "X"}]))
    yield Case("output of a step", json_infer("chain", [one], outputs=[{"name": "OUTPUT0"}]))
    yield Case("unknown version", grpc_infer("chain", [("IN", "FP32", [1, 1])], [bytes(4)], model_version="2"))
    modes = ("", "raise", "error", "code NOT_FOUND", "code UNAVAILABLE", "code CANCELLED", "empty text")
    for mode in modes:
        parameters = {"mode": mode}
        failing = [tensor("IN", "FP32", [1, 2], [1, 2])]
        yield Case(f"mode {mode!r}", json_infer("failing", failing, parameters=parameters))
        yield Case(f"mode {mode!r} with an id", json_infer("failing", failing, parameters=parameters, id="a"))
        over_grpc = grpc_infer("failing", [("IN", "FP32", [1, 2])], [bytes(8)], parameters=parameters, id="a")
        yield Case(f"mode {mode!r} over gRPC", over_grpc)
    for key in (0, 9):
        inputs = [tensor("IN", "INT32", [1, 1], [1])]
        yield Case(f"sequence {key} without start", json_infer("summed", inputs, parameters={"sequence_id": key}))
    yield Case("no sequence", json_infer("summed", [tensor("IN", "INT32", [1, 1], [1])]))
    yield Case("decoupled over HTTP", json_infer("each", [tensor("IN", "INT32", [1], [1])]))
    yield Case("decoupled as a call", grpc_infer("each", [("IN", "INT32", [1])], [bytes(4)]))


def _each(*values: int, empty_final: bool | None = None, **more: object) -> bytes:
    parameters = {} if empty_final is None else {"triton_enable_empty_final_response": empty_final}
    data = struct.pack(f"<{len(values)}i", *values)
    return infer_request("each", [("IN", "INT32", [len(values)])], [data], parameters=parameters, **more)  # type: ignore[arg-type]


def _chain(value: float, name: str) -> bytes:
    return infer_request("chain", [("IN", "FP32", [1, 1])], [struct.pack("<f", value)], id=name)


def ensemble_streams() -> Iterator[Case]:
    """Steps that answer as often as they like: each answer goes through the steps behind."""
    for count in (0, 1, 2, 5):
        for empty_final in (None, True, False):
            yield Case(
                f"{count} responses, empty final {empty_final}",
                stream(_each(*range(count), empty_final=empty_final, id="a")),
            )
    yield Case("one after another", stream(*(_chain(number, f"{number}") for number in range(5))))
    for mode in ("raise", "code UNAVAILABLE"):
        parameters = {"mode": mode}
        bad = infer_request("failing", [("IN", "FP32", [1, 2])], [bytes(8)], parameters=parameters, id="b")
        yield Case(f"{mode} between good ones", stream(_chain(1, "a"), bad, _chain(2, "c")))
    refused = infer_request("chain", [("IN", "FP32", [1, 1])], [bytes(3)], id="b")
    yield Case("refused between good ones", stream(_chain(1, "a"), refused, _chain(2, "c")))


def ensemble_statistics() -> Iterable[Case]:
    """What an ensemble and its steps count: a step's requests are counted as its own."""
    for number in range(3):
        yield Case(f"{number}", json_infer("counting", [tensor("IN", "FP32", [number + 1, 1], [1] * (number + 1))]))
    for model in ("counting", "counted_step"):
        yield Case(f"statistics of {model}", call("ModelStatistics", name=model), _three)


def _three(answer: dict[str, object]) -> bool:
    (model,) = answer["message"]["model_stats"]  # type: ignore[index]
    return int(model.get("inference_stats", {}).get("success", {}).get("count", 0)) >= 3
