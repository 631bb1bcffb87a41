# SPDX-License-Identifier: Apache-2.0
"""What conformance tests of HTTP/2 send, and what a server may do then. It does NOT know which goes with which."""

from __future__ import annotations

import struct
from collections.abc import Callable

from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH

from faults import h2raw as h2
from faults.h2raw import END_HEADERS, END_STREAM, H2, block, frame, grpc_headers

__all__ = [
    "CLOSED",
    "COMPRESSION",
    "DATA",
    "FLOW_CONTROL",
    "FRAME_SIZE",
    "GOOD",
    "LAST",
    "MOST",
    "OPEN",
    "PREFIX",
    "PROTOCOL",
    "REFUSED",
    "RESET",
    "UPDATE",
    "WHOLE",
    "Check",
    "acknowledges_settings",
    "answers",
    "connection_ends",
    "headers",
    "in_parts",
    "literal",
    "lives",
    "lives_or_closes",
    "priority",
    "repeats_its_data",
    "request",
    "says_goaway",
    "sends",
    "stream_ends",
    "string",
]

NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, SETTINGS_TIMEOUT, CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(
    10
)

GOOD = block(grpc_headers())
PREFIX = b"\0\0\0\0\0"
OPEN = frame(h2.HEADERS, END_HEADERS, 1, GOOD)
WHOLE = frame(h2.HEADERS, END_HEADERS | END_STREAM, 1, GOOD)
DATA = frame(h2.DATA, 0, 1, PREFIX)
LAST = frame(h2.DATA, END_STREAM, 1, PREFIX)
RESET = frame(h2.RST_STREAM, 0, 1, struct.pack(">I", CANCEL))
UPDATE = h2.window_update(1, 100)
MOST = (1 << 31) - 1

Check = Callable[[H2], None]


def connection_ends(*codes: int) -> Check:
    """A connection error with one of the codes; it may also be closed without a word (RFC 9113, 5.4.1)."""

    def check(connection: H2) -> None:
        ending = connection.ending()
        assert ending.how == "closed" or (ending.how == "goaway" and ending.code in codes), ending
        list(connection.frames())  # ends: the connection is closed

    return check


def stream_ends(*codes: int, stream: int = 1) -> Check:
    """A stream error with one of the codes, or a connection error instead of it (RFC 9113, 5.4.2)."""

    def check(connection: H2) -> None:
        ending = connection.ending(stream)
        assert ending.how == "closed" or ending.code in codes, ending
        if ending.how == "reset":
            answers(connection.headers(9999, grpc_headers(), end=False).send(frame(h2.DATA, 1, 9999, PREFIX)), 9999)

    return check


def answers(connection: H2, stream: int = 1) -> None:
    """The request is answered, with whatever."""
    assert connection.reply(stream).headers[":status"]


def lives(connection: H2) -> None:
    """Nothing happens to the connection."""
    assert connection.is_alive()


def lives_or_closes(connection: H2) -> None:
    """No error: the client wants to go, and has no open calls."""
    connection.send(frame(h2.PING, 0, 0, b"is alive"))
    for found in connection.frames():
        assert found.kind != h2.GOAWAY or found.payload[4:8] == bytes(4), found
        if found.kind == h2.PING:
            return


def next_of(connection: H2, kind: int, *, ack: bool = False) -> h2.Frame:
    return next(found for found in connection.frames() if found.kind == kind and (not ack or found.flags & h2.ACK))


def acknowledges_settings(connection: H2) -> None:
    assert next_of(connection, h2.SETTINGS, ack=True).payload == b""


def repeats_its_data(connection: H2) -> None:
    assert next_of(connection, h2.PING, ack=True).payload == b"h2spec\0\0"


def says_goaway(connection: H2) -> None:
    assert connection.ending() == ("goaway", PROTOCOL)


def headers(stream: int, *fields: tuple[str, str], flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(h2.HEADERS, flags, stream, block(fields))


def request(*extra: tuple[str, str], **replaced: str | None) -> bytes:
    return headers(1, *grpc_headers("ServerLive", *extra, **replaced))


def literal(fragment: bytes) -> bytes:
    return frame(h2.HEADERS, END_HEADERS | END_STREAM, 1, fragment)


def priority(stream: int, depends_on: int = 0, weight: int = 15, *, exclusive: bool = False) -> bytes:
    return frame(h2.PRIORITY, 0, stream, struct.pack(">IB", depends_on | exclusive << 31, weight))


def string(text: bytes, huffman: bool) -> bytes:
    coded = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode(text) if huffman else text
    return bytes([len(coded) | huffman << 7]) + coded


def in_parts(*sizes: int, last: int = END_HEADERS, stream: int = 1) -> bytes:
    """The good header block, cut: HEADERS with END_STREAM, then CONTINUATION of ``stream``."""
    rest, made = GOOD, b""
    for number, size in enumerate(sizes):
        made += frame(h2.CONTINUATION if number else h2.HEADERS, 0 if number else END_STREAM, 1, rest[:size])
        rest = rest[size:]
    return made + frame(h2.CONTINUATION, last, stream, rest)


def sends(*sizes: int, then: tuple[bytes, ...] = ()) -> Check:
    """DATA of these sizes on stream 1, what ``then`` has sent before the second and so on."""

    def check(connection: H2) -> None:
        for number, size in enumerate(sizes):
            if number:
                connection.send(then[number - 1])
            assert len(next_of(connection, h2.DATA).payload) == size

    return check
