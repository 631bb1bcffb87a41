# SPDX-License-Identifier: Apache-2.0
"""FaultProxy in front of a plain echo server."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from pyinfer.testing import FaultProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets."""
    listener = socket.create_server(("127.0.0.1", 0))

    def carry(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=carry, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def connect(proxy: FaultProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=60)


def receive(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := connection.recv(65536)):
        data += piece
    return data


@pytest.mark.parametrize("faults", [{}, {"delay_s": 0.01}, {"bytes_per_s": 1000.0}, {"cut_after": 1000}])
def test_bytes_pass(echo: int, faults: dict[str, float]) -> None:
    with FaultProxy(echo, **faults) as proxy, connect(proxy) as connection:  # type: ignore[arg-type]
        connection.sendall(b"x" * 100)
        assert receive(connection, 100) == b"x" * 100
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""


def test_cut(echo: int) -> None:
    with FaultProxy(echo, cut_after=10) as proxy, connect(proxy) as connection:
        connection.sendall(b"x" * 10)
        assert receive(connection, 10) == b"x" * 10
        connection.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_reset_all(echo: int) -> None:
    with FaultProxy(echo) as proxy, connect(proxy) as connection:
        connection.sendall(b"x")
        assert receive(connection, 1) == b"x"
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
        with connect(proxy) as again:
            again.sendall(b"y")
            assert receive(again, 1) == b"y"


def test_nobody_behind_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with FaultProxy(free) as proxy, connect(proxy) as connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""
