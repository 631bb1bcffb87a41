# SPDX-License-Identifier: Apache-2.0
"""gRPC connections: the core speaks HTTP/2 and inference, this is the skin around it and the control RPCs.

It does NOT see ModelInfer or ModelStreamInfer: their messages never reach Python.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pyinfer._core import GrpcConnection, GrpcOptions
from pyinfer.config.messages import message
from pyinfer.config.restrictions import NO_RESTRICTIONS, Restrictions
from pyinfer.errors import InvalidArgument, PyinferError
from pyinfer.frontends.endpoints import RPCS, Answer, Arguments, Endpoint
from pyinfer.frontends.forwarding import make_forwarding
from pyinfer.frontends.health import HealthBoard, HealthWatch
from pyinfer.frontends.reflection import Reflection
from pyinfer.frontends.replies import Conversation, Reply
from pyinfer.frontends.stream import STALL_TICKS, Connection, Stream
from pyinfer.service import Service

__all__ = ["GrpcListener", "GrpcProtocol", "GrpcSettings"]

_log = logging.getLogger(__name__)

#: what the core may say to what was received
_HAS_EVENTS, _NEW_TARGET = 1, 2
#: seconds for a new connection to say anything
_PREFACE_TICKS = 20

_UNARY = {endpoint.grpc_path: endpoint for endpoint in RPCS if endpoint.answer not in (Answer.INFER, Answer.STREAM)}
_STREAMING = tuple(endpoint.grpc_path for endpoint in RPCS if endpoint.answer is Answer.STREAM)


@dataclass(frozen=True)
class GrpcSettings:
    """What the operator chose for the gRPC port; the defaults are Triton's."""

    max_message_size: int = 2147483647
    #: in which a message must make progress
    message_seconds: float = 30
    restrictions: Restrictions = field(default_factory=lambda: NO_RESTRICTIONS)
    #: headers that become request parameters; empty for none
    header_forward_pattern: str = ""
    #: of inference responses: none, low, medium or high
    response_compression: str = "none"
    #: the arguments of :meth:`GrpcOptions.set_keepalive`
    keepalive: Mapping[str, Any] = field(default_factory=dict)

    def options(self) -> GrpcOptions:
        """Raises InvalidArgument where the pattern is not one."""
        options = GrpcOptions(
            unary=tuple(_UNARY),
            streaming=_STREAMING,
            restricted={
                endpoint.grpc_path: self.restrictions[endpoint.category]
                for endpoint in RPCS
                if endpoint.category in self.restrictions
            },
            max_message_size=self.max_message_size,
            message_timeout_s=self.message_seconds,
            response_compression=self.response_compression,
            forwarding=make_forwarding("grpc-header-forward-pattern", self.header_forward_pattern),
        )
        options.set_keepalive(**self.keepalive)
        return options


class _Failure(Exception):
    """A control RPC that is answered with an error of code ``code``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class GrpcListener:
    """What the connections of the gRPC port share. Calling it makes the protocol of a new connection."""

    def __init__(self, stream: Stream, service: Service, settings: GrpcSettings, *, tls: bool = False) -> None:
        """Raises InvalidArgument where a setting can not be used."""
        self.stream = stream
        self.service = service
        self.options = settings.options()
        self.tls = tls
        self.health = HealthBoard(stream, service)
        #: path of an RPC that streams -> what serves one call of it
        self.conversations: dict[str, Callable[[Reply], Conversation]] = {
            "/grpc.health.v1.Health/Watch": partial(HealthWatch, self.health),
            **{
                f"/{package}.ServerReflection/ServerReflectionInfo": partial(Reflection, package)
                for package in ("grpc.reflection.v1", "grpc.reflection.v1alpha")
            },
        }

    def __call__(self) -> GrpcProtocol:
        return GrpcProtocol(self)


class _Reply:
    """The answering side of a call that streams."""

    def __init__(self, connection: GrpcProtocol, call: int) -> None:
        self._connection, self._call = connection, call

    def send(self, message: bytes) -> None:
        self._connection.core.send(self._call, message)
        self._connection.stream.touch()

    def finish(self) -> None:
        self._connection.end_conversation(self._call)
        self._connection.core.finish(self._call)

    def fail(self, code: str, text: str) -> None:
        self._connection.end_conversation(self._call)
        self._connection.core.fail(self._call, code, text)


class GrpcProtocol(Connection):
    """One HTTP/2 connection speaking gRPC."""

    __slots__ = ("_conversations", "_listener", "_seen", "_since", "_target", "_unsent", "_unsent_since")

    core: GrpcConnection

    def __init__(self, listener: GrpcListener) -> None:
        super().__init__(listener.stream)
        self._listener = listener
        self.core = GrpcConnection(listener.stream.mailbox, self.id, listener.options)
        self._conversations: dict[int, Conversation] = {}  # by call
        self._since = listener.stream.tick
        self._target = listener.stream.read_buffer  # of the next read
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
        return self._target

    def buffer_updated(self, nbytes: int) -> None:
        self._seen = True
        if then := self.core.received(nbytes):
            if then & _NEW_TARGET:
                self._target = self.core.target()
            if then & _HAS_EVENTS:
                self.take_events()
        self.stream.touch()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        for conversation in self._conversations.values():
            conversation.on_gone()
        self._conversations.clear()

    def eof_received(self) -> bool:
        return False  # a gRPC client that sends no more does not read either

    def drain(self) -> None:
        self._listener.health.stop()
        self.core.drain()

    def end_conversation(self, call: int) -> None:
        self._conversations.pop(call, None)

    def sweep(self, tick: int) -> None:
        super().sweep(tick)
        self._listener.health.sweep(tick)
        unsent = self.core.unsent()
        if not unsent or unsent != self._unsent:
            self._unsent, self._unsent_since = unsent, tick
        elif tick - self._unsent_since > STALL_TICKS:
            self.abort()
        if not self._seen and tick - self._since > _PREFACE_TICKS:
            self.transport.close()

    def take_events(self) -> None:
        for call, event, path, request in self.core.take_events():
            endpoint = _UNARY.get(path)
            if endpoint is not None:
                self._serve(call, endpoint, request)
            else:
                self._converse(call, event, path, request)

    def _converse(self, call: int, event: str, path: str, request: bytes) -> None:
        conversation = self._conversations.get(call)
        if event == "gone":
            if conversation is not None:
                del self._conversations[call]
                conversation.on_gone()
            return
        if conversation is None:
            conversation = self._listener.conversations[path](_Reply(self, call))
            self._conversations[call] = conversation
        if event == "message":
            conversation.on_message(request)
        else:
            conversation.on_end()

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
        if endpoint.answer is Answer.WRITTEN:
            written: bytes = value.message()
            return written
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
        parameters={key: _parameter(value) for key, value in parsed.parameters.items()}
        if "parameters" in names
        else {},
        settings={key: _setting(value) for key, value in parsed.settings.items()} if "settings" in names else {},
    )


def _parameter(value: Any) -> bool | int | str | bytes | None:
    choice = value.WhichOneof("parameter_choice")
    # Without a value: who reads the parameter says which type it should have.
    chosen: bool | int | str | bytes | None = None if choice is None else getattr(value, choice)
    return chosen


def _setting(value: Any) -> bool | int | str | list[str]:
    if "value" in value.DESCRIPTOR.fields_by_name:
        return list(value.value)
    choice = value.WhichOneof("parameter_choice")
    chosen: bool | int | str | list[str] = [] if choice is None else getattr(value, choice)
    return chosen
