# SPDX-License-Identifier: Apache-2.0
"""What the examples of Triton's Python backend are asked."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

from differential.case import Case
from differential.corpus.build import array, bytes_tensor, get, grpc_infer, infer_request, json_infer, stream, tensor

__all__ = ["examples"]

_ONES = [tensor("INPUT0", "FP32", [4], [1, 2, 3, 4]), tensor("INPUT1", "FP32", [4], [4, 3, 2, 1.5])]
_PAIRS = [("INPUT0", "FP32", [4]), ("INPUT1", "FP32", [4])]
_RAW = [array([1, 2, 3, 4], "<f4"), array([4, 3, 2, 1.5], "<f4")]


def examples() -> Iterable[Case]:
    yield from _sums()
    yield from _calls()
    yield from _decoupled()
    yield from _others()


def _sums() -> Iterator[Case]:
    for model in ("add_sub", "nobatch_auto_complete"):
        yield Case(f"{model} over HTTP", json_infer(model, _ONES))
        yield Case(f"{model} over gRPC", grpc_infer(model, _PAIRS, _RAW))
        yield Case(f"{model}: one output", json_infer(model, _ONES, outputs=[{"name": "OUTPUT1"}]))
        yield Case(f"{model}: wrong shape", json_infer(model, [tensor("INPUT0", "FP32", [3], [1, 2, 3]), _ONES[1]]))
    rows = [tensor(f"INPUT{place}", "FP32", [2, 4], [float(place)] * 8) for place in (0, 1)]
    yield Case("batch_auto_complete: two rows", json_infer("batch_auto_complete", rows))
    rows = [tensor(f"INPUT{place}", "FP32", [5, 4], [float(place)] * 20) for place in (0, 1)]
    yield Case("batch_auto_complete: too many rows", json_infer("batch_auto_complete", rows))
    for model in ("nobatch_auto_complete", "batch_auto_complete"):
        yield Case(f"{model}: metadata", get(f"/v2/models/{model}"))


def _calls() -> Iterator[Case]:
    for name in ("add_sub", "add_sub_too", "nobody"):
        yield Case(
            f"bls_sync asks {name}", json_infer("bls_sync", [tensor("MODEL_NAME", "BYTES", [1], [name]), *_ONES])
        )
    yield Case("bls_async", json_infer("bls_async", _ONES))
    yield Case("bls_async over gRPC", grpc_infer("bls_async", _PAIRS, _RAW))
    for model in ("bls_decoupled_sync", "bls_decoupled_async"):
        for value in (0, 1, 3):
            yield Case(f"{model}: {value}", json_infer(model, [tensor("IN", "INT32", [1], [value])]))


def _repeat(name: str, values: list[int], delay: int = 0, wait: int = 0) -> bytes:
    count = len(values)
    inputs = [("IN", "INT32", [count]), ("DELAY", "UINT32", [count]), ("WAIT", "UINT32", [1])]
    raw = [array(values, "<i4"), array([delay] * count, "<u4"), struct.pack("<I", wait)]
    return infer_request("repeat_int32", inputs, raw, id=name)


def _one(model: str, name: str, values: list[int], shape: list[int] | None = None) -> bytes:
    return infer_request(model, [("IN", "INT32", shape or [len(values)])], [array(values, "<i4")], id=name)


def _decoupled() -> Iterator[Case]:
    yield Case("repeat_int32", stream(_repeat("a", [4, 2, 0, 1])))
    yield Case("repeat_int32: nothing", stream(_repeat("a", [])))
    yield Case(
        "repeat_int32: beside each other",
        stream(_repeat("slow", [1, 2], 50), _repeat("quick", [3]), _repeat("waits", [4], 0, 20), interleaved=True),
    )
    for value in (0, 1, 5):
        yield Case(f"square_int32: {value}", stream(_one("square_int32", "a", [value])))
    yield Case(
        "square_int32: several",
        stream(*(_one("square_int32", f"{value}", [value]) for value in (4, 2, 0, 1)), interleaved=True),
    )
    yield Case("awaits", stream(_one("awaits", "a", [20, 1, 2])))
    yield Case(
        "awaits: beside each other",
        stream(*(_one("awaits", f"{value}", [value, 1]) for value in (60, 30, 1)), interleaved=True),
    )
    for value in (1, 2, 5):
        yield Case(f"generative: {value}", stream(_one("generative", "a", [value], [1, 1])))
    yield Case(
        "generative: several",
        stream(*(_one("generative", f"{value}", [value], [1, 1]) for value in (3, 1, 4)), interleaved=True),
    )


def _others() -> Iterator[Case]:
    for value in (0.25, 2, 100):
        yield Case(f"custom_metrics: {value}", json_infer("custom_metrics", [tensor("IN", "FP32", [1], [value])]))
    yield Case("instance_kind", json_infer("instance_kind", [tensor("IN", "FP32", [1], [0])]))
    picture = b"P6\n2\n2\n255\n" + bytes(range(0, 240, 20))
    raw = [bytes_tensor(picture)]
    yield Case("preprocessing", grpc_infer("preprocessing", [("PICTURE", "BYTES", [1])], raw))
    yield Case("preprocessing in an ensemble", grpc_infer("preprocessed", [("PICTURE", "BYTES", [1])], raw))
    broken = [bytes_tensor(b"GIF\n1\n1\n1\n")]
    yield Case("preprocessing: no picture", grpc_infer("preprocessing", [("PICTURE", "BYTES", [1])], broken))
