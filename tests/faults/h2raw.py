# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 by hand: frames that no client library would send. It does NOT keep a state; the test knows what it sent."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple

import hpack

__all__ = ["H2", "PREFACE", "Ending", "Frame", "Reply", "block", "frame", "grpc_headers", "settings", "window_update"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
ACK = END_STREAM = 1
END_HEADERS, PADDED, PRIORITIZED = 4, 8, 32

Header = tuple[str, str]


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Ending(NamedTuple):
    """How the server ended a stream or the connection: "goaway", "reset" or "closed", and the error code."""

    how: str
    code: int = 0


class Reply(NamedTuple):
    """The answer to one call: its headers and trailers together, and its body."""

    headers: dict[str, str]
    body: bytes

    @property
    def status(self) -> int:
        """gRPC's status; -1 where there is none."""
        return int(self.headers.get("grpc-status", -1))


def frame(kind: int, flags: int, stream: int, payload: bytes = b"", *, length: int | None = None) -> bytes:
    """One frame; ``length`` to declare another length than the payload has."""
    size = len(payload) if length is None else length
    return size.to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


def window_update(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def grpc_headers(rpc: str = "ServerLive", /, *extra: Header, **replaced: str | None) -> list[Header]:
    """The headers of a call; ``replaced`` by name with ``_`` for ``-`` and without colon, None leaves one out."""
    path = rpc if rpc.startswith("/") else f"/inference.GRPCInferenceService/{rpc}"
    plain = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
    plain |= {"te": "trailers", "content-type": "application/grpc"}
    for name, value in replaced.items():
        key = next(key for key in plain if key.lstrip(":") == name.replace("_", "-"))
        if value is None:
            del plain[key]
        else:
            plain[key] = value
    return [*plain.items(), *extra]


def block(headers: Iterable[Header]) -> bytes:
    """A header block that uses no dynamic table, so that blocks may be sent in any order."""
    return hpack.Encoder().encode([(name.encode(), value.encode(), True) for name, value in headers])


class H2:
    """One connection, its settings exchanged."""

    def __init__(
        self, port: int, *, pairs: Iterable[tuple[int, int]] = (), preface: bytes = PREFACE, timeout_s: float = 60
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._decoder = hpack.Decoder(max_header_list_size=1 << 24)
        if preface:
            try:
                self._exchange_settings(preface + settings(*pairs))
            except OSError:
                self.socket.close()
                raise

    def _exchange_settings(self, opening: bytes) -> None:
        """The limits that the server announces hold once they are acknowledged."""
        self.send(opening)
        if next(self.frames(), None) is None:
            raise ConnectionResetError("the server has closed the connection, before its settings")

    def __enter__(self) -> H2:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> H2:
        """Send as much as the server takes: it may have closed the connection already."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)
        return self

    def headers(self, stream: int, headers: Iterable[Header], *, end: bool = True) -> H2:
        return self.send(frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(headers)))

    def frames(self) -> Iterator[Frame]:
        """Frames until the server closes; settings and pings of the server are acknowledged."""
        while True:
            head = self._take(9)
            if len(head) < 9:
                return
            size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
            found = Frame(kind, flags, int.from_bytes(head[5:], "big"), self._take(size))
            if kind in (SETTINGS, PING) and not flags & ACK:
                self.send(frame(kind, ACK, 0, b"" if kind == SETTINGS else found.payload))
            yield found

    def ending(self, stream: int = 0) -> Ending:
        """How the connection, or ``stream``, is ended by the server."""
        for found in self.frames():
            if found.kind == GOAWAY:
                return Ending("goaway", int.from_bytes(found.payload[4:8], "big"))
            if found.kind == RST_STREAM and stream and found.stream == stream:
                return Ending("reset", int.from_bytes(found.payload, "big"))
        return Ending("closed")

    def is_alive(self) -> bool:
        """Whether a ping is answered."""
        self.send(frame(PING, 0, 0, b"is alive"))
        return any(f.kind == PING and f.flags & ACK and f.payload == b"is alive" for f in self.frames())

    def reply(self, stream: int) -> Reply:
        """The whole answer on ``stream``. Windows are not opened: it must be small, or the settings wide."""
        fields: dict[str, str] = {}
        body = b""
        for found in self.frames():
            if found.kind == HEADERS:  # of whatever stream: the decoder must see every block
                decoded = {str(name): str(value) for name, value in self._decoder.decode(found.payload)}
                fields |= decoded if found.stream == stream else {}
            elif found.stream == stream and found.kind == DATA:
                body += found.payload
            elif found.kind == GOAWAY or (found.stream == stream and found.kind == RST_STREAM):
                raise AssertionError(f"no answer but {found}, after {fields}")
            if found.stream == stream and found.kind in (HEADERS, DATA) and found.flags & END_STREAM:
                return Reply(fields, body)
        raise AssertionError(f"closed after {fields}")

    def call(self, stream: int, body: bytes, headers: Iterable[Header] | None = None) -> Reply:
        """One call with this body, gRPC's prefix included."""
        self.headers(stream, headers or grpc_headers(), end=False)
        for start in range(0, len(body), 16384):
            self.send(frame(DATA, 0, stream, body[start : start + 16384]))
        return self.send(frame(DATA, END_STREAM, stream)).reply(stream)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                return b""
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
