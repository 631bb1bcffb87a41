# SPDX-License-Identifier: Apache-2.0
"""What the servers count: statistics and metrics after requests that are known."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from differential.case import Answer, Call, Case, Http
from differential.corpus.build import call, get, grpc_infer, json_infer, tensor

__all__ = ["counts", "metrics"]


def _infer(rows: int, columns: int = 1) -> Http:
    return json_infer("counted", [tensor("INPUT0", "FP32", [rows, columns], [1] * (rows * columns))])


def _succeeded(count: int) -> Callable[[Answer], bool]:
    """Whether statistics say that ``count`` requests were answered: they may lag behind the last answer."""

    def reached(answer: Answer) -> bool:
        stats = answer.get("json", answer.get("message", {}))["model_stats"][0]
        return int(stats.get("inference_stats", {}).get("success", {}).get("count", 0)) >= count

    return reached


def counts() -> Iterable[Case]:
    """Statistics before, between and after good and refused requests."""
    asked: tuple[tuple[str, Http | Call], ...] = (
        ("counted", get("/v2/models/counted/stats")),
        ("its version", get("/v2/models/counted/versions/1/stats")),
        ("over gRPC", call("ModelStatistics", name="counted")),
        ("its version over gRPC", call("ModelStatistics", name="counted", version="1")),
    )
    steps: tuple[tuple[str, int, tuple[Http | Call, ...]], ...] = (
        ("at first", 0, ()),
        ("one row", 1, (_infer(1),)),
        ("more rows", 3, (_infer(2), _infer(2), _infer(8))),
        ("refused", 0, (_infer(9), json_infer("counted", []))),
        ("over gRPC", 1, (grpc_infer("counted", [("INPUT0", "FP32", [3, 1])], [bytes(12)]),)),
    )
    total = 0
    for step, good, requests in steps:
        total += good
        yield from (Case(f"{step}: request {number}", request) for number, request in enumerate(requests))
        yield from (Case(f"{step}: {name}", request, _succeeded(total)) for name, request in asked)


def metrics() -> Iterable[Case]:
    yield Case("metrics", Http("GET", "/metrics", port="metrics"))
    yield Case("another path", Http("GET", "/other", port="metrics"))
    yield Case("another verb", Http("POST", "/metrics", port="metrics"))
