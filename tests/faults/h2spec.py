# SPDX-License-Identifier: Apache-2.0
"""The 147 cases of h2spec, told again: what is sent after the exchange of settings, and what the server may do then.

Each has the number that h2spec gives it, whose sections are those of RFC 7540 and RFC 7541, and the clause that it
tests in RFC 9113 where that has another number. It does NOT send anything; test_http2_conformance.py does.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from faults import h2raw as h2
from faults.h2cases import (
    CLOSED,
    COMPRESSION,
    DATA,
    FLOW_CONTROL,
    FRAME_SIZE,
    GOOD,
    LAST,
    MOST,
    OPEN,
    PREFIX,
    PROTOCOL,
    REFUSED,
    RESET,
    UPDATE,
    WHOLE,
    Check,
    acknowledges_settings,
    answers,
    connection_ends,
    headers,
    in_parts,
    literal,
    lives,
    lives_or_closes,
    priority,
    repeats_its_data,
    request,
    says_goaway,
    sends,
    stream_ends,
    string,
)
from faults.h2raw import END_HEADERS, PADDED, PRIORITIZED, frame, grpc_headers, settings

__all__ = ["CASES", "Case"]


@dataclass(frozen=True)
class Case:
    """``sent`` after the settings (``pairs`` in them), then ``check``. ``closed``: stream 1 was used up before."""

    clause: str
    sent: bytes
    check: Check
    closed: bool = False
    pairs: tuple[tuple[int, int], ...] = field(default=())


GENERIC = {
    "1/1 client connection preface": Case("3.4", b"", lives),
    "2/1 PRIORITY on an idle stream": Case("5.1", priority(1) + WHOLE, answers),
    "2/2 WINDOW_UPDATE on a half-closed (remote) stream": Case("5.1", WHOLE + UPDATE, answers),
    "2/3 PRIORITY on a half-closed (remote) stream": Case("5.1", WHOLE + priority(1), answers),
    "2/4 RST_STREAM on a half-closed (remote) stream": Case("5.1", WHOLE + RESET, lives),
    "2/5 PRIORITY on a closed stream": Case("5.1", priority(1), lives, closed=True),
    "3.1/1 DATA": Case("6.1", OPEN + LAST, answers),
    "3.1/2 several DATA": Case("6.1", OPEN + frame(0, 0, 1, PREFIX[:2]) + frame(0, 1, 1, PREFIX[2:]), answers),
    "3.1/3 DATA with padding": Case("6.1", OPEN + frame(0, PADDED | 1, 1, b"\6" + PREFIX + bytes(6)), answers),
    "3.2/1 HEADERS": Case("6.2", WHOLE, answers),
    "3.2/2 HEADERS with padding": Case("6.2", frame(1, PADDED | 5, 1, b"\6" + GOOD + bytes(6)), answers),
    "3.2/3 HEADERS with priority": Case("6.2", frame(1, PRIORITIZED | 5, 1, priority(1)[9:] + GOOD), answers),
    "3.3/1 PRIORITY of weight 1": Case("6.3", priority(1, 0, 0) + WHOLE, answers),
    "3.3/2 PRIORITY of weight 256": Case("6.3", priority(1, 0, 255) + WHOLE, answers),
    "3.3/3 PRIORITY with a dependency": Case("6.3", priority(1, 3) + WHOLE, answers),
    "3.3/4 PRIORITY with an exclusive dependency": Case("6.3", priority(1, 3, exclusive=True) + WHOLE, answers),
    "3.3/5 PRIORITY on an idle stream, HEADERS on a lower one": Case("6.3", priority(5) + WHOLE, answers),
    "3.4/1 RST_STREAM": Case("6.4", OPEN + RESET, lives),
    "3.5/1 SETTINGS": Case("6.5", settings((3, 100)), acknowledges_settings),
    "3.7/1 PING": Case("6.7", frame(h2.PING, 0, 0, b"h2spec\0\0"), repeats_its_data),
    "3.8/1 GOAWAY": Case("6.8", frame(h2.GOAWAY, 0, 0, bytes(8)), lives_or_closes),
    "3.9/1 WINDOW_UPDATE of the connection": Case("6.9", h2.window_update(0, 1), lives),
    "3.9/2 WINDOW_UPDATE of a stream": Case("6.9", OPEN + UPDATE + LAST, answers),
    "3.10/1 CONTINUATION": Case("6.10", in_parts(5), answers),
    "3.10/2 several CONTINUATION": Case("6.10", in_parts(5, 4, 3), answers),
    "4/1 GET": Case("8.1", request(method="GET"), answers),
    "4/2 HEAD": Case("8.1", request(method="HEAD"), answers),
    "4/3 POST": Case("8.1", OPEN + LAST, answers),
    "4/4 POST with trailers": Case("8.1", OPEN + DATA + headers(1, ("x-test", "ok")), answers),
    "5/1 indexed field": Case("hpack 6.1", literal(GOOD + b"\x90"), answers),
    # user-agent is the name of index 58
    **{
        f"5/{2 + 4 * kind + 2 * new + huffman} literal field, {how}, {'new' if new else 'indexed'} name"
        + (", Huffman" if huffman else ""): Case(
            clause,
            literal(GOOD + (b"%c" % start + string(b"test", huffman) if new else index) + string(b"test", huffman)),
            answers,
        )
        for kind, (how, clause, start, index) in enumerate(
            (
                ("incremental indexing", "hpack 6.2.1", 0x40, b"\x7a"),
                ("no indexing", "hpack 6.2.2", 0, b"\x0f\x2b"),
                ("never indexed", "hpack 6.2.3", 0x10, b"\x1f\x2b"),
            )
        )
        for new in (False, True)
        for huffman in (False, True)
    },
    "5/14 size of the dynamic table": Case("hpack 6.3", literal(b"\x20" + GOOD), answers),
    "5/15 two sizes of the dynamic table": Case("hpack 4.2", literal(b"\x20\x3f\xe1\x1f" + GOOD), answers),
}


METADATA = headers(1, *grpc_headers("ServerMetadata"), flags=END_HEADERS) + LAST

HTTP2 = {
    "3.5/1 client connection preface": Case("3.4", b"", lives),
    "3.5/2 invalid connection preface": Case("3.4", b"INVALID CONNECTION PREFACE\r\n\r\n", connection_ends(PROTOCOL)),
    "4.1/1 frame of unknown type": Case("4.1", frame(0x16, 0, 0, bytes(8)), lives),
    "4.1/2 frame with undefined flags": Case("4.1", frame(h2.PING, 0x16, 0, bytes(8)), lives),
    "4.1/3 frame with the reserved bit": Case("4.1", frame(h2.PING, 0x16, 1 << 31, bytes(8)), lives),
    "4.2/1 DATA of 2^14 bytes": Case(
        "4.2", OPEN + frame(0, 0, 1, b"\0\0\0\x40\0") + frame(0, 1, 1, b"\x7a" * (1 << 14)), answers
    ),
    "4.2/2 DATA over the limit": Case("4.2", OPEN + frame(0, 0, 1, bytes((1 << 20) + 1)), stream_ends(FRAME_SIZE)),
    "4.2/3 HEADERS over the limit": Case("4.2", frame(1, 5, 1, bytes((1 << 20) + 1)), connection_ends(FRAME_SIZE)),
    "4.3/1 invalid header block": Case("4.3", literal(b"\xff" * 7), connection_ends(COMPRESSION)),
    "4.3/2 PRIORITY within a header block": Case("4.3", frame(1, 0, 1, GOOD) + priority(1), connection_ends(PROTOCOL)),
    "4.3/3 HEADERS of another stream within a header block": Case(
        "4.3", frame(1, 0, 1, GOOD) + frame(1, 4, 3, GOOD), connection_ends(PROTOCOL)
    ),
    "5.1/1 idle: DATA": Case("5.1", DATA, connection_ends(PROTOCOL, CLOSED)),
    "5.1/2 idle: RST_STREAM": Case("5.1", RESET, connection_ends(PROTOCOL)),
    "5.1/3 idle: WINDOW_UPDATE": Case("5.1", UPDATE, connection_ends(PROTOCOL)),
    "5.1/4 idle: CONTINUATION": Case("5.1", frame(h2.CONTINUATION, 4, 1, GOOD), connection_ends(PROTOCOL)),
    "5.1/5 half-closed (remote): DATA": Case("5.1", WHOLE + DATA, stream_ends(CLOSED)),
    "5.1/6 half-closed (remote): HEADERS": Case("5.1", WHOLE + WHOLE, stream_ends(CLOSED)),
    "5.1/7 half-closed (remote): CONTINUATION": Case(
        "5.1", WHOLE + frame(h2.CONTINUATION, 4, 1, GOOD), stream_ends(CLOSED, PROTOCOL)
    ),
    "5.1/8 closed: DATA after RST_STREAM": Case("5.1", OPEN + RESET + DATA, stream_ends(CLOSED)),
    "5.1/9 closed: HEADERS after RST_STREAM": Case("5.1", OPEN + RESET + WHOLE, stream_ends(CLOSED)),
    "5.1/10 closed: CONTINUATION after RST_STREAM": Case(
        "5.1", OPEN + RESET + frame(h2.CONTINUATION, 4, 1, GOOD), stream_ends(CLOSED, PROTOCOL)
    ),
    "5.1/11 closed: DATA": Case("5.1", DATA, stream_ends(CLOSED), closed=True),
    "5.1/12 closed: HEADERS": Case("5.1", WHOLE, connection_ends(CLOSED), closed=True),
    "5.1/13 closed: CONTINUATION": Case(
        "5.1", frame(h2.CONTINUATION, 4, 1, GOOD), connection_ends(CLOSED, PROTOCOL), closed=True
    ),
    "5.1.1/1 even stream": Case("5.1.1", frame(1, 5, 2, GOOD), connection_ends(PROTOCOL)),
    "5.1.1/2 smaller stream": Case("5.1.1", frame(1, 5, 5, GOOD) + frame(1, 5, 3, GOOD), connection_ends(PROTOCOL)),
    "5.1.2/1 more streams than allowed": Case(
        "5.1.2",
        b"".join(frame(1, END_HEADERS, stream, GOOD) for stream in range(1, 2051, 2)),
        stream_ends(PROTOCOL, REFUSED, stream=2049),
    ),
    "5.3.1/1 HEADERS that depend on themselves": Case(
        "5.3.1", frame(1, PRIORITIZED | 5, 1, priority(1, 1)[9:] + GOOD), stream_ends(PROTOCOL)
    ),
    "5.3.1/2 PRIORITY that depends on itself": Case("5.3.1", OPEN + priority(1, 1), stream_ends(PROTOCOL)),
    "5.4.1/1 connection error: closed": Case("5.4.1", frame(h2.PING, 0, 3, bytes(8)), connection_ends(PROTOCOL)),
    "5.4.1/2 connection error: GOAWAY": Case("5.4.1", frame(h2.PING, 0, 3, bytes(8)), says_goaway),
    "5.5/1 unknown extension frame": Case("5.5", frame(0x16, 0, 0, bytes(8)), lives),
    "5.5/2 unknown extension frame within a header block": Case(
        "5.5", frame(1, 0, 1, GOOD) + frame(0x16, 0, 0, bytes(8)), connection_ends(PROTOCOL)
    ),
    "6.1/1 DATA on stream 0": Case("6.1", frame(0, 1, 0, PREFIX), connection_ends(PROTOCOL)),
    "6.1/2 DATA on a stream that is not open": Case("6.1", WHOLE + DATA, stream_ends(CLOSED)),
    "6.1/3 DATA with invalid padding": Case(
        "6.1", OPEN + frame(0, PADDED | 1, 1, b"\x06test"), connection_ends(PROTOCOL)
    ),
    "6.2/1 HEADERS, then PRIORITY": Case("6.2", frame(1, 1, 1, GOOD) + priority(1), connection_ends(PROTOCOL)),
    "6.2/2 HEADERS, then HEADERS of another stream": Case(
        "6.2", frame(1, 1, 1, GOOD) + frame(1, 5, 3, GOOD), connection_ends(PROTOCOL)
    ),
    "6.2/3 HEADERS on stream 0": Case("6.2", frame(1, 5, 0, GOOD), connection_ends(PROTOCOL)),
    "6.2/4 HEADERS with invalid padding": Case(
        "6.2", frame(1, PADDED | 5, 1, b"\xff" + GOOD), connection_ends(PROTOCOL)
    ),
    "6.3/1 PRIORITY on stream 0": Case("6.3", priority(0), connection_ends(PROTOCOL)),
    "6.3/2 PRIORITY of 4 bytes": Case("6.3", OPEN + frame(h2.PRIORITY, 0, 1, bytes(4)), stream_ends(FRAME_SIZE)),
    "6.4/1 RST_STREAM on stream 0": Case("6.4", frame(h2.RST_STREAM, 0, 0, bytes(4)), connection_ends(PROTOCOL)),
    "6.4/2 RST_STREAM on an idle stream": Case("6.4", RESET, connection_ends(PROTOCOL)),
    "6.4/3 RST_STREAM of 3 bytes": Case(
        "6.4", OPEN + frame(h2.RST_STREAM, 0, 1, bytes(3)), connection_ends(FRAME_SIZE)
    ),
    "6.5/1 SETTINGS with ACK and a payload": Case("6.5", frame(4, h2.ACK, 0, bytes(6)), connection_ends(FRAME_SIZE)),
    "6.5/2 SETTINGS on a stream": Case("6.5", frame(4, 0, 1, bytes(6)), connection_ends(PROTOCOL)),
    "6.5/3 SETTINGS of 3 bytes": Case("6.5", frame(4, 0, 0, b"\0\3\0"), connection_ends(FRAME_SIZE)),
    "6.5.2/1 ENABLE_PUSH of 2": Case("6.5.2", settings((2, 2)), connection_ends(PROTOCOL)),
    "6.5.2/2 INITIAL_WINDOW_SIZE over the limit": Case("6.5.2", settings((4, 1 << 31)), connection_ends(FLOW_CONTROL)),
    "6.5.2/3 MAX_FRAME_SIZE too small": Case("6.5.2", settings((5, 16383)), connection_ends(PROTOCOL)),
    "6.5.2/4 MAX_FRAME_SIZE too large": Case("6.5.2", settings((5, 1 << 24)), connection_ends(PROTOCOL)),
    "6.5.2/5 unknown setting": Case("6.5.2", settings((0xFF, 1)), lives),
    "6.5.3/1 a setting twice": Case("6.5.3", settings((4, 100), (4, 1)) + METADATA, sends(1)),
    "6.5.3/2 SETTINGS without ACK": Case("6.5.3", settings(), acknowledges_settings),
    "6.7/1 PING": Case("6.7", frame(h2.PING, 0, 0, b"h2spec\0\0"), repeats_its_data),
    "6.7/2 PING with ACK": Case(
        "6.7", frame(h2.PING, h2.ACK, 0, b"unasked!") + frame(h2.PING, 0, 0, b"h2spec\0\0"), repeats_its_data
    ),
    "6.7/3 PING on a stream": Case("6.7", frame(h2.PING, 0, 1, bytes(8)), connection_ends(PROTOCOL)),
    "6.7/4 PING of 6 bytes": Case("6.7", frame(h2.PING, 0, 0, bytes(6)), connection_ends(FRAME_SIZE)),
    "6.8/1 GOAWAY on a stream": Case("6.8", frame(h2.GOAWAY, 0, 1, bytes(8)), connection_ends(PROTOCOL)),
    "6.9/1 WINDOW_UPDATE of nothing, connection": Case("6.9", h2.window_update(0, 0), connection_ends(PROTOCOL)),
    "6.9/2 WINDOW_UPDATE of nothing, stream": Case("6.9", OPEN + h2.window_update(1, 0), stream_ends(PROTOCOL)),
    "6.9/3 WINDOW_UPDATE of 3 bytes": Case("6.9", frame(8, 0, 0, b"\0\0\1"), connection_ends(FRAME_SIZE)),
    "6.9.1/1 window of 1": Case("6.9.1", settings((4, 1)) + METADATA, sends(1)),
    "6.9.1/2 window of the connection overflows": Case(
        "6.9.1", h2.window_update(0, MOST) * 2, connection_ends(FLOW_CONTROL)
    ),
    "6.9.1/3 window of a stream overflows": Case(
        "6.9.1", OPEN + h2.window_update(1, MOST) * 2, stream_ends(FLOW_CONTROL)
    ),
    "6.9.2/1 window changed after HEADERS": Case("6.9.2", METADATA + settings((4, 1)), sends(1), pairs=((4, 0),)),
    "6.9.2/2 negative window": Case(
        "6.9.2", METADATA, sends(3, 1, then=(settings((4, 2)) + h2.window_update(1, 2),)), pairs=((4, 3),)
    ),
    "6.9.2/3 window over the limit": Case("6.9.2", settings((4, 1 << 31)), connection_ends(FLOW_CONTROL)),
    "6.10/1 several CONTINUATION": Case("6.10", in_parts(5, 4, 3), answers),
    "6.10/2 CONTINUATION, then DATA": Case("6.10", in_parts(5, last=0) + DATA, connection_ends(PROTOCOL)),
    "6.10/3 CONTINUATION on stream 0": Case("6.10", in_parts(5, stream=0), connection_ends(PROTOCOL)),
    "6.10/4 CONTINUATION after HEADERS that end": Case(
        "6.10", OPEN + frame(h2.CONTINUATION, 4, 1, GOOD), connection_ends(PROTOCOL)
    ),
    "6.10/5 CONTINUATION after CONTINUATION that ends": Case(
        "6.10", in_parts(5) + frame(h2.CONTINUATION, 4, 1, GOOD), connection_ends(PROTOCOL)
    ),
    "6.10/6 CONTINUATION after DATA": Case(
        "6.10", OPEN + DATA + frame(h2.CONTINUATION, 4, 1, GOOD), connection_ends(PROTOCOL)
    ),
    "7/1 GOAWAY of an unknown code": Case("7", frame(h2.GOAWAY, 0, 0, struct.pack(">II", 0, 0xFF)), lives_or_closes),
    "7/2 RST_STREAM of an unknown code": Case("7", OPEN + frame(3, 0, 1, struct.pack(">I", 0xFF)), lives),
    "8.1/1 second HEADERS without END_STREAM": Case("8.1", OPEN + OPEN + LAST, stream_ends(PROTOCOL)),
    "8.1.2/1 upper case in a name": Case("8.2.1", request(("X-TEST", "ok")), stream_ends(PROTOCOL)),
    "8.1.2.1/1 unknown pseudo-header": Case("8.3", headers(1, (":test", "ok"), *grpc_headers()), stream_ends(PROTOCOL)),
    "8.1.2.1/2 pseudo-header of responses": Case(
        "8.3", headers(1, (":status", "200"), *grpc_headers()), stream_ends(PROTOCOL)
    ),
    "8.1.2.1/3 pseudo-header in trailers": Case(
        "8.3", OPEN + DATA + headers(1, (":method", "POST")), stream_ends(PROTOCOL)
    ),
    "8.1.2.1/4 pseudo-header after others": Case(
        "8.3", headers(1, *grpc_headers()[1:], grpc_headers()[0]), stream_ends(PROTOCOL)
    ),
    "8.1.2.2/1 field of the connection": Case("8.2.2", request(("connection", "keep-alive")), stream_ends(PROTOCOL)),
    "8.1.2.2/2 te other than trailers": Case("8.2.2", request(te="trailers, deflate;q=0.5"), stream_ends(PROTOCOL)),
    "8.1.2.3/1 empty :path": Case("8.3.1", request(path=""), stream_ends(PROTOCOL)),
    "8.1.2.3/2 no :method": Case("8.3.1", request(method=None), stream_ends(PROTOCOL)),
    "8.1.2.3/3 no :scheme": Case("8.3.1", request(scheme=None), stream_ends(PROTOCOL)),
    "8.1.2.3/4 no :path": Case("8.3.1", request(path=None), stream_ends(PROTOCOL)),
    **{
        f"8.1.2.3/{5 + number} {name} twice": Case(
            "8.3.1", headers(1, (name, value), *grpc_headers()), stream_ends(PROTOCOL)
        )
        for number, (name, value) in enumerate(grpc_headers()[:3])
    },
    "8.1.2.6/1 content-length of one DATA": Case(
        "8.1.1",
        headers(1, *grpc_headers("ServerLive", ("content-length", "1")), flags=END_HEADERS) + LAST,
        stream_ends(PROTOCOL),
    ),
    "8.1.2.6/2 content-length of two DATA": Case(
        "8.1.1",
        headers(1, *grpc_headers("ServerLive", ("content-length", "9")), flags=END_HEADERS) + DATA + LAST,
        stream_ends(PROTOCOL),
    ),
    "8.2/1 PUSH_PROMISE": Case("8.4", frame(h2.PUSH_PROMISE, 5, 1, b"\0\0\0\2" + GOOD), connection_ends(PROTOCOL)),
}

HPACK = {
    "2.3.3/1 index beyond the tables": Case("hpack 2.3.3", literal(GOOD + b"\xc6"), connection_ends(COMPRESSION)),
    "2.3.3/2 index of a name beyond the tables": Case(
        "hpack 2.3.3", literal(GOOD + b"\x7f\x0f\x01a"), connection_ends(COMPRESSION)
    ),
    "4.2/1 size of the table at the end": Case("hpack 4.2", literal(GOOD + b"\x20"), connection_ends(COMPRESSION)),
    "5.2/1 Huffman padding of 8 bits": Case(
        "hpack 5.2", literal(GOOD + b"\x40\x01a\x84\x49\x50\x9f\xff"), connection_ends(COMPRESSION)
    ),
    "5.2/2 Huffman padding of zeros": Case(
        "hpack 5.2", literal(GOOD + b"\x40\x01a\x83\x49\x50\x90"), connection_ends(COMPRESSION)
    ),
    "5.2/3 Huffman EOS": Case(
        "hpack 5.2", literal(GOOD + b"\x40\x01a\x87\x49\x51\xff\xff\xff\xfa\x7f"), connection_ends(COMPRESSION)
    ),
    "6.1/1 index 0": Case("hpack 6.1", literal(GOOD + b"\x80"), connection_ends(COMPRESSION)),
    "6.3/1 size of the table over the limit": Case(
        "hpack 6.3", literal(b"\x3f\xe1\x7f" + GOOD), connection_ends(COMPRESSION)
    ),
}

#: by name: the part of h2spec, its number, what is done
CASES = {
    f"{part}/{name}": case
    for part, cases in (("generic", GENERIC), ("http2", HTTP2), ("hpack", HPACK))
    for name, case in cases.items()
}
