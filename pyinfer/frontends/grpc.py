# SPDX-License-Identifier: Apache-2.0
"""gRPC connections: the core speaks HTTP/2 and ModelInfer, this is the skin around it and the control RPCs.

It does NOT see ModelInfer: its messages never reach Python.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pyinfer._core import GrpcConnection
from pyinfer.config.messages import message
from pyinfer.errors import InvalidArgument, PyinferError
from pyinfer.frontends.endpoints import ENDPOINTS, Answer, Arguments, Endpoint
from pyinfer.frontends.stream import STALL_TICKS, Connection, Stream
from pyinfer.service import Service

__all__ = ["GrpcListener", "GrpcProtocol"]

_log = logging.getLogger(__name__)

#: seconds for a new connection to say anything
_PREFACE_TICKS = 20

_ENDPOINTS = {endpoint.grpc_path: endpoint for endpoint in ENDPOINTS if endpoint.answer is not Answer.INFER}
_PATHS = tuple(_ENDPOINTS)


class _Failure(Exception):
    """A control RPC that is answered with an error of code ``code``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class GrpcListener:
    """What the connections of the gRPC port share. Calling it makes the protocol of a new connection."""

    def __init__(
        self, stream: Stream, service: Service, *, max_message_size: int = 2147483647, tls: bool = False
    ) -> None:
        self.stream = stream
        self.service = service
        self.max_message_size = max_message_size
        self.tls = tls

    def __call__(self) -> GrpcProtocol:
        return GrpcProtocol(self)


class GrpcProtocol(Connection):
    """One HTTP/2 connection speaking gRPC."""

    __slots__ = ("_listener", "_seen", "_since", "_unsent", "_unsent_since")

    core: GrpcConnection

    def __init__(self, listener: GrpcListener) -> None:
        super().__init__(listener.stream)
        self._listener = listener
        self.core = GrpcConnection(
            listener.stream.mailbox, self.id, paths=_PATHS, max_message_size=listener.max_message_size
        )
        self._since = listener.stream.tick
        self._seen = False  # the peer has sent something
        self._unsent = 0  # what flow control held back at the last sweep that saw it change
        self._unsent_since = listener.stream.tick

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._listener.tls:
            tls = transport.get_extra_info("ssl_object")
            if tls is None or tls.selected_alpn_protocol() != "h2":
                self.abort()

    def accept(self) -> None:
        self.stream.touch()  # our SETTINGS go out

    def refuse_connection(self) -> None:
        self.transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.core.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        self._seen = True
        if self.core.received(nbytes):
            for call, path, request in self.core.take_calls():
                self._serve(call, _ENDPOINTS[path], request)
        self.stream.touch()

    def eof_received(self) -> bool:
        return False  # a gRPC client that sends no more does not read either

    def drain(self) -> None:
        self.core.drain()

    def sweep(self, tick: int) -> None:
        super().sweep(tick)
        unsent = self.core.unsent()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, tick
        elif tick - self._unsent_since > STALL_TICKS:
            self.abort()
        if not self._seen and tick - self._since > _PREFACE_TICKS:
            self.transport.close()

    def _serve(self, call: int, endpoint: Endpoint, request: bytes) -> None:
        service = self._listener.service
        if not endpoint.blocks(service):
            self._answer(call, _perform(service, endpoint, request))
            return
        results: list[bytes | _Failure] = []

        def work() -> None:
            results.append(_perform(service, endpoint, request))

        def done() -> None:
            self._answer(call, results[0] if results else _Failure("INTERNAL", "internal error"))

        self.stream.offload_call(work, done)

    def _answer(self, call: int, result: bytes | _Failure) -> None:
        if isinstance(result, _Failure):
            self.core.fail(call, result.code, str(result))
        else:
            self.core.respond(call, result)


def _perform(service: Service, endpoint: Endpoint, request: bytes) -> bytes | _Failure:
    """The serialized response message of a control RPC. Never raises."""
    from google.protobuf.json_format import ParseDict

    _log.debug("gRPC request: %s", endpoint.rpc)
    try:
        value = endpoint.handle(service, _arguments(endpoint, request))
        response = message(endpoint.response_message)()
        ParseDict(value, response)
        return response.SerializeToString()
    except PyinferError as error:
        return _Failure(error.code, str(error))
    except Exception:
        _log.exception("%s failed", endpoint.rpc)
        return _Failure("INTERNAL", "internal error")


_REGION_MEMBERS = ("key", "offset", "byte_size", "raw_handle", "device_id")


def _arguments(endpoint: Endpoint, request: bytes) -> Arguments:
    from google.protobuf.message import DecodeError

    kind = message(endpoint.request_message)
    try:
        parsed: Any = kind.FromString(request)
    except DecodeError:
        raise InvalidArgument(f"failed to parse the {endpoint.rpc} request message") from None
    names = kind.DESCRIPTOR.fields_by_name
    return Arguments(
        model=parsed.model_name if "model_name" in names else parsed.name if "name" in names else "",
        version=parsed.version if "version" in names else "",
        repository=parsed.repository_name if "repository_name" in names else "",
        region=parsed.name if "name" in names else "",
        ready=parsed.ready if "ready" in names else False,
        members={name: getattr(parsed, name) for name in _REGION_MEMBERS if name in names},
        parameters={key: _parameter(key, value) for key, value in parsed.parameters.items()}
        if "parameters" in names
        else {},
        settings={key: _setting(value) for key, value in parsed.settings.items()} if "settings" in names else {},
    )


def _parameter(key: str, value: Any) -> bool | int | str | bytes:
    choice = value.WhichOneof("parameter_choice")
    if choice is None:
        raise InvalidArgument(f"the parameter '{key}' has no value")
    chosen: bool | int | str | bytes = getattr(value, choice)
    return chosen


def _setting(value: Any) -> bool | int | str | list[str]:
    if "value" in value.DESCRIPTOR.fields_by_name:
        return list(value.value)
    choice = value.WhichOneof("parameter_choice")
    chosen: bool | int | str | list[str] = [] if choice is None else getattr(value, choice)
    return chosen
