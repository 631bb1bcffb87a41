# SPDX-License-Identifier: Apache-2.0
"""Requests over HTTP/1.1, byte for byte as the case has them, on one kept connection."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import zlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from differential.case import Answer, Http

__all__ = ["HttpClient", "inflated", "request_bytes"]

#: headers that mean something to a client; Date, Server and lengths do not
_HEADERS = (
    "accept-encoding",
    "allow",
    "content-encoding",
    "content-type",
    "endpoint-load-metrics",
    "inference-header-content-length",
)


def request_bytes(request: Http) -> bytes:
    """The bytes of a request; Host and Content-Length are added where its headers do not have them."""
    if request.raw:
        return request.raw
    names = {name.lower() for name, _ in request.headers}
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += ["Host: test"] if "host" not in names else []
    lines += [f"{name}: {value}" for name, value in request.headers]
    if request.method not in {"GET", "HEAD"} and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(request.body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + request.body


class HttpClient:
    """One server. A connection that the server has closed is opened again."""

    def __init__(self, address: str, *, timeout_s: float = 20.0) -> None:
        host, port = address.split(":")
        self._address = (host, int(port))
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, request: Http) -> Answer:
        """The answer. A connection that ends without one is tried once more, because it may have been an old one."""
        data, kept = request_bytes(request), self._socket is not None
        method = data.split(b" ", 1)[0].decode("latin-1")
        for fresh in (not kept, True):
            if fresh:
                self.close()
            try:
                return self._exchange(data, method)
            except TimeoutError:
                self.close()
                return {"status": "no answer in time"}
            except (OSError, http.client.HTTPException):
                self.close()
                if fresh:
                    break
        return {"status": "connection closed"}

    def _exchange(self, data: bytes, method: str) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=self._timeout_s)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
            self._socket.sendall(data)
        response = http.client.HTTPResponse(self._socket, method=method)
        try:
            response.begin()
            body = response.read()
            headers = {name.lower(): value for name, value in response.getheaders() if name.lower() in _HEADERS}
            if response.will_close:
                self.close()
        finally:
            response.close()
        return _answer(response.status, headers, body)


def _answer(status: int, headers: dict[str, str], body: bytes) -> Answer:
    answer: Answer = {"status": status, "headers": headers}
    body = inflated(tuple(headers.items()), body)
    if not body:
        return answer
    json_size = headers.get("inference-header-content-length", "")
    if json_size.isdigit():
        answer["headers"] = {**headers, "inference-header-content-length": "<the size of the JSON part>"}
        return {**answer, "json": _document(body[: int(json_size)]), "binary": body[int(json_size) :]}
    document = _document(body)
    if isinstance(document, dict) and list(document) == ["error"]:
        return {**answer, "error": document["error"]}
    return {**answer, "text": body} if document is None else {**answer, "json": document}


def inflated(headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """The body without its Content-Encoding; as it is where it is not of that encoding."""
    encoding = next((value for name, value in headers if name.lower() == "content-encoding"), "")
    with contextlib.suppress(zlib.error):
        if encoding.strip().lower() in {"gzip", "deflate"}:
            return zlib.decompressobj(wbits=47).decompress(body)  # either of the two forms
    return body


def _document(body: bytes) -> Any:
    """The JSON document, or None for what is none. Bytes that are not UTF-8, as BYTES outputs may have, are kept."""
    try:
        return json.loads(body.decode("utf-8", "surrogateescape"))
    except ValueError:
        return None
