# SPDX-License-Identifier: Apache-2.0
"""Row 35: the faults of RFC 9113 and RFC 7541: the cases of h2spec, and some that it does not have."""

from __future__ import annotations

import struct

import pytest

from faults import h2raw as h2
from faults.h2cases import (
    CLOSED,
    COMPRESSION,
    DATA,
    FLOW_CONTROL,
    FRAME_SIZE,
    GOOD,
    LAST,
    OPEN,
    PREFIX,
    PROTOCOL,
    RESET,
    WHOLE,
    Check,
    answers,
    connection_ends,
    headers,
    literal,
    request,
    stream_ends,
)
from faults.h2raw import END_STREAM, H2, PADDED, PRIORITIZED, Ending, frame, grpc_headers, settings
from faults.h2spec import CASES
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")


def test_row_35_all_of_h2spec_is_here() -> None:
    counts = [sum(name.startswith(part + "/") for name in CASES) for part in ("generic", "http2", "hpack")]
    assert counts == [44, 95, 8]


@pytest.mark.parametrize("name", CASES)
def test_row_35_h2spec(server: RunningServer, name: str) -> None:
    case = CASES[name]
    preface = b"" if "invalid connection preface" in name else h2.PREFACE
    with H2(server.grpc_port, pairs=case.pairs, preface=preface) as connection:
        if case.closed:
            connection.send(OPEN + LAST).reply(1)
        case.check(connection.send(case.sent))


def answers_others(connection: H2) -> None:
    assert connection.call(101, PREFIX).status == 0


#: what is sent after the settings, and what may happen
MORE: dict[str, tuple[bytes, Check]] = {
    "5.1 reset: WINDOW_UPDATE": (OPEN + RESET + h2.window_update(1, 100), answers_others),
    "5.1 reset twice": (OPEN + RESET + RESET, answers_others),
    "5.1.1 streams that are left out may not come later": (
        frame(1, 5, 1, GOOD) + frame(1, 5, 9, GOOD) + frame(1, 5, 21, GOOD) + frame(1, 5, 7, GOOD),
        connection_ends(PROTOCOL),
    ),
    "5.1.1 streams that are left out": (frame(1, 5, 41, GOOD) + frame(1, 5, 99, GOOD), answers_others),
    "6.1 DATA without its pad length": (
        OPEN + frame(h2.DATA, PADDED | 1, 1, b""),
        connection_ends(PROTOCOL, FRAME_SIZE),
    ),
    "6.2 HEADERS without their priority": (
        frame(h2.HEADERS, PRIORITIZED | 5, 1, b"\0\0"),
        connection_ends(PROTOCOL, FRAME_SIZE),
    ),
    "6.2 padded HEADERS with priority": (
        frame(1, PADDED | PRIORITIZED | 5, 1, b"\2" + struct.pack(">IB", 0, 15) + GOOD + b"\0\0"),
        answers,
    ),
    "6.5 SETTINGS on a stream, empty": (frame(h2.SETTINGS, 0, 1, b""), connection_ends(PROTOCOL)),
    "6.8 GOAWAY of 4 bytes": (frame(h2.GOAWAY, 0, 0, b"\0" * 4), connection_ends(FRAME_SIZE)),
    # a stream error, by libnghttp2's choice, where the RFC says connection error
    "6.9.2 INITIAL_WINDOW_SIZE overflows a stream": (
        OPEN + h2.window_update(1, (1 << 31) - 65537) + settings((4, (1 << 31) - 1)),
        stream_ends(FLOW_CONTROL),
    ),
    "8.1 trailers of a call": (OPEN + DATA + headers(1, ("x-test", "ok")) + LAST, stream_ends(CLOSED)),
    "8.2.1 blank in a name": (request(("x test", "ok")), stream_ends(PROTOCOL)),
    "8.2.1 empty name": (request(("", "ok")), stream_ends(PROTOCOL)),
    "8.2.1 line end in a value": (request(("x-test", "a\r\nb: c")), stream_ends(PROTOCOL)),
    "8.2.1 NUL in a value": (request(("x-test", "a\0b")), stream_ends(PROTOCOL)),
    "8.2.2 transfer-encoding": (request(("transfer-encoding", "chunked")), stream_ends(PROTOCOL)),
    "8.1.1 two content-lengths": (request(("content-length", "5"), ("content-length", "5")), stream_ends(PROTOCOL)),
    "8.1.1 malformed content-length": (request(("content-length", "-5")), stream_ends(PROTOCOL)),
    "8.4 PUSH_PROMISE on an open stream": (
        OPEN + frame(h2.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + GOOD),
        connection_ends(PROTOCOL),
    ),
    "hpack 5.1 endless integer": (
        literal(GOOD + b"\x7f" + b"\x80" * 100 + b"\x01"),
        connection_ends(COMPRESSION),
    ),
    "hpack 5.2 string beyond the block": (literal(GOOD + b"\x40\x7f\xff\xff\x7f"), connection_ends(COMPRESSION)),
}


@pytest.mark.parametrize("name", MORE)
def test_row_35_beyond_h2spec(server: RunningServer, name: str) -> None:
    sent, check = MORE[name]
    with H2(server.grpc_port) as connection:
        check(connection.send(sent))


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
        assert connection.send(start + b"\0" * 100).ending() in (Ending("goaway", PROTOCOL), Ending("closed"))


def test_row_35_preface_without_settings(server: RunningServer) -> None:
    with H2(server.grpc_port, preface=b"") as connection:
        ending = connection.send(h2.PREFACE + WHOLE).ending()
        assert ending in (Ending("goaway", PROTOCOL), Ending("closed"))


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
