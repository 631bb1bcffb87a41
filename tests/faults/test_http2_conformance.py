# SPDX-License-Identifier: Apache-2.0
"""Row 35: the faults of RFC 9113 and RFC 7541, by section, each sent to a connection of its own.

The list follows the sections that h2spec goes through. A connection error may also be a closed connection, and a stream
error may also end the connection, as the RFC allows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from faults import h2raw as h2
from faults.h2raw import END_HEADERS, END_STREAM, H2, PADDED, PRIORITIZED, block, frame, grpc_headers, settings
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

NO_ERROR, PROTOCOL, INTERNAL, FLOW_CONTROL, SETTINGS_TIMEOUT, CLOSED, FRAME_SIZE, REFUSED, CANCEL, COMPRESSION = range(
    10
)

GOOD = block(grpc_headers())
PREFIX = b"\0\0\0\0\0"
OPEN = frame(h2.HEADERS, END_HEADERS, 1, GOOD)
WHOLE = frame(h2.HEADERS, END_HEADERS | END_STREAM, 1, GOOD)
DATA = frame(h2.DATA, 0, 1, PREFIX)
LAST = frame(h2.DATA, END_STREAM, 1, PREFIX)
PRIORITY = struct.pack(">IB", 0, 15)
RESET = frame(h2.RST_STREAM, 0, 1, struct.pack(">I", CANCEL))


def headers(stream: int, *fields: tuple[str, str], flags: int = END_HEADERS | END_STREAM) -> bytes:
    return frame(h2.HEADERS, flags, stream, block(fields))


def request(*extra: tuple[str, str], **replaced: str | None) -> bytes:
    return headers(1, *grpc_headers("ServerLive", *extra, **replaced))


def literal(fragment: bytes) -> bytes:
    return frame(h2.HEADERS, END_HEADERS | END_STREAM, 1, fragment)


# what is sent after the settings -> the codes that the connection may be ended with
CONNECTION: dict[str, tuple[bytes, set[int]]] = {
    "4.2 DATA larger than the limit": (OPEN + frame(h2.DATA, 0, 1, b"", length=(1 << 20) + 1), {FRAME_SIZE}),
    "4.2 HEADERS larger than the limit": (frame(h2.HEADERS, 4, 1, b"", length=(1 << 20) + 1), {FRAME_SIZE}),
    "4.3 header block that can not be decoded": (literal(b"\xff\xff\xff\xff\xff\xff\xff"), {COMPRESSION}),
    "4.3 PRIORITY within a header block": (frame(1, 0, 1, GOOD) + frame(2, 0, 1, PRIORITY), {PROTOCOL}),
    "4.3 other stream within a header block": (frame(1, 0, 1, GOOD) + frame(1, 4, 3, GOOD), {PROTOCOL}),
    "5.1 idle: DATA": (DATA, {PROTOCOL, CLOSED}),
    "5.1 idle: RST_STREAM": (RESET, {PROTOCOL}),
    "5.1 idle: WINDOW_UPDATE": (h2.window_update(1, 100), {PROTOCOL}),
    "5.1 idle: CONTINUATION": (frame(h2.CONTINUATION, END_HEADERS, 1, GOOD), {PROTOCOL}),
    "5.1 half-closed: CONTINUATION": (WHOLE + frame(h2.CONTINUATION, END_HEADERS, 1, GOOD), {CLOSED, PROTOCOL}),
    "5.1 reset: CONTINUATION": (OPEN + RESET + frame(h2.CONTINUATION, 4, 1, GOOD), {CLOSED, PROTOCOL}),
    "5.1 reset: HEADERS": (OPEN + RESET + WHOLE, {CLOSED, PROTOCOL}),
    "5.1.1 even stream": (frame(h2.HEADERS, 5, 2, GOOD), {PROTOCOL}),
    "5.5 extension within a header block": (frame(1, 0, 1, GOOD) + frame(0x16, 0, 0, b"x"), {PROTOCOL}),
    "6.1 DATA on stream 0": (frame(h2.DATA, 1, 0, PREFIX), {PROTOCOL}),
    "6.1 padding longer than DATA": (OPEN + frame(h2.DATA, PADDED | 1, 1, b"\x06test"), {PROTOCOL}),
    "6.1 DATA without its pad length": (OPEN + frame(h2.DATA, PADDED | 1, 1, b""), {PROTOCOL, FRAME_SIZE}),
    "6.2 HEADERS on stream 0": (frame(h2.HEADERS, 5, 0, GOOD), {PROTOCOL}),
    "6.2 padding longer than HEADERS": (frame(h2.HEADERS, PADDED | 5, 1, b"\xff" + GOOD), {PROTOCOL}),
    "6.2 HEADERS without their priority": (frame(h2.HEADERS, PRIORITIZED | 5, 1, b"\0\0"), {PROTOCOL, FRAME_SIZE}),
    "6.3 PRIORITY on stream 0": (frame(h2.PRIORITY, 0, 0, PRIORITY), {PROTOCOL}),
    "6.3 PRIORITY of 4 bytes": (OPEN + frame(h2.PRIORITY, 0, 1, b"\0\0\0\0"), {FRAME_SIZE}),
    "6.4 RST_STREAM on stream 0": (frame(h2.RST_STREAM, 0, 0, b"\0\0\0\0"), {PROTOCOL}),
    "6.4 RST_STREAM of 3 bytes": (OPEN + frame(h2.RST_STREAM, 0, 1, b"\0\0\0"), {FRAME_SIZE}),
    "6.5 SETTINGS ACK with a payload": (frame(h2.SETTINGS, 1, 0, b"\0" * 6), {FRAME_SIZE}),
    "6.5 SETTINGS on a stream": (frame(h2.SETTINGS, 0, 1, b""), {PROTOCOL}),
    "6.5 SETTINGS of 3 bytes": (frame(h2.SETTINGS, 0, 0, b"\0\3\0"), {FRAME_SIZE}),
    "6.5.2 ENABLE_PUSH of 2": (settings((2, 2)), {PROTOCOL}),
    "6.5.2 INITIAL_WINDOW_SIZE too large": (settings((4, 1 << 31)), {FLOW_CONTROL}),
    "6.5.2 MAX_FRAME_SIZE too small": (settings((5, 16383)), {PROTOCOL}),
    "6.5.2 MAX_FRAME_SIZE too large": (settings((5, 1 << 24)), {PROTOCOL}),
    "6.7 PING on a stream": (frame(h2.PING, 0, 1, b"\0" * 8), {PROTOCOL}),
    "6.7 PING of 6 bytes": (frame(h2.PING, 0, 0, b"\0" * 6), {FRAME_SIZE}),
    "6.8 GOAWAY on a stream": (frame(h2.GOAWAY, 0, 1, b"\0" * 8), {PROTOCOL}),
    "6.8 GOAWAY of 4 bytes": (frame(h2.GOAWAY, 0, 0, b"\0" * 4), {FRAME_SIZE}),
    "6.9 WINDOW_UPDATE of nothing": (h2.window_update(0, 0), {PROTOCOL}),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(h2.WINDOW_UPDATE, 0, 0, b"\0\0\1"), {FRAME_SIZE}),
    "6.9.1 window of the connection overflows": (h2.window_update(0, (1 << 31) - 1) * 2, {FLOW_CONTROL}),
    "6.10 CONTINUATION, then DATA": (frame(1, 0, 1, GOOD[:1]) + frame(9, 0, 1, GOOD[1:]) + DATA, {PROTOCOL}),
    "6.10 CONTINUATION on stream 0": (frame(1, 0, 1, GOOD[:1]) + frame(9, 4, 0, GOOD[1:]), {PROTOCOL}),
    "6.10 CONTINUATION after HEADERS that end": (OPEN + frame(9, 4, 1, GOOD), {PROTOCOL}),
    "6.10 CONTINUATION after the end": (frame(1, 0, 1, GOOD[:1]) + frame(9, 4, 1, GOOD[1:]) * 2, {PROTOCOL}),
    "6.10 CONTINUATION after DATA": (OPEN + DATA + frame(9, 4, 1, GOOD), {PROTOCOL}),
    "8.2 PUSH_PROMISE": (OPEN + frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + GOOD), {PROTOCOL}),
    "hpack 2.3.3 index beyond the tables": (literal(GOOD + b"\xc6"), {COMPRESSION}),
    "hpack 2.3.3 name index beyond the tables": (literal(GOOD + b"\x7f\x0f\x01a"), {COMPRESSION}),
    "hpack 4.2 table size at the end of a block": (literal(GOOD + b"\x20"), {COMPRESSION}),
    "hpack 5.1 endless integer": (literal(GOOD + b"\x7f" + b"\x80" * 100 + b"\x01"), {COMPRESSION}),
    "hpack 5.2 Huffman padding of 8 bits": (literal(GOOD + b"\x40\x01a\x84\x49\x50\x9f\xff"), {COMPRESSION}),
    "hpack 5.2 Huffman padding of zeros": (literal(GOOD + b"\x40\x01a\x83\x49\x50\x90"), {COMPRESSION}),
    "hpack 5.2 Huffman EOS": (literal(GOOD + b"\x40\x01a\x87\x49\x51\xff\xff\xff\xfa\x7f"), {COMPRESSION}),
    "hpack 5.2 string beyond the block": (literal(GOOD + b"\x40\x7f\xff\xff\x7f"), {COMPRESSION}),
    "hpack 6.1 index 0": (literal(GOOD + b"\x80"), {COMPRESSION}),
    "hpack 6.3 table size over the limit": (literal(b"\x3f\xe1\x7f" + GOOD), {COMPRESSION}),
}


@pytest.mark.parametrize("case", CONNECTION)
def test_row_35_connection_errors(server: RunningServer, case: str) -> None:
    sent, codes = CONNECTION[case]
    with H2(server.grpc_port) as connection:
        ending = connection.send(sent).ending()
        assert ending.how == "closed" or (ending.how == "goaway" and ending.code in codes), ending
        assert list(connection.frames()) is not None  # and then the connection is closed


# what is sent after the settings -> the codes that stream 1 may be ended with
STREAM: dict[str, tuple[bytes, set[int]]] = {
    "5.1 half-closed: DATA": (WHOLE + DATA, {CLOSED}),
    "5.1 half-closed: HEADERS": (WHOLE + WHOLE, {CLOSED, PROTOCOL}),
    "5.3.1 HEADERS that depend on themselves": (
        frame(h2.HEADERS, PRIORITIZED | 5, 1, struct.pack(">IB", 1, 15) + GOOD),
        {PROTOCOL},
    ),
    "6.9 WINDOW_UPDATE of nothing": (OPEN + h2.window_update(1, 0), {PROTOCOL}),
    "6.9.1 window of a stream overflows": (OPEN + h2.window_update(1, (1 << 31) - 1) * 2, {FLOW_CONTROL}),
    # a stream error, by libnghttp2's choice, where the RFC says connection error
    "6.9.2 INITIAL_WINDOW_SIZE overflows a stream": (
        OPEN + h2.window_update(1, (1 << 31) - 65537) + settings((4, (1 << 31) - 1)),
        {FLOW_CONTROL},
    ),
    "8.1 HEADERS within a body": (OPEN + OPEN, {PROTOCOL}),
    "8.1.2 upper case": (request(("X-TEST", "ok")), {PROTOCOL}),
    "8.1.2 blank in a name": (request(("x test", "ok")), {PROTOCOL}),
    "8.1.2 empty name": (request(("", "ok")), {PROTOCOL}),
    "8.1.2 line end in a value": (request(("x-test", "a\r\nb: c")), {PROTOCOL}),
    "8.1.2 NUL in a value": (request(("x-test", "a\0b")), {PROTOCOL}),
    "8.1.2.1 unknown pseudo-header": (headers(1, (":test", "ok"), *grpc_headers()), {PROTOCOL}),
    "8.1.2.1 :status": (headers(1, (":status", "200"), *grpc_headers()), {PROTOCOL}),
    "8.1.2.1 :method in trailers": (OPEN + DATA + headers(1, (":method", "POST")), {PROTOCOL}),
    "8.1.2.1 pseudo-header after others": (headers(1, *grpc_headers()[1:], grpc_headers()[0]), {PROTOCOL}),
    "8.1.2.2 connection": (request(("connection", "keep-alive")), {PROTOCOL}),
    "8.1.2.2 transfer-encoding": (request(("transfer-encoding", "chunked")), {PROTOCOL}),
    "8.1.2.2 te of gzip": (request(te="trailers, deflate;q=0.5"), {PROTOCOL}),
    "8.1.2.3 empty :path": (request(path=""), {PROTOCOL}),
    "8.1.2.3 no :method": (request(method=None), {PROTOCOL}),
    "8.1.2.3 no :scheme": (request(scheme=None), {PROTOCOL}),
    "8.1.2.3 no :path": (request(path=None), {PROTOCOL}),
    "8.1.2.3 two :method": (headers(1, grpc_headers()[0], *grpc_headers()), {PROTOCOL}),
    "8.1.2.3 two :scheme": (headers(1, grpc_headers()[1], *grpc_headers()), {PROTOCOL}),
    "8.1.2.3 two :path": (headers(1, grpc_headers()[2], *grpc_headers()), {PROTOCOL}),
    "8.1.2.6 content-length of one DATA": (
        headers(1, *grpc_headers("ServerLive", ("content-length", "1")), flags=END_HEADERS) + LAST,
        {PROTOCOL},
    ),
    "8.1.2.6 content-length of two DATA": (
        headers(1, *grpc_headers("ServerLive", ("content-length", "9")), flags=END_HEADERS) + DATA + LAST,
        {PROTOCOL},
    ),
    "8.1.2.6 two content-lengths": (request(("content-length", "5"), ("content-length", "5")), {PROTOCOL}),
    "8.1.2.6 malformed content-length": (request(("content-length", "-5")), {PROTOCOL}),
}


@pytest.mark.parametrize("case", STREAM)
def test_row_35_stream_errors(server: RunningServer, case: str) -> None:
    sent, codes = STREAM[case]
    with H2(server.grpc_port) as connection:
        ending = connection.send(sent).ending(1)
        assert ending.how == "closed" or ending.code in codes, ending
        if ending.how == "reset":
            assert connection.call(101, PREFIX).status == 0


def answers(connection: H2) -> bool:
    return connection.call(101, PREFIX).status == 0


def is_ping_repeated(connection: H2) -> bool:
    return connection.send(frame(h2.PING, h2.ACK, 0, b"unasked!")).is_alive()


# what is sent after the settings -> what must hold afterwards
HARMLESS: dict[str, tuple[bytes, Callable[[H2], bool]]] = {
    "4.1 unknown frame": (frame(0x16, 0, 0, b"\0" * 8) + frame(0xFF, 0xFF, 1, b"x"), answers),
    "4.1 undefined flags": (frame(h2.PING, 0x16, 0, b"\0" * 8), answers),
    "4.1 reserved bit": (frame(h2.PING, 0, 1 << 31, b"\0" * 8), answers),
    "4.2 DATA of 2^14": (OPEN + frame(0, 0, 1, b"\0\0\0\x40\0") + frame(0, 1, 1, b"\x7a" * (1 << 14)), answers),
    # an error by the RFC; libnghttp2 can not tell it from trailers of a stream that is gone, and ignores it
    "5.1.1 smaller stream": (frame(1, 5, 5, GOOD) + frame(1, 5, 3, GOOD), answers),
    "5.1 PRIORITY on an idle stream": (frame(h2.PRIORITY, 0, 7, PRIORITY), answers),
    "5.1 reset: WINDOW_UPDATE": (OPEN + RESET + h2.window_update(1, 100), answers),
    "5.1 reset twice": (OPEN + RESET + RESET, answers),
    "6.1 padded DATA": (OPEN + frame(h2.DATA, PADDED | END_STREAM, 1, b"\3" + PREFIX + b"\0\0\0"), answers),
    "6.2 padded HEADERS with priority": (
        frame(1, PADDED | PRIORITIZED | 5, 1, b"\2" + PRIORITY + GOOD + b"\0\0"),
        answers,
    ),
    "6.5.2 unknown setting": (settings((0xFF, 1)), answers),
    "6.5.3 the same setting twice": (settings((4, 100), (4, 65535)), answers),
    "6.7 PING with ACK": (b"", is_ping_repeated),
    "6.10 many CONTINUATION": (
        frame(1, 1, 1, GOOD[:5]) + frame(9, 0, 1, GOOD[5:9]) + frame(9, 4, 1, GOOD[9:]),
        answers,
    ),
    "7 unknown code in RST_STREAM": (OPEN + frame(h2.RST_STREAM, 0, 1, b"\0\0\0\xff"), answers),
    "8.1 trailers": (OPEN + LAST.replace(b"\0\1\0\0", b"\0\0\0\0", 1) + headers(1, ("x-test", "ok")), answers),
    "hpack 4.2 table size at the start": (literal(b"\x20" + GOOD), answers),
}


@pytest.mark.parametrize("case", HARMLESS)
def test_row_35_what_must_be_tolerated(server: RunningServer, case: str) -> None:
    sent, holds = HARMLESS[case]
    with H2(server.grpc_port) as connection:
        assert holds(connection.send(sent))


@pytest.mark.parametrize(
    "start",
    [
        b"INVALID CONNECTION PREFACE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"\x16\x03\x01\x02\0",
    ],
)
def test_row_35_bad_preface(server: RunningServer, start: bytes) -> None:
    with H2(server.grpc_port, preface=b"") as connection:
        assert connection.send(start + b"\0" * 100).ending() in (("goaway", PROTOCOL), ("closed", 0))


def test_row_35_preface_without_settings(server: RunningServer) -> None:
    with H2(server.grpc_port, preface=b"") as connection:
        ending = connection.send(h2.PREFACE + WHOLE).ending()
        assert ending in (("goaway", PROTOCOL), ("closed", 0))


def test_row_35_settings_are_acknowledged(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        assert any(found.kind == h2.SETTINGS and found.flags & h2.ACK for found in connection.frames())


def test_row_35_goaway_of_the_client(server: RunningServer) -> None:
    """Its calls in flight are still answered."""
    with H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers(), end=False).send(frame(h2.GOAWAY, 0, 0, struct.pack(">II", 0, 0xFF)))
        assert connection.send(LAST).reply(1).status == 0


@pytest.mark.parametrize("change", [1, 1 << 16])
def test_row_35_windows(server: RunningServer, change: int) -> None:
    """6.9.1 and 6.9.2: nothing is sent without a window; what opens it, by settings or by update, is used exactly."""
    with H2(server.grpc_port, pairs=[(4, 0)]) as connection:
        connection.headers(1, grpc_headers("ServerMetadata"), end=False).send(LAST)
        for found in connection.frames():
            assert found.kind != h2.DATA
            if found.kind == h2.HEADERS:
                break
        assert connection.is_alive()
        connection.send(settings((4, change)))
        sizes = [len(found.payload) for found in one_data(connection)]
        assert sizes == ([1] if change == 1 else sizes)
        connection.send(settings((4, 0)))  # the window is negative now, or nothing is left to send
        if change == 1:
            connection.send(h2.window_update(1, 1) + h2.window_update(1, 9))
            assert sum(len(found.payload) for found in one_data(connection)) <= 9
            connection.send(h2.window_update(1, 1 << 20))
            assert any(found.flags & END_STREAM for found in connection.frames())


def one_data(connection: H2) -> list[h2.Frame]:
    return [next(found for found in connection.frames() if found.kind == h2.DATA)]
