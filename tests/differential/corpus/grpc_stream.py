# SPDX-License-Identifier: Apache-2.0
"""ModelStreamInfer: answers and errors in a stream, decoupled models, sequences, errors that end the stream."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import product

from differential.case import Case, StreamCall
from differential.corpus.build import infer_request, stream

__all__ = ["decoupled", "errors", "order", "sequences"]

_INPUT = [("INPUT0", "FP32", [1, 1])]
_AS_STATUS = (("triton_grpc_error", "true"),)


def _fp32(value: float, **more: object) -> bytes:
    return infer_request("fp32", _INPUT, [struct.pack("<f", value)], **more)  # type: ignore[arg-type]


def _repeat(*values: int, mode: str = "", empty_final: bool | None = None, **more: object) -> bytes:
    """A request that is answered once for each of ``values``."""
    parameters: dict[str, object] = {"mode": mode} if mode else {}
    if empty_final is not None:
        parameters["triton_enable_empty_final_response"] = empty_final
    data = struct.pack(f"<{len(values)}i", *values)
    return infer_request("repeat", [("IN", "INT32", [len(values)])], [data], parameters=parameters, **more)  # type: ignore[arg-type]


#: requests that are refused, each for a reason of its own
_BAD: dict[str, bytes] = {
    "unknown model": infer_request("unknown", _INPUT, [bytes(4)], id="e"),
    "unknown version": infer_request("fp32", _INPUT, [bytes(4)], id="e", model_version="9"),
    "bad version": infer_request("fp32", _INPUT, [bytes(4)], id="e", model_version="x"),
    "bad shape": infer_request("fixed", [("INPUT0", "FP32", [1, 3])], [bytes(12)], id="e"),
    "bad size": infer_request("fp32", _INPUT, [bytes(3)], id="e"),
    "no data": infer_request("fp32", _INPUT, id="e"),
    "no inputs": infer_request("fp32", [], id="e"),
    "unknown input": infer_request("fp32", [("X", "FP32", [1, 1])], [bytes(4)], id="e"),
    "unknown output": infer_request("fp32", _INPUT, [bytes(4)], id="e", outputs=["X"]),
    "bad parameter": infer_request("fp32", _INPUT, [bytes(4)], id="e", parameters={"sequence_start": 1}),
    "reserved parameter": infer_request("fp32", _INPUT, [bytes(4)], id="e", parameters={"triton_x": 1}),
    "without id": infer_request("unknown", _INPUT, [bytes(4)]),
    "model raises": infer_request(
        "fail", [("INPUT", "FP32", [1, 2])], [bytes(8)], id="e", parameters={"mode": "raise"}
    ),
    "model says no": infer_request(
        "fail", [("INPUT", "FP32", [1, 2])], [bytes(8)], id="e", parameters={"mode": "code NOT_FOUND"}
    ),
    "decoupled model raises": _repeat(1, mode="raise", id="e"),
    "decoupled model, bad input": infer_request("repeat", [("X", "INT32", [1])], [bytes(4)], id="e"),
}


def errors() -> Iterable[Case]:
    """One refused request, alone and between good ones, as a message and as the status of the stream."""
    for name, bad in _BAD.items():
        # Not with another model on one stream: this version of the peer ends when a decoupled one is beside it.
        good = [_repeat(n, id=i) if "decoupled" in name else _fp32(n, id=i) for n, i in ((1, "a"), (2, "g"))]
        yield Case(f"{name}", stream(bad))
        yield Case(f"{name}, then a good one", stream(bad, good[1], interleaved="decoupled" in name))
        yield Case(f"{name}, between good ones", stream(good[0], bad, good[1], interleaved="decoupled" in name))
        if "model" not in name:  # it may end after such an error, too
            yield Case(f"{name}, as status", stream(bad, metadata=_AS_STATUS))
    for value in ("true", "True", "TRUE", "1", "false", "", "yes"):
        yield Case(
            f"triton_grpc_error: {value}", stream(_BAD["unknown model"], metadata=(("triton_grpc_error", value),))
        )
    yield Case("no message of the RPC", StreamCall((b"\xff",)))
    yield Case("an empty message", StreamCall((b"",)))


def order() -> Iterable[Case]:
    """Models that are not decoupled answer in the order of the requests."""
    yield Case("nothing", stream())
    yield Case("one", stream(_fp32(1)))
    yield Case("one with id", stream(_fp32(1, id="a")))
    for count in (2, 3, 10, 40):
        yield Case(f"{count} of one model", stream(*(_fp32(n, id=str(n)) for n in range(count))))
    models = [
        infer_request(name, [("INPUT0", kind, [1, 1])], [bytes(size)], id=name)
        for name, kind, size in (("fp32", "FP32", 4), ("int64", "INT64", 8), ("bool", "BOOL", 1), ("fp16", "FP16", 2))
    ]
    yield Case("four models", stream(*models))
    yield Case("four models, twice", stream(*models, *models))
    yield Case("the same id", stream(_fp32(1, id="a"), _fp32(2, id="a")))
    yield Case("outputs", stream(_fp32(1, outputs=["OUTPUT0"])))
    for value in (True, False):
        yield Case(
            f"empty final response {value}",
            stream(_fp32(1, id="a", parameters={"triton_enable_empty_final_response": value})),
        )
    yield Case(
        "versions",
        stream(
            *(
                infer_request("versions_all", [("INPUT", "FP32", [1])], [bytes(4)], model_version=v, id=v)
                for v in ("", "1", "2", "10")
            )
        ),
    )


def decoupled() -> Iterable[Case]:
    """Models that answer as often as they like."""
    for count, empty_final, mode in product(
        (0, 1, 2, 5), (None, True, False), ("", "final with the last", "error at 1")
    ):
        name = f"{count} responses, empty final {empty_final}{', ' + mode if mode else ''}"
        yield Case(name, stream(_repeat(*range(count), empty_final=empty_final, mode=mode, id="d")))
    yield Case("without id", stream(_repeat(1, 2)))
    yield Case("a list of outputs", stream(_repeat(1, 2, outputs=["INDEX"])))
    yield Case(
        "several requests",
        stream(_repeat(1, 2, id="a"), _repeat(3, id="b"), _repeat(id="c"), _repeat(4, 5, 6, id="d"), interleaved=True),
    )
    yield Case(
        "several requests with empty finals",
        stream(*(_repeat(*range(n), empty_final=True, id=str(n)) for n in range(4)), interleaved=True),
    )
    yield Case("version in the request", stream(_repeat(1, empty_final=True, id="a", model_version="1")))


def _part(model: str, value: int, key: object, *, start: bool = False, end: bool = False, **more: object) -> bytes:
    parameters: dict[str, object] = {"sequence_id": key}
    if start:
        parameters["sequence_start"] = True
    if end:
        parameters["sequence_end"] = True
    return infer_request(model, [("INPUT", "INT32", [1, 1])], [struct.pack("<i", value)], parameters=parameters, **more)  # type: ignore[arg-type]


def sequences() -> Iterable[Case]:
    """Sequences on one stream, and over single calls."""
    for model, key in (("sequence", 1), ("sequence", 2**40), ("sequence_oldest", 7)):
        parts = [_part(model, 1, key, start=True), _part(model, 2, key), _part(model, 3, key, end=True)]
        yield Case(f"{model} {key}: three", stream(*parts))
        yield Case(f"{model} {key}: one", stream(_part(model, 5, key, start=True, end=True)))
        yield Case(f"{model} {key}: no start", stream(_part(model, 5, key)))
        yield Case(f"{model} {key}: started twice", stream(parts[0], _part(model, 7, key, start=True), parts[2]))
        yield Case(f"{model} {key}: after the end", stream(*parts, _part(model, 1, key)))
    yield from _faults()


def _faults() -> Iterator[Case]:
    yield Case("no id", stream(_part("sequence", 1, 0, start=True)))
    yield Case("empty id", stream(_part("sequence_oldest", 1, "", start=True)))
    yield Case("long text", stream(_part("sequence_oldest", 1, "x" * 129, start=True)))
    batch = infer_request(
        "sequence", [("INPUT", "INT32", [2, 1])], [bytes(8)], parameters={"sequence_id": 3, "sequence_start": True}
    )
    yield Case("batch of 2", stream(batch))
    yield Case("no parameters", stream(infer_request("sequence", [("INPUT", "INT32", [1, 1])], [bytes(4)])))
    yield Case(
        "a control input of the client",
        stream(
            infer_request(
                "sequence",
                [("INPUT", "INT32", [1, 1]), ("START", "INT32", [1, 1])],
                [bytes(4)] * 2,
                parameters={"sequence_id": 4, "sequence_start": True},
            )
        ),
    )
