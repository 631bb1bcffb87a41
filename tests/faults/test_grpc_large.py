# SPDX-License-Identifier: Apache-2.0
"""Large messages of gRPC, whose bytes are read to where they stay: what is announced, left, or broken in the middle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from faults import h2raw as h2
from faults.guard import peak_growth
from faults.h2raw import END_HEADERS, END_STREAM, H2, PADDED, block, frame, grpc_headers
from faults.test_grpc_wire import GOOD, prefixed
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

MIB = 1 << 20
CANCEL, FRAME_SIZE_ERROR = 8, 6
HEAD = block(grpc_headers("ModelInfer"))
TWO_GIB = b"\0\x7f\xff\xff\xff"
#: more than a read of the server brings, so that the rest of a frame is read to where it stays
SENT = 300_000


@pytest.fixture
def connection(server: RunningServer) -> Iterator[H2]:
    with H2(server.grpc_port) as made:
        yield made
        assert made.call(1001, prefixed(GOOD), grpc_headers("ModelInfer")).status == 0


def begin(connection: H2, stream: int) -> H2:
    return connection.send(frame(h2.HEADERS, END_HEADERS, stream, HEAD))


def test_what_is_announced_costs_nothing(server: RunningServer, connection: H2) -> None:
    def attack() -> None:
        for stream in range(1, 401, 2):
            begin(connection, stream).send(frame(h2.DATA, 0, stream, TWO_GIB + bytes(1000)))
        assert connection.is_alive()
        # the head of a frame of 1 MiB, and nothing of it
        begin(connection, 401).send(frame(h2.DATA, 0, 401, TWO_GIB + bytes(1000)))
        connection.send(frame(h2.DATA, 0, 401, length=MIB))

    assert peak_growth(server, attack) < 16 * MIB
    connection.send(bytes(MIB))  # what it owes, so that the connection goes on
    for stream in range(1, 403, 2):
        connection.send(frame(h2.RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big")))


def test_what_came_is_all_that_takes_memory(server: RunningServer, connection: H2) -> None:
    """Each message has bought room for all of its 64 MiB by what came of it."""
    announced = b"\0" + (64 * MIB).to_bytes(4, "big")
    streams = range(1, 41, 2)
    part = frame(h2.DATA, 0, 0, bytes(MIB))[9:]

    def attack() -> None:
        for stream in streams:
            begin(connection, stream).send(frame(h2.DATA, 0, stream, announced))
            connection.send(frame(h2.DATA, 0, stream, length=MIB) + part)
        assert connection.is_alive()

    assert peak_growth(server, attack) < (2 * len(streams) + 16) * MIB
    for stream in streams:
        connection.send(frame(h2.RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big")))


def test_clients_that_are_gone_in_the_middle(server: RunningServer, connection: H2) -> None:
    def attack() -> None:
        for _ in range(50):
            with H2(server.grpc_port) as leaver:
                begin(leaver, 1).send(frame(h2.DATA, 0, 1, TWO_GIB + bytes(SENT), length=MIB))
        assert connection.is_alive()

    assert peak_growth(server, attack) < 32 * MIB


def test_resets_in_the_middle(connection: H2) -> None:
    """Behind whole frames, as the protocol has it."""
    for stream in range(1, 41, 2):
        begin(connection, stream).send(frame(h2.DATA, 0, stream, TWO_GIB + bytes(SENT)))
        connection.send(frame(h2.RST_STREAM, 0, stream, CANCEL.to_bytes(4, "big")))
    assert connection.is_alive()


def test_a_frame_that_is_too_large(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        begin(connection, 1).send(frame(h2.DATA, 0, 1, TWO_GIB + bytes(SENT)))
        assert connection.is_alive()
        connection.send(frame(h2.DATA, 0, 1, bytes(SENT), length=MIB + 1))
        assert connection.ending() == ("goaway", FRAME_SIZE_ERROR)


def test_padding_that_is_longer_than_its_frame(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        begin(connection, 1).send(frame(h2.DATA, 0, 1, TWO_GIB + bytes(SENT)))
        connection.send(frame(h2.DATA, PADDED, 1, b"\xff" + bytes(100)))
        assert connection.ending().how == "goaway"


@pytest.mark.parametrize("cut", range(12))
def test_frames_that_are_cut_anywhere(connection: H2, cut: int) -> None:
    """A pause of the client right behind a frame, in the head of the next one, or behind that."""
    body = prefixed(GOOD + bytes([0xF2, 0x7F]) + _varint(3 * SENT) + bytes(3 * SENT))  # a field that nobody knows
    begin(connection, 1).send(frame(h2.DATA, 0, 1, body[:SENT]))
    rest = frame(h2.DATA, 0, 1, body[SENT : 2 * SENT]) + frame(h2.DATA, END_STREAM, 1, body[2 * SENT :])
    for start, stop in pairwise((0, cut, SENT // 2, 9 + SENT + cut, len(rest))):
        connection.send(rest[start:stop])
    assert connection.reply(1).status == 0


def _varint(value: int) -> bytes:
    encoded = b""
    while value >= 0x80:
        encoded += bytes([value & 0x7F | 0x80])
        value >>= 7
    return encoded + bytes([value])
