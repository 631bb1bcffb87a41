# SPDX-License-Identifier: Apache-2.0
"""``grpc.health.v1.Health/Watch``: clients that are told of each change of the server's readiness. Loop thread.

Readiness depends on models that answer for themselves, so it is asked for: when a client comes, once a second while
there are clients, and when the server stops. It does NOT serve ``Check``, which is an endpoint like others.
"""

from __future__ import annotations

from pyinfer.config.messages import message
from pyinfer.errors import PyinferError
from pyinfer.frontends.endpoints import RPCS
from pyinfer.frontends.replies import Reply
from pyinfer.frontends.stream import Stream
from pyinfer.service import Service

__all__ = ["HealthBoard", "HealthWatch"]

#: the services whose health is the server's; "" is the server itself
_SERVICES = frozenset(("", *(endpoint.grpc_service for endpoint in RPCS)))


class HealthBoard:
    """All watching clients of a listener, and what each was told last."""

    def __init__(self, stream: Stream, service: Service) -> None:
        self._stream, self._service = stream, service
        self._told: dict[HealthWatch, str] = {}
        self._tick = -1
        self._is_asking = False

    def add(self, watch: HealthWatch) -> None:
        self._told[watch] = ""
        self.ask()

    def remove(self, watch: HealthWatch) -> None:
        self._told.pop(watch, None)

    def sweep(self, tick: int) -> None:
        """Ask once in a tick, whoever calls."""
        if self._told and tick != self._tick:
            self._tick = tick
            self.ask()

    def ask(self) -> None:
        if not self._service.asks_models():
            self._tell(self._status())
        elif not self._is_asking:
            self._is_asking = True
            found: list[str] = []
            self._stream.offload_call(lambda: found.append(self._status()), lambda: self._asked(found))

    def stop(self) -> None:
        self._tell("NOT_SERVING")

    def _asked(self, found: list[str]) -> None:
        self._is_asking = False
        if not self._stream.draining:
            self._tell(found[0] if found else "NOT_SERVING")

    def _status(self) -> str:
        try:
            return "SERVING" if self._service.ready() else "NOT_SERVING"
        except PyinferError:
            return "NOT_SERVING"  # the server stops

    def _tell(self, status: str) -> None:
        for watch, told in list(self._told.items()):
            if told != status:
                self._told[watch] = status
                watch.tell(status)


class HealthWatch:
    """One call of Watch."""

    def __init__(self, board: HealthBoard, reply: Reply) -> None:
        self._board, self._reply = board, reply
        self._has_asked = False

    def on_message(self, request: bytes) -> None:
        from google.protobuf.message import DecodeError

        if self._has_asked:
            self._board.remove(self)
            self._reply.fail("INTERNAL", "Watch takes exactly one message")
            return
        self._has_asked = True
        try:
            asked = message("grpc.health.v1.HealthCheckRequest").FromString(request)
        except DecodeError:
            self._reply.fail("INVALID_ARG", "failed to parse the Watch request message")
            return
        if asked.service in _SERVICES:  # type: ignore[attr-defined]
            self._board.add(self)
        else:
            self.tell("SERVICE_UNKNOWN")  # and no more: no service is added to a server that runs

    def on_end(self) -> None:
        if not self._has_asked:
            self._reply.fail("INTERNAL", "Watch takes exactly one message")

    def on_gone(self) -> None:
        self._board.remove(self)

    def tell(self, status: str) -> None:
        kind = message("grpc.health.v1.HealthCheckResponse")
        self._reply.send(kind(status=status).SerializeToString())
