# SPDX-License-Identifier: Apache-2.0
"""Requests whose heads the core knows are answered as those that are parsed, however they lie in what is read."""

from __future__ import annotations

import gzip
import itertools
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer

INFER = "/v2/models/fp32/infer"
_OWN = itertools.count()


def body(count: int) -> bytes:
    tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, count], "data": list(range(count))}
    return json.dumps({"inputs": [tensor]}).encode()


def chunked(data: bytes) -> bytes:
    return b"POST %s HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (
        INFER.encode(),
        HOST,
        len(data),
        data,
    )


#: what leaves its connection open, by what is special about it
KINDS = {
    "small": post(INFER, body(3)),
    "other small": post(INFER, body(4)),
    "not in one read": post(INFER, body(30_000)),
    "no json": post(INFER, b"{"),
    "no model": post("/v2/models/none/infer", body(1)),
    "compressed": post(INFER, gzip.compress(body(5), mtime=0), "Content-Encoding: gzip"),
    "no compression": post(INFER, body(3), "Content-Encoding: br"),
    "traced": post(INFER, body(6), f"traceparent: 00-{'1' * 32}-{'2' * 16}-01"),
    "chunked": chunked(body(7)),
    "control": b"GET /v2/models/fp32 HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty lines": b"\r\n\r\n" + post(INFER, body(8)),
    "no body": b"POST " + INFER.encode() + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 0\r\n\r\n",
    "binary": post(INFER, body(2), f"Inference-Header-Content-Length: {len(body(2))}"),
    "wrong binary": post(INFER, body(2), f"Inference-Header-Content-Length: {len(body(2)) + 1}"),
}
LAST = {
    "closes": post(INFER, body(9), "Connection: close"),
    "malformed": b"BAD\r\n\r\n",
    "half": post(INFER, body(10))[:-20],
}


def alone(server: RunningServer, request: bytes) -> tuple[int, bytes]:
    """The answer to a request whose head nobody has seen before, for which its bytes have a header of their own."""
    first, rest = request.split(b"HTTP/1.1\r\n", 1)
    with Raw(server.http_port) as raw:
        answer = raw.send(first + b"HTTP/1.1\r\nX-Own: %d\r\n" % next(_OWN) + rest).receive()
        return answer.status, answer.body


@settings(max_examples=60)
@given(
    names=st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=12),
    last=st.sampled_from(["", *LAST]),
    cuts=st.lists(st.integers(0, 4000), max_size=6),
)
def test_answers_are_those_of_the_parser(server: RunningServer, names: list[str], last: str, cuts: list[int]) -> None:
    expected = [alone(server, KINDS[name]) for name in names]
    sent = b"".join(KINDS[name] for name in names) + LAST.get(last, b"")
    parts = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    for _ in range(2):  # the second time all of them are known
        with Raw(server.http_port) as raw:
            for start, stop in itertools.pairwise(parts):
                raw.send(sent[start:stop])
            for name, one in zip(names, expected, strict=True):
                answer = raw.receive()
                assert (answer.status, answer.body) == one, name
            if last == "closes":
                assert raw.receive().status == 200
            elif last == "malformed":
                assert raw.receive().status == 400
            if last in ("closes", "malformed"):
                assert raw.ended()


def test_a_head_that_is_forgotten_is_parsed_again(server: RunningServer) -> None:
    """More heads than are kept: each is answered, whether or not it is still known."""
    with Raw(server.http_port) as raw:
        for _ in range(2):
            for number in range(1500):
                raw.send(post(INFER, body(1), f"X-Number: {number}"))
            assert {raw.receive().status for _ in range(1500)} == {200}
