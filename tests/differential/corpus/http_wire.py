# SPDX-License-Identifier: Apache-2.0
"""HTTP on the wire: chunked bodies, forms of the head, several requests on one connection."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from differential.case import Case, Http
from differential.corpus.build import tensor

__all__ = ["heads", "transfers"]

_BODY = json.dumps({"inputs": [tensor("INPUT0", "FP32", [1, 2], [1, 2])]}).encode()
_INFER = "/v2/models/fp32/infer"


def _raw(name: str, *lines: str, body: bytes = b"") -> Case:
    head = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return Case(name, Http("", "", raw=head + b"\r\n" + body))


def _chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", form: str = "%x") -> bytes:
    return b"".join((form % len(chunk)).encode() + b"\r\n" + chunk + b"\r\n" for chunk in chunks) + end


def transfers() -> Iterable[Case]:
    """Lengths and chunks."""
    start = (f"POST {_INFER} HTTP/1.1", "Host: test")
    chunked = (*start, "Transfer-Encoding: chunked")
    yield _raw("a length", *start, f"Content-Length: {len(_BODY)}", body=_BODY)
    yield _raw("one chunk", *chunked, body=_chunked(_BODY))
    yield _raw("two chunks", *chunked, body=_chunked(_BODY[:7], _BODY[7:]))
    yield _raw("chunks of one byte", *chunked, body=_chunked(*(_BODY[at : at + 1] for at in range(len(_BODY)))))
    yield _raw("upper case sizes", *chunked, body=_chunked(_BODY, form="%X"))
    yield _raw("leading zeros", *chunked, body=_chunked(_BODY, form="000%x"))
    # the peer does not answer what follows a trailer on a connection
    yield _raw("a trailer", *chunked, "Connection: close", body=_chunked(_BODY, end=b"0\r\nX-Trailer: 1\r\n\r\n"))
    yield _raw("length 0", *start, "Content-Length: 0")
    yield _raw("no chunks", *chunked, body=_chunked())
    yield _raw("no length", *start)
    yield _raw("expects 100", *start, f"Content-Length: {len(_BODY)}", "Expect: 100-continue", body=_BODY)
    yield _raw("chunked in upper case", *start, "Transfer-Encoding: CHUNKED", body=_chunked(_BODY))
    yield _raw("body of a GET", "GET /v2/health/live HTTP/1.1", "Host: test", "Content-Length: 2", body=b"{}")
    yield _raw(
        "chunked body of a GET",
        "GET /v2/health/live HTTP/1.1",
        "Host: test",
        "Transfer-Encoding: chunked",
        body=_chunked(b"{}"),
    )
    yield _raw("close", *start, f"Content-Length: {len(_BODY)}", "Connection: close", body=_BODY)
    yield _raw("keep-alive", *start, f"Content-Length: {len(_BODY)}", "Connection: keep-alive", body=_BODY)


def heads() -> Iterable[Case]:
    """Forms of request lines and of headers that both must take."""
    for line in (
        "GET /v2/health/live HTTP/1.1",
        "GET http://test/v2/health/live HTTP/1.1",
        "GET http://other:80/v2/health/live HTTP/1.1",
        "GET /v2/health/live?x=%20 HTTP/1.1",
    ):
        yield _raw(line, line, "Host: test")
    for header in (
        "host: test",
        "HOST: test",
        "Host:test",
        "Host:   test  ",
        "Host: test:8000",
        "Host: [::1]:8000",
        "Host: ",
    ):
        yield _raw(header, "GET /v2/health/live HTTP/1.1", header)
    for header in (
        "Accept: */*",
        "Accept: text/html",
        "Accept: application/json;q=0",
        "Accept-Charset: x",
        "Content-Type: text/plain",
        "Content-Type: ",
        "User-Agent: é",
        "Cookie: a=b",
        "Range: bytes=0-1",
        "If-Match: *",
        "X-Empty:",
        "x-a_b: 1",
        "Authorization: Bearer x",
    ):
        yield _raw(header, "GET /v2/models/fp32 HTTP/1.1", "Host: test", header)
    yield from _infer_heads()


def _infer_heads() -> Iterator[Case]:
    for kind in (
        "application/json",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "x",
        "",
    ):
        yield _raw(
            f"infer as {kind}",
            f"POST {_INFER} HTTP/1.1",
            "Host: test",
            f"Content-Type: {kind}",
            f"Content-Length: {len(_BODY)}",
            body=_BODY,
        )
    for name in (
        "inference-header-content-length",
        "INFERENCE-HEADER-CONTENT-LENGTH",
        "Inference-Header-Content-Length",
    ):
        yield _raw(
            f"infer with {name}",
            f"POST {_INFER} HTTP/1.1",
            "Host: test",
            f"{name}: {len(_BODY)}",
            f"Content-Length: {len(_BODY)}",
            body=_BODY,
        )
