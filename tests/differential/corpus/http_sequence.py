# SPDX-License-Identifier: Apache-2.0
"""Sequences over HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Case, Http
from differential.corpus.build import json_infer, tensor

__all__ = ["sequences"]


def _part(model: str, value: int, key: object, *flags: str, **more: object) -> Http:
    parameters = {"sequence_id": key, **{f"sequence_{flag}": True for flag in flags}}
    return json_infer(model, [tensor("INPUT", "INT32", [1, 1], [value])], parameters=parameters, **more)


def sequences() -> Iterable[Case]:
    for model, key in (
        ("sequence", 1),
        ("sequence", 2**63),
        ("sequence", 2**64 - 1),
        ("sequence_oldest", 7),
        ("sequence_oldest", 2**31),
    ):
        name = f"{model} {key}"
        yield Case(f"{name}: no start", _part(model, 1, key))
        yield Case(f"{name}: start", _part(model, 1, key, "start"))
        yield Case(f"{name}: middle", _part(model, 2, key))
        yield Case(f"{name}: middle with id", _part(model, 3, key, id="a"))
        yield Case(f"{name}: end", _part(model, 4, key, "end"))
        yield Case(f"{name}: after the end", _part(model, 5, key))
        yield Case(f"{name}: start and end", _part(model, 6, key, "start", "end"))
        yield Case(f"{name}: start again", _part(model, 7, key, "start"))
        yield Case(f"{name}: start while it runs", _part(model, 8, key, "start"))
        yield Case(f"{name}: end again", _part(model, 9, key, "end"))
    yield Case("id 0", _part("sequence", 1, 0, "start"))
    yield Case("empty id", _part("sequence_oldest", 1, "", "start"))
    yield Case("no parameters", json_infer("sequence", [tensor("INPUT", "INT32", [1, 1], [1])]))
    batch = [tensor("INPUT", "INT32", [2, 1], [1, 2])]
    yield Case("batch of 2", json_infer("sequence", batch, parameters={"sequence_id": 5, "sequence_start": True}))
    control = [tensor("INPUT", "INT32", [1, 1], [1]), tensor("START", "INT32", [1, 1], [1])]
    yield Case(
        "a control input of the client",
        json_infer("sequence", control, parameters={"sequence_id": 6, "sequence_start": True}),
    )
