# SPDX-License-Identifier: Apache-2.0
"""Calls over gRPC with grpcio and bytes: the request is what the case has, the response is read with our messages."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import grpc

from differential.case import Answer, Call, StreamCall
from pyinfer.config.messages import message

__all__ = ["GrpcClient", "path_of", "plain"]

_SERVICE = "inference.GRPCInferenceService"
_HEALTH = "grpc.health.v1.Health"
_SIZES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def path_of(rpc: str) -> str:
    """``ModelInfer`` -> its path; a full name, or a path, is kept."""
    if "/" in rpc:
        return rpc
    return f"/{_HEALTH if rpc in {'Check', 'Watch'} else _SERVICE}/{rpc}"


def plain(value: Any) -> Any:
    """A message as dicts, lists and scalars: only the fields that are set, members of a oneof whatever their value."""
    if not hasattr(value, "DESCRIPTOR"):
        if isinstance(value, Mapping):
            return {key: plain(value[key]) for key in value}
        return [plain(entry) for entry in value] if hasattr(value, "append") or hasattr(value, "add") else value
    return {field.name: plain(entry) for field, entry in value.ListFields()}


class GrpcClient:
    """One server, one channel."""

    def __init__(self, address: str, *, timeout_s: float = 20.0) -> None:
        self._channel = grpc.insecure_channel(address, options=_SIZES)
        self._timeout_s = timeout_s

    def close(self) -> None:
        self._channel.close()

    def __enter__(self) -> GrpcClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def call(self, call: Call) -> Answer:
        path = path_of(call.rpc)
        try:
            data = self._channel.unary_unary(path)(call.request, timeout=self._timeout_s, metadata=call.metadata)
        except grpc.RpcError as error:
            return _failure(error)
        package, _, service = path.split("/")[1].rpartition(".")
        kind = "HealthCheck" if service == "Health" else path.split("/")[2]
        return {"status": "OK", "message": plain(message(f"{package}.{kind}Response").FromString(data))}

    def stream(self, call: StreamCall) -> Answer:
        kind = message("ModelStreamInferResponse")
        messages: list[Any] = []
        stream = self._channel.stream_stream(path_of("ModelStreamInfer"))
        answer: Answer = {"status": "OK"}
        try:
            for data in stream(iter(call.requests), timeout=self._timeout_s, metadata=call.metadata):
                messages.append(plain(kind.FromString(data)))  # noqa: PERF401 - what came before an error counts
        except grpc.RpcError as error:
            answer = _failure(error)
        if call.interleaved:
            messages.sort(key=lambda entry: entry.get("infer_response", {}).get("id", ""))
        return {**answer, "messages": messages}


def _failure(error: grpc.RpcError) -> Answer:
    return {"status": error.code().name, "error": error.details()}
