# SPDX-License-Identifier: Apache-2.0
"""Rows 4 and 22 to 28: HTTP/1.1 messages whose framing, coding, head or order is wrong.

The grammar of each single fault is in tests/contract/http/test_framing.py; here are the attacks, and what they cost.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import zlib

import pytest

from contract.http.raw import HOST, Raw, Response, post
from faults.client import LIVE, Grpc, check_text, document, http, is_live, message, refused, tensor, times
from faults.guard import counter, peak_growth
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

INFER = "/v2/models/fp32/infer"
BODY = document(tensor((1, 2), [1.5, -2]))
HEAD = b"POST /v2/models/fp32/infer HTTP/1.1\r\n" + HOST
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20

#: every route that takes a body
POSTS = [
    INFER,
    "/v2/models/fp32/versions/1/infer",
    "/v2/repository/index",
    "/v2/repository/models/fp32/load",
    "/v2/repository/models/none/unload",
]


def ends_with(server: RunningServer, request: bytes, *statuses: int) -> Response:
    """The request is answered with one of ``statuses`` and the connection closed, whatever was still to be sent."""
    with Raw(server.http_port) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.send(request)
        response = raw.receive()
        assert response.status in statuses, response
        assert set(response.document) == {"error"}
        check_text(response.document["error"])
        assert raw.ended()
        return response


def test_row_04_body_longer_than_its_length(server: RunningServer) -> None:
    """What follows the length is the next request, and a malformed one."""
    with Raw(server.http_port) as raw:
        raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) - 1) + BODY)
        assert [raw.receive().status for _ in range(2)] == [400, 400]
        assert raw.ended()
        # nothing of the body was taken for a request that was executed
    smuggled = HEAD + b"Content-Length: 2\r\n\r\n{}" + LIVE
    with Raw(server.http_port) as raw:
        raw.send(smuggled)
        assert [raw.receive().status for _ in range(2)] == [400, 200]


def test_row_04_body_shorter_than_its_length(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 1) + BODY)
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.receive().status == 400
        assert raw.ended()


LENGTHS = [
    "",
    "-1",
    "+2",
    "0x2",
    "1e3",
    "2.0",
    "2 2",
    "2, 2",
    "2,3",
    "９",
    "9" * 30,
    str(2**63),
    str(2**64),
    "1" * 60_000,
]


@pytest.mark.parametrize("length", LENGTHS, ids=lambda value: value[:20] or "empty")
def test_row_04_malformed_lengths(server: RunningServer, length: str) -> None:
    ends_with(server, HEAD + b"Content-Length: " + length.encode() + b"\r\n\r\n{}", 400)


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Transfer-Encoding\t: chunked\r\n",
        b"Content-Length : 2\r\n",
        b" Content-Length: 2\r\n",
    ],
)
def test_row_04_two_readings_of_one_message(server: RunningServer, headers: bytes) -> None:
    ends_with(server, HEAD + headers + b"\r\n2\r\n{}\r\n0\r\n\r\n", 400, 501)


def test_row_22_declared_length_over_the_limit(server: RunningServer, rpc: Grpc) -> None:
    """Refused by JSON size before it is parsed; by its declared length where no server could hold it."""
    ends_with(server, HEAD + b"Content-Length: 3000000000\r\n\r\n", 400)
    over = json.dumps({"inputs": [], "padding": "x" * (64 * MIB)}).encode()
    refused(server, "fp32", over, text="Use --http-max-input-size to increase the limit.")


def test_row_22_declared_length_takes_no_memory(server: RunningServer) -> None:
    def attack() -> None:
        with contextlib.ExitStack() as stack:
            for _ in range(50):
                raw = stack.enter_context(Raw(server.http_port))
                raw.send(HEAD + b"Content-Length: 2000000000\r\n\r\n{")
            assert is_live(server)

    assert peak_growth(server, attack) < 64 * MIB


@pytest.mark.parametrize("path", POSTS)
def test_row_23_very_many_chunks(server: RunningServer, path: str) -> None:
    """10^6 chunks of one byte: no more than 65536 of them are ever read."""
    attack = CHUNKED.replace(INFER.encode(), path.encode()) + b"1\r\n \r\n" * 1_000_000
    assert peak_growth(server, lambda: ends_with(server, attack, 400)) < 8 * MIB


@pytest.mark.timeout(600)
def test_row_23_repeated_attacks_leave_nothing(server: RunningServer) -> None:
    """100 times 10^6 chunks, the bar of Triton for CVE-2026-47476: less than 40 KiB each, of 6 MB that are sent."""
    attack = CHUNKED + b"1\r\n \r\n" * 1_000_000
    ends_with(server, attack, 400)
    assert peak_growth(server, lambda: [ends_with(server, attack, 400) for _ in range(times(100))]) < 4 * MIB


ROW_23 = {
    "2^63": b"8000000000000000\r\n",
    "2^64": b"10000000000000000\r\n",
    "2^62": b"4000000000000000\r\n",
    "negative": b"-1\r\n",
    "no number": b"xyz\r\n",
    "decimal point": b"2.0\r\n{}\r\n",
    "0x": b"0x2\r\n{}\r\n",
    "underscore": b"1_0\r\n",
    "blank before": b" 2\r\n{}\r\n",
    "blank after": b"2 \r\n{}\r\n",
    "bare LF": b"2\n{}\n0\n\n",
    "bare CR": b"2\r{}\r0\r\r\n",
    "bare LF in an extension": b"2;a\nb\r\n{}\r\n",
    "extension of 1 MiB": b"2;" + b"x" * MIB + b"\r\n{}\r\n",
    "size of 1 MiB": b"0" * MIB + b"2\r\n{}\r\n",
    "no CR LF after the data": b"2\r\n{}0\r\n\r\n",
    "10^4 trailers": b"2\r\n{}\r\n0\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "trailer of 1 MiB": b"2\r\n{}\r\n0\r\nX: " + b"y" * MIB + b"\r\n\r\n",
    "trailer with a bare LF": b"2\r\n{}\r\n0\r\nX: y\n\r\n\r\n",
}


@pytest.mark.parametrize("case", ROW_23)
def test_row_23_malformed_chunks(server: RunningServer, case: str) -> None:
    assert peak_growth(server, lambda: ends_with(server, CHUNKED + ROW_23[case], 400)) < 8 * MIB


def test_row_23_missing_end(server: RunningServer) -> None:
    answered = counter(server, "nv_inference_request_success", "fp32")
    for cut in range(1, 5):
        with Raw(server.http_port) as raw:
            raw.send((CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY))[:-cut])
            raw.socket.shutdown(socket.SHUT_WR)
            assert raw.receive().status == 400
            assert raw.ended()
    assert counter(server, "nv_inference_request_success", "fp32") == answered


def packed(data: bytes, wbits: int = 31) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return packer.compress(data) + packer.flush()


GZIP = packed(BODY)
ROW_24 = {
    "truncated": ("gzip", GZIP[:-9]),
    "without its checksum": ("gzip", GZIP[:-8]),
    "wrong checksum": ("gzip", GZIP[:-8] + bytes([GZIP[-8] ^ 1]) + GZIP[-7:]),
    "wrong size": ("gzip", GZIP[:-1] + b"\x7f"),
    "damaged": ("gzip", GZIP[:20] + bytes([GZIP[20] ^ 255]) + GZIP[21:]),
    "two members": ("gzip", GZIP + GZIP),
    "trailing garbage": ("gzip", GZIP + b"x"),
    "not compressed": ("gzip", BODY),
    "empty": ("gzip", b""),
    "only a header": ("gzip", GZIP[:10]),
    "deflate called gzip": ("gzip", packed(BODY, 15)),
    "gzip called deflate": ("deflate", GZIP),
    "truncated deflate": ("deflate", packed(BODY, 15)[:-5]),
    "preset dictionary": ("deflate", b"\x78\xbb\x00\x00\x00\x01" + packed(BODY, 15)[2:]),
}


@pytest.mark.parametrize("case", ROW_24)
def test_row_24_compressed_bodies(server: RunningServer, case: str) -> None:
    coding, body = ROW_24[case]
    refused(server, "fp32", body, f"Content-Encoding: {coding}")


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "gzip;q=1", "x" * 1000])
def test_row_24_unknown_encoding(server: RunningServer, coding: str) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(post(INFER, GZIP, f"Content-Encoding: {coding}")).receive()
        assert (response.status, response.headers["accept-encoding"]) == (415, "gzip, deflate"), response
        check_text(response.document["error"])
        assert raw.send(LIVE).receive().status == 200


WEIGHTS = ["gzip;q=1e999", "gzip;q=-1", "gzip;q=nan", "gzip;q=", "gzip;q=9" + "9" * 400, ";", ",,,", "gzip;" * 10_000]


@pytest.mark.parametrize("accepted", WEIGHTS, ids=lambda value: value[:20])
def test_row_24_accept_encoding(server: RunningServer, accepted: str) -> None:
    """What can not be understood is no reason to compress, nor to fail."""
    with Raw(server.http_port) as raw:
        response = raw.send(post(INFER, BODY, f"Accept-Encoding: {accepted}")).receive()
        assert response.status == 200
        coding = response.headers.get("content-encoding")
        assert json.loads(gzip.decompress(response.body) if coding == "gzip" else response.body)["model_name"] == "fp32"


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_row_24_bomb(server: RunningServer, coding: str) -> None:
    """256 KiB that stand for 256 MiB; the memory of one body at the limit of 64 MiB is the most that it may take."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if coding == "gzip" else 15)
    bomb = b"".join([*(packer.compress(bytes(MIB)) for _ in range(256)), packer.flush()])
    text = "Request decompressed size exceeds the maximum allowed value of 67108864 bytes."
    attack = lambda: refused(server, "fp32", bomb, f"Content-Encoding: {coding}", text=text)  # noqa: E731
    assert peak_growth(server, attack) < 160 * MIB
    assert peak_growth(server, lambda: [attack() for _ in range(5)]) < 160 * MIB


def test_row_24_chunked_bomb(server: RunningServer) -> None:
    bomb = packed(bytes(128 * MIB))
    with Raw(server.http_port) as raw:
        raw.send(HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(bomb), 100):
            raw.send(b"%x\r\n%s\r\n" % (len(bomb[start : start + 100]), bomb[start : start + 100]))
        assert raw.send(b"0\r\n\r\n").receive().status == 400
        assert raw.send(LIVE).receive().status == 200


ROW_25 = {
    "request line of 64 KiB": (b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
    "request line without an end": (b"GET /" + b"a" * MIB, 414),
    "10^4 headers": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: y\r\n" * 10_000 + b"\r\n", 431),
    "header of 1 MiB": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: " + b"y" * MIB + b"\r\n\r\n", 431),
    "header without an end": (b"GET /v2 HTTP/1.1\r\n" + b"y" * MIB, 431),
    "header name of 1 MiB": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"X" * MIB + b": y\r\n\r\n", 431),
    "no host": (b"GET /v2 HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET /v2 HTTP/1.1\r\n" + HOST + HOST + b"\r\n", 400),
    "folded line": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n", 400),
    "folded first line": (b"GET /v2 HTTP/1.1\r\n " + HOST + b"\r\n", 400),
    "NUL in the target": (b"GET /v2\0 HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "NUL in a name": (b"GET /v2 HTTP/1.1\r\n" + HOST + b"a\0b: c\r\n\r\n", 400),
    "line end in the target": (b"GET /v2\nX HTTP/1.1\r\n" + HOST + b"\r\n", 400),
    "HTTP/0.9": (b"GET /v2\r\n\r\n", 400),
    "HTTP/1.2": (b"GET /v2 HTTP/1.2\r\n" + HOST + b"\r\n", 505),
    "HTTP/2.0": (b"GET /v2 HTTP/2.0\r\n" + HOST + b"\r\n", 505),
    "HTTP/3.0": (b"GET /v2 HTTP/3.0\r\n" + HOST + b"\r\n", 505),
    "lower-case version": (b"GET /v2 http/1.1\r\n" + HOST + b"\r\n", 400),
    "other protocol": (b"SSH-2.0-client\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x00\x05hello", 400),
    "zero bytes": (b"\0" * 100, 400),
}


@pytest.mark.parametrize("case", ROW_25)
def test_row_25_heads(server: RunningServer, case: str) -> None:
    request, status = ROW_25[case]
    assert peak_growth(server, lambda: ends_with(server, request, status)) < 8 * MIB


TARGETS = {
    "NUL": ("/v2/models/fp32%00/infer", 400),
    "dots": ("/v2/models/%2e%2e/infer", 400),
    "plain dots": ("/v2/models/../infer", 400),
    "escaped slash": ("/v2/models/a%2f..%2fb/infer", 400),
    "double escape": ("/v2/models/%252e%252e/infer", 404),
    "backslash": ("/v2/models/..%5c..%5cx/infer", 400),
    "half an escape": ("/v2/models/a%2/infer", 400),
    "overlong dot": ("/v2/models/%c0%ae%c0%ae/infer", 400),
    "traversal": ("/v2/models/../../../etc/passwd", 404),
    "fragment": ("/v2/models/fp32/infer#/../x", 404),
}


@pytest.mark.parametrize("case", TARGETS)
def test_row_25_targets(server: RunningServer, case: str) -> None:
    target, status = TARGETS[case]
    with Raw(server.http_port) as raw:
        response = raw.send(post(target, BODY)).receive()
        assert response.status == status, response
        check_text(response.document["error"])
        assert "root:" not in response.body.decode()


def test_row_25_absolute_form(server: RunningServer) -> None:
    assert http(server, f"http://other:1{INFER}", BODY).status == 200


@pytest.mark.parametrize("path", [*POSTS, "/v2/health/live", "/v2/models/fp32"])
@pytest.mark.parametrize("verb", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"])
def test_row_26_wrong_methods(server: RunningServer, path: str, verb: str) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(f"{verb} {path} HTTP/1.1\r\nHost: a\r\nX-Secret: s\r\n\r\n".encode()).receive()
        assert (response.status, response.headers["allow"]) == (405, "POST" if path in POSTS else "GET")
        assert b"X-Secret" not in response.body
        assert raw.send(LIVE).receive().status == 200


def test_row_26_connect_and_unknown_methods(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        assert raw.send(b"CONNECT other:80 HTTP/1.1\r\n" + HOST + b"\r\n").receive().status == 404
        assert raw.ended()
    ends_with(server, b"BREW /v2 HTTP/1.1\r\n" + HOST + b"\r\n", 400, 405, 501)
    ends_with(server, b"G" * 10_000 + b" /v2 HTTP/1.1\r\n" + HOST + b"\r\n", 400)


def numbered(number: int) -> bytes:
    return post(INFER, document(tensor((1, 1), [number]), id=str(number)))


def test_row_27_pipeline(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(b"".join(numbered(n) for n in range(1000)))
        for n in range(1000):
            answer = raw.receive().document
            assert (answer["id"], answer["outputs"][0]["data"]) == (str(n), [n])


@pytest.mark.parametrize(
    "bad", [b"BAD\r\n\r\n", b"GET /v2 HTTP/1.1\r\n\r\n", CHUNKED + b"x\r\n"], ids=["line", "host", "chunk"]
)
def test_row_27_pipeline_with_a_malformed_request(server: RunningServer, bad: bytes) -> None:
    answered = counter(server, "nv_inference_request_success", "fp32")
    with Raw(server.http_port) as raw:
        raw.send(b"".join(numbered(n) for n in range(500)) + bad + b"".join(numbered(n) for n in range(500)))
        assert [raw.receive().document["id"] for _ in range(500)] == [str(n) for n in range(500)]
        assert raw.receive().status == 400
        assert raw.ended()
    # nothing behind the malformed one was executed
    assert counter(server, "nv_inference_request_success", "fp32") == answered + 500


def test_row_27_pipeline_of_slow_and_quick_and_failing(server: RunningServer) -> None:
    """Answers keep their order although the second is ready long before the first."""
    slow = post("/v2/models/slow/infer", document(tensor((1, 1), [7])))
    with Raw(server.http_port) as raw:
        raw.send(slow + numbered(1) + post(INFER, b"{") + post("/v2/models/none/infer", BODY) + slow + numbered(2))
        answers = [raw.receive() for _ in range(6)]
    assert [answer.status for answer in answers] == [200, 200, 400, 404, 200, 200]
    assert [answers[n].document["outputs"][0]["data"] for n in (0, 1, 4, 5)] == [[7], [1], [7], [2]]


def test_row_28_half_close(server: RunningServer) -> None:
    count = 1 << 20  # an answer of 4 MiB, which does not fit the socket's buffer
    header = document(
        tensor([count], parameters={"binary_data_size": count * 4}), parameters={"binary_data_output": True}
    )
    large = post(
        "/v2/models/flat/infer", header + b"\7" * (count * 4), f"Inference-Header-Content-Length: {len(header)}"
    )
    slow = post("/v2/models/slow/infer", document(tensor((1, 1), [7])))
    with Raw(server.http_port) as raw:
        raw.send(numbered(1) + slow + large)
        raw.socket.shutdown(socket.SHUT_WR)
        assert [raw.receive().status for _ in range(2)] == [200, 200]
        assert raw.receive().body.endswith(b"\7" * (count * 4))
        assert raw.ended()


def test_row_28_grpc_half_close(server: RunningServer, rpc: Grpc) -> None:
    """Each unary call half-closes its stream; the answer comes afterwards."""
    data = bytes(4)
    assert rpc.infer(message("slow", ("INPUT0", "FP32", (1, 1)), raw=[data])).raw_output_contents[0] == data
