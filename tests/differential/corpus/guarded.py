# SPDX-License-Identifier: Apache-2.0
"""A server with restricted interfaces that forwards headers, in the mode in which models can not be loaded."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Call, Case, Http
from differential.corpus.build import call, get, infer_request, json_infer, post, stream, tensor

__all__ = ["FLAGS", "grpc_headers", "grpc_restricted", "http_headers", "http_restricted", "no_control"]

_PATTERN = "(forward|x-|seq|prio|time|triton_|admin|ops).*"

FLAGS = (
    "--http-restricted-api=metadata,model-config:admin=secret",
    "--http-restricted-api=statistics,logging,trace:ops=other",
    "--grpc-restricted-protocol=metadata,model-config:admin=secret",
    "--grpc-restricted-protocol=statistics,logging,trace:ops=other",
    f"--http-header-forward-pattern={_PATTERN}",
    f"--grpc-header-forward-pattern={_PATTERN}",
)

_KEYS: tuple[tuple[tuple[str, str], ...], ...] = (
    (), (("admin", "secret"),), (("admin", "wrong"),), (("admin", ""),), (("ops", "other"),), (("ADMIN", "secret"),), (("admin", "SECRET"),), (("admin", "secret "),), (("admin", "secret"), ("ops", "other")),
    (("triton-grpc-protocol-admin", "secret"),), (("other", "secret"),),
)  # fmt: skip


def http_restricted() -> Iterable[Case]:
    targets = (
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/plain",
        "/v2/models/plain/ready",
        "/v2/models/plain/config",
        "/v2/models/plain/stats",
        "/v2/models/unknown/stats",
        "/v2/logging",
        "/v2/trace/setting",
        "/v2/models/unknown",
        "/v2/models/unknown/config",
        "/v2/unknown",
        "/v2/models/plain/versions/1",
        "/v2/models/plain/versions/1/config",
        "/v2/systemsharedmemory/status",
    )
    for target in targets:
        for keys in _KEYS:
            yield Case(f"GET {target} with {keys}", get(target, *keys))
    for target in ("/v2", "/v2/models/plain/config", "/v2/logging"):
        for keys in _KEYS[:2]:
            yield Case(f"PUT {target} with {keys}", get(target, *keys, method="PUT"))
    for keys in _KEYS[:2]:
        yield Case(f"infer with {keys}", json_infer("plain", [tensor("INPUT0", "FP32", [1, 1], [1])], *keys))


def _infer(*headers: tuple[str, str]) -> Http:
    return post("/v2/models/inspect/infer", {"inputs": [tensor("INPUT", "FP32", [1], [1])]}, *headers)


_HEADERS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("forward-me", "1"),), (("Forward-Me", "1"),), (("FORWARD", "a b"),), (("x-a", "1"), ("x-b", "2")), (("x-a", "1"), ("x-a", "2")), (("x-", ""),), (("not-this", "1"),), (("y-x-z", "1"),), (("a-forward", "1"),), (("x-long", "x" * 500),),
    (("x-number", "5"),), (("x-utf8", "é"),), (("forward_me", "1"),), (("sequence_id", "5"),), (("priority", "1"),), (("triton_x", "1"),), (("x-triton_y", "1"),), (("content-type", "x-json"),),
    (("Timeout", "5"),), (("sequence_start", "true"),), (("sequence_end", "x"),), (("TRITON_X", "1"),), (("admin", "secret"),), (("admin", "x"), ("x-a", "1")), (("ops", "other"),),
)  # fmt: skip


def http_headers() -> Iterable[Case]:
    """Headers that become parameters; the model shows them."""
    for headers in _HEADERS:
        yield Case(f"{headers!s:.60}", _infer(*headers))


def grpc_restricted() -> Iterable[Case]:
    calls = (
        call("ServerMetadata"),
        call("ServerLive"),
        call("ServerReady"),
        call("Check", "grpc.health.v1.HealthCheckRequest"),
        call("ModelMetadata", name="plain"),
        call("ModelReady", name="plain"),
        call("ModelConfig", name="plain"),
        call("ModelStatistics", name="plain"),
        call("LogSettings"),
        call("TraceSetting"),
        call("ModelMetadata", name="unknown"),
        call("SystemSharedMemoryStatus"),
        call("RepositoryIndex"),
    )
    for number, request in enumerate(calls):
        for keys in _KEYS:
            prefixed = tuple((f"triton-grpc-protocol-{name.lower()}", value) for name, value in keys)
            yield Case(f"{number} {request.rpc} with {keys}, prefixed", Call(request.rpc, request.request, prefixed))
            yield Case(
                f"{number} {request.rpc} with {keys}",
                Call(request.rpc, request.request, tuple((name.lower(), value) for name, value in keys)),
            )


def grpc_headers() -> Iterable[Case]:
    data = infer_request("inspect", [("INPUT", "FP32", [1])], [bytes(4)])
    for headers in _HEADERS:
        if all(value.isascii() for _, value in headers):
            metadata = tuple((name.lower(), value) for name, value in headers if name != "content-type")
            yield Case(f"{headers!s:.60}", Call("ModelInfer", data, metadata))
            yield Case(f"{headers!s:.60} on a stream", stream(data, metadata=metadata))


def no_control() -> Iterable[Case]:
    """Loading and unloading in mode ``none``."""
    for model in ("inspect", "unknown"):
        for action in ("load", "unload"):
            yield Case(f"{action} {model}", post(f"/v2/repository/models/{model}/{action}"))
            body = '{"parameters":{}}'
            yield Case(f"{action} {model} with a body", post(f"/v2/repository/models/{model}/{action}", body))
    for rpc in ("RepositoryModelLoad", "RepositoryModelUnload"):
        for model in ("inspect", "unknown", ""):
            yield Case(f"{rpc} {model!r}", call(rpc, model_name=model))
    yield Case("index", post("/v2/repository/index"))
    yield Case("index over gRPC", call("RepositoryIndex"))
