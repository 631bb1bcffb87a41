# SPDX-License-Identifier: Apache-2.0
"""Iterative sequences, and what a model was warmed up with."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import json_infer, tensor

__all__ = ["ordered_rounds", "rounds", "warmed"]


def rounds() -> Iterable[Case]:
    """Requests that are executed several times; each case is a request of its own, whatever its id."""
    for wanted in (1, 2, 3, 20):
        yield Case(f"{wanted} rounds", json_infer("rounds", [tensor("ROUNDS", "INT32", [1, 1], [wanted])]))
    several = tensor("ROUNDS", "INT32", [2, 1], [1, 2])
    yield Case("two rows", json_infer("rounds", [several]))
    yield Case("wrong shape", json_infer("rounds", [tensor("ROUNDS", "INT32", [1], [1])]))


def ordered_rounds() -> Iterable[Case]:
    """Answers in order: after a second round Triton's model never answers anybody any more, so that case is the last."""
    for wanted in (1, 2):
        request = json_infer("rounds_in_order", [tensor("ROUNDS", "INT32", [1, 1], [wanted])])
        yield Case(f"{wanted} rounds", request, lane="rounds_in_order")


def warmed() -> Iterable[Case]:
    """The first request is told what came before it."""
    yield Case("first", json_infer("warmed", [tensor("INPUT", "INT32", [1, 2], [7, 8])]), lane="warmed")
