# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: what is well-formed is answered in order, what is not is refused and the connection closed."""

from __future__ import annotations

import contextlib
import json
import socket
import struct

import pytest

from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer

INFER = "/v2/models/fp32/infer"
BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2]}]}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKED = b"POST /v2/models/fp32/infer HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def head(*lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*lines, b""))


REFUSED = {
    "no host": (head(b"GET /v2 HTTP/1.1"), 400),
    "two hosts": (head(b"GET /v2 HTTP/1.1", b"Host: a", b"Host: b"), 400),
    "two lengths": (post(INFER, b"{}", "Content-Length: 2"), 400),
    "list of lengths": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Content-Length: 2, 2"), 400),
    "signed length": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Content-Length: +2"), 400),
    "hexadecimal length": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Content-Length: 0x2"), 400),
    "empty length": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Content-Length:"), 400),
    "length of 30 digits": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Content-Length: " + b"9" * 30), 400),
    "length of 2^63": (head(b"POST /v2/models/fp32/infer HTTP/1.1", b"Host: a", b"Content-Length: %d" % 2**63), 400),
    "length of 3 GB": (head(b"POST /v2/models/fp32/infer HTTP/1.1", b"Host: a", b"Content-Length: 3000000000"), 400),
    "length and chunks": (post(INFER, b"{}", "Transfer-Encoding: chunked"), 400),
    "chunks in HTTP/1.0": (head(b"POST /v2 HTTP/1.0", b"Transfer-Encoding: chunked"), 400),
    "coded chunks": (head(b"POST /v2 HTTP/1.1", b"Host: a", b"Transfer-Encoding: gzip, chunked"), 501),
    "two header lengths": (
        post(INFER, b"{}", "Inference-Header-Content-Length: 2", "Inference-Header-Content-Length: 2"),
        400,
    ),
    "folded header": (head(b"GET /v2 HTTP/1.1", b"Host: a", b" b"), 400),
    "blank before colon": (head(b"GET /v2 HTTP/1.1", b"Host : a"), 400),
    "header without colon": (head(b"GET /v2 HTTP/1.1", b"Host: a", b"nothing"), 400),
    "NUL in a header": (head(b"GET /v2 HTTP/1.1", b"Host: a", b"X: a\0b"), 400),
    "bare CR": (head(b"GET /v2 HTTP/1.1", b"Host: a", b"X: a\rb"), 400),
    "bare LF": (b"GET /v2 HTTP/1.1\nHost: a\n\n", 400),
    "bare LF between headers": (b"GET /v2 HTTP/1.1\r\nHost: a\nX: y\r\n\r\n", 400),
    "two blanks": (head(b"GET  /v2 HTTP/1.1", b"Host: a"), 400),
    "lower-case method": (head(b"get /v2 HTTP/1.1", b"Host: a"), 400),
    "HTTP/0.9": (b"GET /v2\r\n", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (head(b"GET /v2 HTTP/3.0", b"Host: a"), 505),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "request line of 64 KiB": (b"GET /" + b"a" * 66000, 414),
    "header of 1 MiB": (head(b"GET /v2 HTTP/1.1", b"Host: a", b"X: " + b"x" * (1 << 20)), 431),
    "10^4 headers": (head(b"GET /v2 HTTP/1.1", b"Host: a", *[b"X: y"] * 10_000), 431),
    "200 headers": (head(b"GET /v2 HTTP/1.1", b"Host: a", *[b"X: y"] * 200), 431),
    "chunk size of 2^63": (CHUNKED + b"8000000000000000\r\n", 400),
    "chunk size of 17 digits": (CHUNKED + b"0" * 16 + b"2\r\n{}\r\n0\r\n\r\n", 400),
    "chunk size not hexadecimal": (CHUNKED + b"2g\r\n", 400),
    "empty chunk size": (CHUNKED + b"\r\n", 400),
    "signed chunk size": (CHUNKED + b"+2\r\n{}\r\n0\r\n\r\n", 400),
    "bare LF after a chunk size": (CHUNKED + b"2\n{}\r\n0\r\n\r\n", 400),
    "chunk longer than its size": (CHUNKED + b"1\r\n{}\r\n0\r\n\r\n", 400),
    "bare LF after a chunk": (CHUNKED + b"2\r\n{}\n0\r\n\r\n", 400),
    "chunk extension of 1 MiB": (CHUNKED + b"2;" + b"x" * (1 << 20), 400),
    "10^4 trailers": (CHUNKED + chunk(BODY) + b"0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n", 400),
    "trailer that is none": (CHUNKED + chunk(BODY) + b"0\r\nnothing\r\n\r\n", 400),
    "a million chunks": (CHUNKED + b"1\r\nx\r\n" * 1_000_000, 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_request_is_refused_and_the_connection_closed(server: RunningServer, name: str) -> None:
    request, status = REFUSED[name]
    with Raw(server.http_port) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            raw.send(request)
        response = raw.receive()
        assert response.status == status, response
        assert set(response.document) == {"error"}
        assert raw.ended()
    assert server.is_ready()


KEPT = {
    "unknown path": (b"GET /v3 HTTP/1.1\r\n" + HOST + b"\r\n", 404, {"error": "Not Found"}),
    "slash at the end": (b"GET /v2/ HTTP/1.1\r\n" + HOST + b"\r\n", 404, {"error": "Not Found"}),
    "version not a number": (
        b"GET /v2/models/fp32/versions/x HTTP/1.1\r\n" + HOST + b"\r\n",
        404,
        {"error": "Not Found"},
    ),
    "wrong verb": (b"PUT /v2 HTTP/1.1\r\n" + HOST + b"\r\n", 405, {"error": "Method Not Allowed"}),
    "NUL in a name": (b"GET /v2/models/a%00 HTTP/1.1\r\n" + HOST + b"\r\n", 400, None),
    "dots as a name": (b"GET /v2/models/%2e%2e HTTP/1.1\r\n" + HOST + b"\r\n", 400, None),
    "slash in a name": (b"GET /v2/models/a%2fb HTTP/1.1\r\n" + HOST + b"\r\n", 400, None),
    "bad escape": (b"GET /v2/models/a%zz HTTP/1.1\r\n" + HOST + b"\r\n", 400, None),
    "not UTF-8": (b"GET /v2/models/a%ff HTTP/1.1\r\n" + HOST + b"\r\n", 400, None),
    "control request that is not JSON": (post("/v2/repository/index", b"{"), 400, None),
    "control request with NaN": (post("/v2/repository/index", b'{"ready":NaN}'), 400, None),
    "control request of the wrong type": (
        post("/v2/repository/index", b'{"ready":1}'),
        400,
        {"error": "Invalid value for 'ready': expected a boolean"},
    ),
    "control request that says a thing twice": (
        post("/v2/repository/index", b'{"ready":true,"ready":false}'),
        400,
        {"error": "failed to parse the request JSON buffer: Duplicate member name in the request."},
    ),
    "control request nested deeply": (post("/v2/repository/index", b"[" * 100_000), 400, None),
    "control request with a BOM": (post("/v2/repository/index", b"\xef\xbb\xbf{}"), 400, None),
    "compressed control request": (post("/v2/repository/index", b"xx", "Content-Encoding: gzip"), 415, None),
    "unknown model": (
        b"GET /v2/models/none HTTP/1.1\r\n" + HOST + b"\r\n",
        404,
        {"error": "Request for unknown model: 'none' is not found"},
    ),
}


@pytest.mark.parametrize("name", KEPT)
def test_bad_request_leaves_the_connection_usable(server: RunningServer, name: str) -> None:
    request, status, document = KEPT[name]
    with Raw(server.http_port) as raw:
        response = raw.send(request).receive()
        assert response.status == status, response
        assert response.headers["content-type"] == "application/json"
        assert set(response.document) == {"error"}
        if document is not None:
            assert response.document == document
        assert raw.send(LIVE).receive().status == 200


ROUTES = {
    "/v2": "GET",
    "/v2/health/live": "GET",
    "/v2/health/ready": "GET",
    "/v2/models/stats": "GET",
    "/v2/models/fp32": "GET",
    "/v2/models/fp32/versions/1": "GET",
    "/v2/models/fp32/config": "GET",
    "/v2/models/fp32/ready": "GET",
    "/v2/models/fp32/stats": "GET",
    "/v2/models/fp32/infer": "POST",
    "/v2/models/fp32/versions/1/infer": "POST",
    "/v2/repository/index": "POST",
    "/v2/repository/models/fp32/load": "POST",
    "/v2/repository/models/fp32/unload": "POST",
    "/v2/systemsharedmemory/register": "POST",
    "/v2/cudasharedmemory/region/r/register": "POST",
    "/v2/cudasharedmemory/unregister": "POST",
}


VERBS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"]


@pytest.mark.parametrize(("path", "verb"), [(path, verb) for path in ROUTES for verb in VERBS if ROUTES[path] != verb])
def test_wrong_method(server: RunningServer, path: str, verb: str) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(f"{verb} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).receive()
        assert (response.status, response.headers["allow"]) == (405, ROUTES[path])
        # HEAD has no body; were one sent, it would be read as the next response
        assert raw.send(LIVE).receive().status == 200


def test_connect_is_refused(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        assert raw.send(b"CONNECT test:80 HTTP/1.1\r\n" + HOST + b"\r\n").receive().status == 404
        assert raw.ended()


def test_success_of_control_calls_has_no_body(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for path in (
            "/v2/health/live",
            "/v2/health/ready",
            "/v2/models/fp32/ready",
            "/v2/models/fp32/versions/1/ready",
        ):
            response = raw.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).receive()
            assert (response.status, response.body) == (200, b"")


def test_absolute_form_and_query(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for target in (b"http://test/v2?x=1", b"/v2?x", b"http://test:80/v2"):
            response = raw.send(b"GET " + target + b" HTTP/1.1\r\n" + HOST + b"\r\n").receive()
            assert response.document["name"] == "triton"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_request_in_pieces(server: RunningServer, size: int) -> None:
    request = post(INFER, BODY)
    with Raw(server.http_port) as raw:
        for start in range(0, len(request), size):
            raw.send(request[start : start + size])
        assert raw.receive().document["outputs"][0]["data"] == [1.5, -2]


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_chunked_body(server: RunningServer, size: int) -> None:
    body = b"".join(chunk(BODY[start : start + size]) for start in range(0, len(BODY), size))
    with Raw(server.http_port) as raw:
        raw.send(CHUNKED + body + b"0\r\n\r\n" + post(INFER, BODY))
        for _ in range(2):
            assert raw.receive().document["outputs"][0]["data"] == [1.5, -2]


def test_chunked_body_in_pieces_with_extension_and_trailer(server: RunningServer) -> None:
    request = CHUNKED + b"%x;name=value\r\n%s\r\n0\r\nTrailer: x\r\n\r\n" % (len(BODY), BODY)
    with Raw(server.http_port) as raw:
        for byte in request:
            raw.send(bytes([byte]))
        assert raw.receive().status == 200
        assert raw.send(LIVE).receive().status == 200


def test_chunked_body_without_its_end_is_not_executed(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(CHUNKED + chunk(BODY) + b"0\r\n")
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.receive().status == 400
        assert raw.ended()


def test_pipeline_keeps_order(server: RunningServer) -> None:
    bodies = [
        json.dumps(
            {"id": str(n), "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [n]}]}
        ).encode()
        for n in range(1000)
    ]
    requests = [post(INFER, body) if n % 3 else LIVE for n, body in enumerate(bodies)]
    with Raw(server.http_port) as raw:
        raw.send(b"".join(requests))
        for n in range(1000):
            response = raw.receive()
            assert response.status == 200
            if n % 3:
                assert (response.document["id"], response.document["outputs"][0]["data"]) == (str(n), [n])
            else:
                assert response.body == b""


def test_pipeline_ends_at_a_malformed_request(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(post(INFER, BODY) * 3 + b"BAD\r\n\r\n" + post(INFER, BODY))
        assert [raw.receive().status for _ in range(4)] == [200, 200, 200, 400]
        assert raw.ended()


def test_failed_inference_does_not_end_a_pipeline(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(post(INFER, BODY) + post(INFER, b"{") + post("/v2/models/none/infer", BODY) + post(INFER, BODY))
        assert [raw.receive().status for _ in range(4)] == [200, 400, 404, 200]


def test_half_close_gets_the_full_answer(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(post(INFER, BODY) * 2)
        raw.socket.shutdown(socket.SHUT_WR)
        assert [raw.receive().status for _ in range(2)] == [200, 200]
        assert raw.ended()


@pytest.mark.parametrize("cut", [10, 60, 100])
def test_end_within_a_request(server: RunningServer, cut: int) -> None:
    with Raw(server.http_port) as raw:
        raw.send(post(INFER, BODY)[:cut])
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.receive().status == 400
        assert raw.ended()


def test_http_1_0(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(b"GET /v2 HTTP/1.0\r\n\r\n").receive()
        assert response.status == 200
        assert raw.ended()


def test_connection_close(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(post(INFER, BODY, "Connection: close")).receive()
        assert (response.status, response.headers.get("connection", "").lower()) == (200, "close")
        assert raw.ended()


def test_expect_continue(server: RunningServer) -> None:
    request = post(INFER, BODY, "Expect: 100-continue")
    with Raw(server.http_port) as raw:
        raw.send(LIVE + request[: -len(BODY)])
        assert raw.receive().status == 200
        assert raw.receive().status == 100
        assert raw.send(BODY).receive().status == 200
        # a client that does not wait gets no invitation
        assert raw.send(request).receive().status == 200


def test_offer_of_another_protocol_is_ignored(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        request = b"GET /v2 HTTP/1.1\r\n" + HOST + b"Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"
        assert raw.send(request).receive().status == 200
        assert raw.send(LIVE).receive().status == 200


def test_empty_lines_before_a_request(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        assert raw.send(b"\r\n" + LIVE).receive().status == 200
        assert raw.send(b"\r\n").send(b"\r\n\r\n" + LIVE).receive().status == 200


@pytest.mark.parametrize("cut", [10, 100, 1_000_000])
def test_reset_disturbs_nobody(server: RunningServer, cut: int) -> None:
    request = post(INFER, BODY) * 3 if cut == 1_000_000 else post(INFER, BODY)[:cut]
    with Raw(server.http_port) as other:
        for _ in range(50):
            with Raw(server.http_port) as raw:
                raw.send(request)
                raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert other.send(post(INFER, BODY)).receive().status == 200
