# SPDX-License-Identifier: Apache-2.0
"""The rate limiter: whose turn it is, which limits can not be met, and which names clash."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import grpc_infer, infer_request, json_infer, post, stream, tensor

__all__ = ["clashes", "too_much", "turns"]

#: the holder has begun when the others are sent, and all of them have come when it is done
_PAUSE_MS, _BUSY_MS = 700, 2000


def _one(model: str, name: str, milliseconds: int = 0) -> bytes:
    given = [("MS", "INT32", [1, 1])], [struct.pack("<i", milliseconds)]
    return infer_request(model, *given, id=name)


def turns() -> Iterable[Case]:
    """All of these models need the one resource, but for ``free``; ``often`` has priority 2, ``seldom`` 3."""
    busy = [("MS", "INT32", [1, 1])], [struct.pack("<i", _BUSY_MS)]
    pause = [("MS", "INT32", [1, 1])], [struct.pack("<i", _PAUSE_MS)]
    yield Case("holder", grpc_infer("holder", *busy, parameters={"first": True}), lane="holder")
    yield Case("free", grpc_infer("free", *pause, parameters={"wait": True}), lane="others")
    often, seldom = (
        [_one(model, f"{model} {i}") for i in range(count)] for model, count in (("often", 10), ("seldom", 8))
    )
    yield Case("many wait", stream(*often, *seldom, interleaved=True), lane="others")


def clashes() -> Iterable[Case]:
    """A name is that of a global resource, or of one for each device, as long as a model needs it."""
    one = [tensor("INPUT0", "FP32", [1, 1], [1])]
    for verb, name in (
        ("load", "device"),
        ("load", "global"),
        ("load", "both"),
        ("load", "last"),
        ("unload", "device"),
    ):
        yield Case(f"{verb} {name}", post(f"/v2/repository/models/{name}/{verb}"))
    yield Case("still serves nothing", json_infer("global", one))
    yield Case(
        "load global at last",
        post("/v2/repository/models/global/load"),
        until=lambda answer: answer["status"] == 200,
    )
    yield Case("serves", json_infer("global", one))
    yield Case("load device again", post("/v2/repository/models/device/load"))


def too_much() -> Iterable[Case]:
    """With flags that say how much there is: R is 5, and 2 on device 0; G is 3, everywhere; there is nothing else."""
    one = [tensor("INPUT0", "FP32", [1, 1], [1])]
    for name in ("fits", "none", "r3", "g3", "g4", "unnamed", "groups", "small_case"):
        yield Case(f"load {name}", post(f"/v2/repository/models/{name}/load"))
        yield Case(f"{name} serves", json_infer(name, one))
