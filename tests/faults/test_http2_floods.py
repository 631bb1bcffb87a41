# SPDX-License-Identifier: Apache-2.0
"""Row 35: floods of HTTP/2 frames, in the numbers that broke servers."""

from __future__ import annotations

import contextlib
import struct
from functools import cache
from pathlib import Path

import pytest

from faults import h2raw as h2
from faults.client import message
from faults.guard import counter, peak_growth
from faults.h2raw import END_HEADERS, END_STREAM, H2, Ending, block, frame, grpc_headers, settings
from pyinfer.testing import RunningServer
from waiting import eventually

pytestmark = pytest.mark.usefixtures("guarded")

MIB = 1 << 20
# libnghttp2 has a limit of its own, of the same size, that says INTERNAL_ERROR where ours says ENHANCE_YOUR_CALM
CALM = (Ending("goaway", 11), Ending("goaway", 2), Ending("closed"))
GOOD = block(grpc_headers())
PREFIX = b"\0\0\0\0\0"
CANCEL = struct.pack(">I", 8)


def streams(count: int) -> range:
    return range(1, 2 * count, 2)


@cache
def infer_payloads(model: str) -> tuple[bytes, bytes]:
    request = message(model, ("INPUT0", "FP32", (1, 1)), raw=[bytes(4)]).SerializeToString()
    return block(grpc_headers("ModelInfer")), b"\0" + len(request).to_bytes(4, "big") + request


def infer_frames(stream: int, model: str = "fp32") -> bytes:
    head, body = infer_payloads(model)
    return frame(h2.HEADERS, END_HEADERS, stream, head) + frame(h2.DATA, END_STREAM, stream, body)


def test_row_35_rapid_reset(server: RunningServer, gate: Path) -> None:
    """CVE-2023-44487. Each call is complete and reset at once: none is executed but the one that had begun by then."""
    with H2(server.grpc_port) as connection:
        for stream in streams(100_000):
            connection.send(infer_frames(stream, "gate") + frame(h2.RST_STREAM, 0, stream, CANCEL))
        assert connection.ending() in CALM
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 0, "requests are left")
    executed = counter(server, "nv_inference_request_success", "gate")
    (gate / "open").touch()
    with H2(server.grpc_port) as connection:
        head, body = infer_payloads("gate")
        connection.send(frame(h2.HEADERS, END_HEADERS, 1, head) + frame(h2.DATA, END_STREAM, 1, body))
        assert connection.reply(1).status == 0  # once the instance has nothing else to do
    assert counter(server, "nv_inference_request_success", "gate") - executed in (1, 2)


@pytest.mark.parametrize(
    "provocation",
    [
        lambda stream: h2.window_update(stream, 0),
        lambda stream: h2.window_update(stream, (1 << 31) - 1),
        lambda stream: frame(h2.HEADERS, END_HEADERS, stream, GOOD),
    ],
    ids=["no increment", "overflow", "headers again"],
)
def test_row_35_made_you_reset(server: RunningServer, provocation: object) -> None:
    """CVE-2025-8671. The server is made to reset valid streams itself: that counts like resets of the client."""
    assert callable(provocation)
    with H2(server.grpc_port) as connection:
        for stream in streams(100_000):
            connection.send(frame(h2.HEADERS, END_HEADERS, stream, GOOD) + provocation(stream))
        assert connection.ending() in (*CALM, Ending("goaway", 1))  # libnghttp2 ends it at the first of them


def test_row_35_too_many_streams(server: RunningServer) -> None:
    """1024 calls may be open; those beyond are refused, and the connection lives."""
    with H2(server.grpc_port) as connection:
        connection.send(b"".join(frame(h2.HEADERS, END_HEADERS, stream, GOOD) for stream in streams(1100)))
        ending = connection.ending(2 * 1024 + 1)
        assert ending in (Ending("reset", 7), Ending("goaway", 1), Ending("closed")), ending
        if ending.how == "reset":
            assert connection.is_alive()


def test_row_35_continuation_flood(server: RunningServer) -> None:
    """CVE-2024-27316. No header block of 10^6 empty frames, or of 10^4 that hold something, is ever collected."""
    for payload, count in ((b"", 1_000_000), (b"\x40\x01a" + b"\x7f\x81\x07" + b"x" * 1000, 10_000)):

        def attack(part: bytes = payload, parts: int = count) -> None:
            with H2(server.grpc_port) as connection:
                connection.send(frame(h2.HEADERS, 0, 1, GOOD) + frame(h2.CONTINUATION, 0, 1, part) * parts)
                assert connection.ending().how in ("goaway", "closed")

        assert peak_growth(server, attack) < 8 * MIB


FLOODS = {
    "PING": frame(h2.PING, 0, 0, b"12345678"),
    "SETTINGS": settings((3, 100)),
    "empty SETTINGS": settings(),
    "PRIORITY": frame(h2.PRIORITY, 0, 1, struct.pack(">IB", 0, 15)),
    "unknown frames": frame(0x20, 0, 0, b"x"),
    "WINDOW_UPDATE": h2.window_update(0, 1),
}


@pytest.mark.parametrize("case", FLOODS)
def test_row_35_control_frames(server: RunningServer, case: str) -> None:
    """2 * 10^5 frames from a client that reads nothing: what they ask for is not kept beyond a limit."""

    def attack() -> None:
        with H2(server.grpc_port, timeout_s=2) as connection, contextlib.suppress(TimeoutError):
            for _ in range(200):
                connection.send(FLOODS[case] * 1000)
        with H2(server.grpc_port) as other:
            assert other.call(1, PREFIX).status == 0

    assert peak_growth(server, attack) < 8 * MIB


def test_row_35_empty_data(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers(), end=False)
        connection.send(frame(h2.DATA, 0, 1) * 100_000)
        ending_or_answer = connection.send(frame(h2.DATA, END_STREAM, 1, PREFIX))
        assert ending_or_answer.reply(1).status == 0


def test_row_35_padding_and_tiny_frames(server: RunningServer) -> None:
    """A message of 10^4 bytes in as many frames, each with 255 bytes of padding: flow control counts the padding."""
    size = 10_000
    with H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers(), end=False)
        connection.send(frame(h2.DATA, 0, 1, b"\0" + size.to_bytes(4, "big")))
        connection.send(frame(h2.DATA, h2.PADDED, 1, b"\xff\x7a" + bytes(255)) * (size - 1))
        assert connection.send(frame(h2.DATA, END_STREAM, 1, b"\x7a")).reply(1).status in (0, 3)


def test_row_35_header_bomb(server: RunningServer) -> None:
    """CVE-2016-6581. A large field in the dynamic table, then named 10^4 times: 4 KiB each when decoded."""
    entry = b"\x40\x01a\x7f\x81\x1e" + b"x" * 4000
    bomb = GOOD + entry + b"\xbe" * 10_000

    def attack() -> None:
        with H2(server.grpc_port) as connection:
            connection.send(frame(h2.HEADERS, END_HEADERS, 1, bomb) + frame(h2.DATA, END_STREAM, 1, PREFIX))
            assert connection.reply(1).status == 8
            assert connection.call(3, PREFIX).status == 0

    assert peak_growth(server, attack) < 8 * MIB


def test_row_35_large_metadata(server: RunningServer) -> None:
    """16 KiB of metadata are the limit, in one field or in many."""
    for extra in ([("a", "x" * 20_000)], [(f"a{n}", "x") for n in range(600)]):
        with H2(server.grpc_port) as connection:
            reply = connection.call(1, PREFIX, grpc_headers("ServerLive", *extra))
            assert (reply.status, reply.headers[":status"]) == (8, "200")
            assert connection.call(3, PREFIX).status == 0


def test_row_31_no_window(server: RunningServer) -> None:
    """Clients that never open a window: their answers wait, and all others flow."""
    connections = [H2(server.grpc_port, pairs=[(4, 0)]) for _ in range(20)]

    def attack() -> None:
        for connection in connections:
            connection.send(b"".join(infer_frames(stream) for stream in streams(500)))
        with H2(server.grpc_port) as other:
            assert other.call(1, PREFIX).status == 0

    assert peak_growth(server, attack) < 64 * MIB
    for connection in connections:
        connection.socket.close()


def test_row_31_window_of_one_byte(server: RunningServer) -> None:
    """A window that opens by one byte at a time gets its answer, byte by byte."""
    with H2(server.grpc_port, pairs=[(4, 1)]) as connection:
        connection.send(infer_frames(1))
        received = b""
        for found in connection.frames():
            if found.kind == h2.DATA:
                received += found.payload
                assert len(found.payload) <= 1
                connection.send(h2.window_update(1, 1))
            if found.kind == h2.HEADERS and found.flags & END_STREAM:
                break
        assert int.from_bytes(received[1:5], "big") == len(received) - 5


def test_row_31_never_reads(server: RunningServer) -> None:
    """Windows wide open, the socket never read: the server stops making answers."""
    with H2(server.grpc_port, pairs=[(4, (1 << 31) - 1)], timeout_s=1) as connection:
        connection.send(h2.window_update(0, (1 << 30)))

        def attack() -> None:
            with contextlib.suppress(TimeoutError):
                for stream in streams(20_000):
                    connection.send(infer_frames(stream))
            with H2(server.grpc_port) as other:
                assert other.call(1, PREFIX).status == 0

        assert peak_growth(server, attack) < 64 * MIB
