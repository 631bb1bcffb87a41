# SPDX-License-Identifier: Apache-2.0
"""Heads of requests: what they mean, what is refused, and that a part never gets another verdict than the whole."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer._core import InferHead
from pyinfer.errors import InvalidArgument
from pyinfer.frontends.forwarding import HttpForwarding
from pyinfer.frontends.head import CHUNKED, Action, HeadError, Heads, check_partial


class _Site:
    """Remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, bytes]] = []

    def resolve(self, verb: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> Action:
        self.asked.append((verb, target))
        return Action(model="m")


def lines(*each: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (*each, b""))


def test_meaning() -> None:
    site = _Site()
    heads = Heads(site)
    data = lines(
        b"POST /x HTTP/1.1",
        b"hOST: a",
        b"Content-Length:  12 ",
        b"Inference-Header-Content-Length: 7",
        b"CONTENT-ENCODING: gzip",
        b"Accept-Encoding: gzip",
        b"Accept-Encoding: deflate;q=0.5",
        b"Expect: 100-Continue",
    )
    head = heads.find(data)
    assert (head.length, head.keep_alive, head.expects_continue, head.encoding) == (12, True, True, "gzip")
    assert isinstance(head.infer, InferHead)
    assert heads.find(data) is head
    assert site.asked == [(b"POST", b"/x")]


def test_kinds_of_inference() -> None:
    for kind in ("infer", "generate", "generate_stream"):
        assert InferHead("m", "", kind=kind)
    with pytest.raises(ValueError, match="kind must be infer, generate or generate_stream, got 'other'"):
        InferHead("m", "", kind="other")


@pytest.mark.parametrize(
    ("headers", "length", "keep_alive"),
    [
        ([b"POST / HTTP/1.1", b"Host: a"], 0, True),
        ([b"POST / HTTP/1.1", b"Host:"], 0, True),
        ([b"POST / HTTP/1.1", b"Host: a", b"Connection: close"], 0, False),
        ([b"POST / HTTP/1.1", b"Host: a", b"Connection: Keep-Alive, CLOSE"], 0, False),
        ([b"POST / HTTP/1.1", b"Host: a", b"Connection: x", b"Connection: close"], 0, False),
        ([b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding: Chunked"], CHUNKED, True),
        ([b"POST / HTTP/1.0", b"Content-Length: 3"], 3, False),
        ([b"POST / HTTP/1.0", b"Connection: keep-alive"], 0, False),
        ([b"CONNECT a:1 HTTP/1.1", b"Host: a"], 0, False),
        ([b"GET / HTTP/1.1", b"Host: a", b"Connection: upgrade", b"Upgrade: h2c"], 0, True),
    ],
)
def test_framing(headers: list[bytes], length: int, keep_alive: bool) -> None:
    head = Heads(_Site()).find(lines(*headers))
    assert (head.length, head.keep_alive) == (length, keep_alive)


def verdict(check: object, data: bytes) -> int | None:
    try:
        check(data)  # type: ignore[operator]
    except HeadError as error:
        return error.status
    return None


VALID = lines(b"POST /v2/models/m/infer HTTP/1.1", b"Host: localhost", b"Content-Length: 5", b"Accept: */*")


@given(st.integers(0, len(VALID) - 1), st.integers(0, 2), st.binary(max_size=3))
def test_refused_early_means_refused(at: int, removed: int, inserted: bytes) -> None:
    data = VALID[:at] + inserted + VALID[at + removed :]
    stop = data.find(b"\r\n\r\n")
    if stop < 0 or data.startswith(b"\r\n"):
        return
    data = data[: stop + 4]
    whole = verdict(Heads(_Site()).find, data)
    for end in range(1, len(data)):
        early = verdict(check_partial, data[:end])
        assert early is None or whole is not None
    if whole is None:
        assert data.count(b"\n") == data.count(b"\r") == data.count(b"\r\n")


@given(st.binary(max_size=200))
def test_any_bytes_get_a_verdict(noise: bytes) -> None:
    verdict(Heads(_Site()).find, noise + b"\r\n\r\n")
    verdict(check_partial, noise or b"x")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 65536, 414),
        (b"GET / HTTP/1.1\r\n" + b"A: " + b"a" * 65536, 431),
        (b"GET / HTTP/2.0\r\n", 505),
        (b"GET /\r\n", 400),
        (b"\x16\x03", 400),
    ],
)
def test_parts_that_can_not_become_valid(data: bytes, status: int) -> None:
    assert verdict(check_partial, data) == status


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_heads_of_a_traced_client_are_understood_once() -> None:
    site = _Site()
    heads = Heads(site)
    plain = lines(b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: 3")
    for number in (b"1", b"2", b"3"):
        parent = PARENT[:-1] + number
        traced = lines(
            b"POST /x HTTP/1.1", b"Host: a", b"TraceParent:  " + parent + b" ", b"Content-Length: 3", b"tracestate: k=v"
        )
        head = heads.find(traced)
        assert (head.traceparent, head.tracestate, head.length) == (parent, b"k=v", 3)
        assert head.infer is heads.find(plain).infer
    assert (heads.find(plain).traceparent, heads.find(plain).tracestate) == (b"", b"")
    assert site.asked == [(b"POST", b"/x")]


def test_heads_whose_trace_is_forwarded_are_understood_each() -> None:
    site = _Site()
    heads = Heads(site, HttpForwarding("^trace"))
    for number in (b"1", b"2", b"2"):
        traced = lines(b"POST /x HTTP/1.1", b"Host: a", b"traceparent: " + PARENT[:-1] + number, b"Content-Length: 3")
        head = heads.find(traced)
        assert (head.traceparent, head.length) == (PARENT[:-1] + number, 3)
    assert site.asked == [(b"POST", b"/x")] * 3
    plain = lines(b"POST /x HTTP/1.1", b"Host: a", b"Content-Length: 3")
    assert heads.find(plain) is heads.find(plain)


def test_what_is_forwarded() -> None:
    forwarding = HttpForwarding("^(x-|key)", ["Key"])
    headers = [(b"Host", b"a"), (b"X-B", b"\xc3\xa9"), (b"KEY", b"secret"), (b"x-b", b"2"), (b"keys", b"")]
    assert forwarding.forwarded(headers) == ([("X-B", "é"), ("x-b", "2"), ("keys", "")], "")
    assert forwarding.forwarded([(b"x-a", b"\xff")])[1] == (
        "Header 'x-a' cannot be forwarded: its value is not UTF-8 text."
    )
    assert not forwarding.of_traces
    assert HttpForwarding("parent").of_traces
    assert HttpForwarding("").forwarded(headers) == ([], "")
    with pytest.raises(InvalidArgument, match="--http-header-forward-pattern: .* is not a regular expression of RE2"):
        HttpForwarding("(")


@pytest.mark.parametrize(
    ("headers", "traceparent"),
    [
        ([b"traceparent: a", b"traceparent: b"], b"a,b"),
        ([b"tracestate: a"], b""),
        ([b"x-traceparent: a"], b""),
        ([b"x: traceparent: a"], b""),
        ([b"traceparent:"], b""),
    ],
)
def test_what_counts_as_a_trace(headers: list[bytes], traceparent: bytes) -> None:
    head = Heads(_Site()).find(lines(b"POST /x HTTP/1.1", b"Host: a", *headers))
    assert head.traceparent == traceparent


@pytest.mark.parametrize(
    "line", [b"traceparent: a\x00", b"traceparent : a", b"traceparent: a\r\n b", b"traceparent: \x7f"]
)
def test_a_trace_hides_nothing_from_the_parser(line: bytes) -> None:
    with pytest.raises(HeadError):
        Heads(_Site()).find(lines(b"POST /x HTTP/1.1", b"Host: a", line))


def test_a_trace_does_not_get_around_the_limits() -> None:
    with pytest.raises(HeadError) as caught:
        Heads(_Site()).find(lines(b"POST /x HTTP/1.1", b"Host: a", b"traceparent: " + b"a" * 70000))
    assert caught.value.status == 431
