# SPDX-License-Identifier: Apache-2.0
"""Our decoder of chunked bodies against llhttp, on bodies that are right, nearly right and cut anywhere."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyinfer.frontends.chunked import ChunkedBody, ChunkError

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class Reference:
    """llhttp's opinion of one body."""

    def __init__(self, body: bytes) -> None:
        self.data = b""
        self.complete = False
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(HEAD)
        self.error = False
        try:
            parser.feed_data(body)
        except httptools.HttpParserError:
            self.error = True

    def on_body(self, data: bytes) -> None:
        self.data += data

    def on_message_complete(self) -> None:
        self.complete = True


def decode(body: bytes, pieces: int) -> tuple[bytes, int, bool]:
    """(data, length of the encoded body, whether it ended), fed in pieces of that size."""
    data = bytearray()

    def append(part: bytes) -> bool:
        data.extend(part)
        return True

    decoder = ChunkedBody(append)
    used = 0
    while used < len(body) and not decoder.done:
        piece = body[used : used + pieces]
        took = decoder.feed(piece, 0)
        assert took == len(piece) or decoder.done
        used += took
    return bytes(data), used, decoder.done


@st.composite
def encoded(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """(data, a valid encoding of it)."""
    parts = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=6))
    body = b""
    for part in parts:
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"000%X"])) % len(part)
        body += size + draw(st.sampled_from([b"", b";a", b";a=b", b';a="b c"'])) + b"\r\n" + part + b"\r\n"
    body += draw(st.sampled_from([b"0", b"000", b"0;x=y"])) + b"\r\n"
    body += draw(st.sampled_from([b"", b"T: v\r\n", b"A:\r\nB: c d\r\n"])) + b"\r\n"
    return b"".join(parts), body


@given(encoded(), st.integers(1, 60), st.binary(max_size=20))
def test_valid_bodies(case: tuple[bytes, bytes], pieces: int, rest: bytes) -> None:
    data, body = case
    found, used, done = decode(body + rest, pieces)
    assert (found, used, done) == (data, len(body), True)
    reference = Reference(body)
    assert (reference.data, reference.complete, reference.error) == (data, True, False)


@given(encoded(), st.data())
@example((b"ab", b"2\nab\r\n0\r\n\r\n"), None)
@settings(max_examples=400)
def test_never_more_lenient_than_llhttp(case: tuple[bytes, bytes], data: st.DataObject | None) -> None:
    """But for blanks around what parts an extension: RFC 9112, 7.1.1 has them taken out, and llhttp refuses them."""
    body = bytearray(case[1])
    blank = len(body)
    if data is not None:
        at = data.draw(st.integers(0, len(body) - 1))
        change = data.draw(st.sampled_from([b"", b"\n", b"\r", b" ", b"-", b"g", b";", b"\0", b"\r\n", b"0"]))
        body[at : at + data.draw(st.integers(0, 1))] = change
        blank = at if change == b" " else blank
    for pieces in (1, 3, len(body) + 1):
        try:
            found, used, done = decode(bytes(body), pieces)
        except ChunkError:
            continue
        # until its end a body is not executed, so a line that can not end well may be refused a little later
        if done:
            taken = bytes(body[:used])
            opinions = [Reference(taken), Reference(taken[:blank] + taken[blank + 1 :])]
            assert (found, True, False) in [(one.data, one.complete, one.error) for one in opinions]


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"g\r\n",
        b" 1\r\n",
        b"1 \r\n",
        b"+1\r\n",
        b"0x1\r\n",
        b"1_0\r\n",
        b"1\n",
        b"1;\x01\r\n",
        b"1\rx",
        b"1\r\nab",
        b"1\r\na\n",
        b"1\r\na\rx",
        b"0\r\nx\r\n\r\n",
        b"0\r\n: x\r\n\r\n",
        b"0\r\nA : x\r\n\r\n",
        b"0\r\n folded\r\n\r\n",
        b"0" * 17 + b"\r\n",
        b"f" * 16 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"x" * 5000,
        b"0\r\n" + b"A: b\r\n" * 101,
        b"1\r\na\r\n" * 65537,
    ],
)
def test_refused(body: bytes) -> None:
    for pieces in (1, 4096, len(body)):
        with pytest.raises(ChunkError):
            decode(body + b"\r\n", pieces)


def test_limit_of_the_receiver() -> None:
    with pytest.raises(ChunkError, match="too large"):
        ChunkedBody(lambda part: False).feed(b"1\r\na\r\n", 0)
