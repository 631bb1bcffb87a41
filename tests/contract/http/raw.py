# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 by hand, for what no client library would send."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any

__all__ = ["Raw", "Response", "post"]

HOST = b"Host: test\r\n"


@dataclass(frozen=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Raw:
    """One connection."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Raw:
        self.socket.sendall(data)
        return self

    def _more(self) -> None:
        data = self.socket.recv(1 << 20)
        assert data, f"the connection ended after {self._buffer!r}"
        self._buffer += data

    def receive_head(self) -> Response:
        """The head of the next response."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        version, status, *_ = lines[0].split(" ")
        assert version == "HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        return Response(int(status), headers, b"")

    def receive(self) -> Response:
        """The next response, chunked or of a declared length."""
        head = self.receive_head()
        if head.headers.get("transfer-encoding") == "chunked":
            return replace(head, body=b"".join(iter(self.chunk, b"")))
        return replace(head, body=self._take(int(head.headers.get("content-length", 0))))

    def chunk(self) -> bytes:
        """The next chunk of a body; empty for the last."""
        while b"\r\n" not in self._buffer:
            self._more()
        size, _, self._buffer = self._buffer.partition(b"\r\n")
        data = self._take(int(size, 16))
        assert self._take(2) == b"\r\n"
        return data

    def _take(self, length: int) -> bytes:
        while len(self._buffer) < length:
            self._more()
        taken, self._buffer = self._buffer[:length], self._buffer[length:]
        return taken

    def rest(self) -> bytes:
        """All that comes until the connection ends."""
        while data := self.socket.recv(1 << 20):
            self._buffer += data
        return self._buffer

    def ended(self) -> bool:
        """Whether the server closes the connection now, having sent nothing more."""
        try:
            return not self._buffer and not self.socket.recv(1)
        except ConnectionResetError:
            return True


def post(path: str, body: bytes, *headers: str) -> bytes:
    """The bytes of a POST request."""
    extra = "".join(f"{header}\r\n" for header in headers).encode()
    return b"POST %s HTTP/1.1\r\n%sContent-Length: %d\r\n%s\r\n%s" % (path.encode(), HOST, len(body), extra, body)
