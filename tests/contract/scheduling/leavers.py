# SPDX-License-Identifier: Apache-2.0
"""Clients that ask for something and then give up, each in a way of its own."""

from __future__ import annotations

import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2 as pb

from contract.http.raw import Raw, post
from faults.client import document, tensor
from faults.h2raw import DATA, END_STREAM, H2, frame, grpc_headers
from pyinfer.testing import RunningServer

__all__ = ["CallLeaver", "HttpLeaver", "Leaver", "RawLeaver", "StreamLeaver"]


class Leaver(ABC):
    """A client that asks, and then gives up."""

    @abstractmethod
    def leave(self) -> None:
        """Give up, in whatever way. Where it is the time that is up, wait for that."""

    def is_over(self) -> bool:
        """Whether its time was up before it wanted to leave."""
        return False


class HttpLeaver(Leaver):
    """Over HTTP (a stream of events of the model ``streams``); its connection breaks."""

    def __init__(self, server: RunningServer, model: str, number: int, sequence: dict[str, Any]) -> None:
        self._raw = Raw(server.http_port)
        if model == "streams":
            self._raw.send(post(f"/v2/models/{model}/generate_stream", b'{"INPUT0": [%d, 1]}' % number))
        else:
            body = document(tensor((1, 2), [number, 1], datatype="INT32"), parameters=sequence)
            self._raw.send(post(f"/v2/models/{model}/infer", body))

    def leave(self) -> None:
        _reset(self._raw.socket)


class CallLeaver(Leaver):
    """With one call of its own over gRPC, which it cancels."""

    def __init__(self, server: RunningServer, request: pb.ModelInferRequest) -> None:
        self._channel = grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)])
        method = self._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        self._call = method.future(request.SerializeToString(), timeout=120)

    def leave(self) -> None:
        self._call.cancel()
        self._channel.close()


class StreamLeaver(Leaver):
    """With a stream over gRPC, which it cancels."""

    def __init__(self, server: RunningServer, request: pb.ModelInferRequest) -> None:
        self._channel = grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)])
        self._left = threading.Event()
        method = self._channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        self._call = method(self._requests(request.SerializeToString()), timeout=120)

    def _requests(self, request: bytes) -> Iterator[bytes]:
        yield request
        self._left.wait(120)

    def leave(self) -> None:
        self._call.cancel()
        self._left.set()
        self._channel.close()


class RawLeaver(Leaver):
    """Over gRPC. Without ``seconds`` its connection breaks; with them the server has to end the call in time."""

    def __init__(self, server: RunningServer, request: pb.ModelInferRequest, rpc: str, seconds: float) -> None:
        self._connection = H2(server.grpc_port)
        timeout = [("grpc-timeout", f"{int(1000 * seconds)}m")] if seconds else []
        self._connection.headers(1, grpc_headers(rpc, *timeout), end=False)
        body = request.SerializeToString()
        end = END_STREAM if rpc == "ModelInfer" else 0
        self._connection.send(frame(DATA, end, 1, b"\0" + len(body).to_bytes(4, "big") + body))
        self._status: int | None = None
        self._waiting = threading.Thread(target=self._wait) if seconds else None
        if self._waiting:
            self._waiting.start()

    def _wait(self) -> None:
        self._status = self._connection.reply(1).status

    def is_over(self) -> bool:
        return self._status is not None

    def leave(self) -> None:
        if self._waiting is not None:
            self._waiting.join()
            assert self._status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        _reset(self._connection.socket)


def _reset(connection: socket.socket) -> None:
    """End a connection with RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
