# SPDX-License-Identifier: Apache-2.0
"""When a peer counts as one that does not read: only if neither we nor the system gets rid of a single byte."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from pyinfer._core import Engine
from pyinfer.frontends.stream import STALL_TICKS, Connection, Stream


class Transport:
    """A transport whose own buffer does not move, over a socket that is real."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.aborted = False

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self._sock if name == "socket" else None

    def get_write_buffer_size(self) -> int:
        return 1 << 20

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True


class Plain(Connection):
    class Core:
        def pause(self) -> None: ...

    def refuse_connection(self) -> None: ...

    def drain(self) -> None: ...


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        ours.setblocking(False)
        theirs = listener.accept()[0]
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def stalled(pair: tuple[socket.socket, socket.socket]) -> Plain:
    connection = Plain(Stream(None, Engine(), max_connections=1))  # type: ignore[arg-type]
    connection.transport = Transport(pair[0])  # type: ignore[assignment]
    connection.core = Plain.Core()  # type: ignore[assignment]
    try:
        while True:
            pair[0].send(bytes(1 << 16))
    except BlockingIOError:
        pass
    connection.pause_writing()
    return connection


def test_a_peer_that_reads_nothing_is_cut_off(stalled: Plain) -> None:
    for tick in range(STALL_TICKS + 1):
        stalled.sweep(tick)
    assert not stalled.transport.aborted  # type: ignore[attr-defined]
    for tick in range(STALL_TICKS + 1, STALL_TICKS + 4):
        stalled.sweep(tick)
    assert stalled.transport.aborted  # type: ignore[attr-defined]


def test_a_peer_that_reads_slowly_is_not(pair: tuple[socket.socket, socket.socket], stalled: Plain) -> None:
    """What it takes moves only the system's buffer, which is larger than ours."""
    for tick in range(5 * STALL_TICKS):
        if tick % (STALL_TICKS // 2) == 0:
            before = stalled._unread_by_peer()
            while stalled._unread_by_peer() == before:
                pair[1].recv(1 << 16)
        stalled.sweep(tick)
    assert not stalled.transport.aborted  # type: ignore[attr-defined]
