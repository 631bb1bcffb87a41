# SPDX-License-Identifier: Apache-2.0
"""Attacks by cost: what an input takes of the server must stay within a hundred times what it takes to send it.

Envoy's measure of a vulnerability: memory of 100 times the bytes, or CPU of 100 times the client's. Each input of the
other rows is sent over and over from memory, which costs a client no more than it must, and its answers are read. A
compressed body is the exception that no server without a limit of ratio can avoid: row 24 bounds it by its limit.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from contract.http.raw import Raw, post
from faults import h2raw as h2
from faults.guard import peak_growth
from faults.h2raw import END_HEADERS, END_STREAM, H2, block, frame, grpc_headers
from faults.http11 import REFUSED
from faults.test_framing import ROW_24
from faults.test_grpc_wire import MALFORMED
from faults.test_http2_floods import FLOODS
from faults.test_http_bodies import ROW_1, ROW_2, nested
from pyinfer.testing import RunningServer
from waiting import eventually

pytestmark = pytest.mark.usefixtures("guarded")

FACTOR = 100
#: less than this is not worth an attack, and not what the input made the server take
MEMORY_FLOOR = 1 << 20
#: of one input: enough that what its first occurrence alone costs does not matter
_BYTES, _COPIES = 1 << 19, 50


def copies(attack: bytes) -> int:
    return max(2, min(_COPIES, _BYTES // max(1, len(attack))))


def pipelined(server: RunningServer, request: bytes) -> None:
    """Over one connection, which is kept: answers are read as they come."""
    with Raw(server.http_port, timeout_s=60) as raw:
        count = copies(request)
        for start in range(0, count, 25):
            now = min(25, count - start)
            raw.send(request * now)
            for _ in range(now):
                assert raw.receive().status >= 400


def connections(server: RunningServer, request: bytes) -> None:
    """Each over a connection of its own, because the server closes it."""
    for _ in range(copies(request)):
        with Raw(server.http_port) as raw, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            raw.send(request)
            assert raw.receive().status >= 400


def calls(server: RunningServer, message: bytes) -> None:
    """Unary calls that follow each other over one connection."""
    head, body = block(grpc_headers("ModelInfer")), b"\0" + len(message).to_bytes(4, "big") + message
    with H2(server.grpc_port) as connection:
        for stream in range(1, 2 * copies(message), 2):
            connection.send(frame(h2.HEADERS, END_HEADERS, stream, head))
            for start in range(0, len(body), 16384):
                connection.send(frame(h2.DATA, 0, stream, body[start : start + 16384]))
            connection.send(frame(h2.DATA, END_STREAM, stream))
            assert connection.reply(stream).status > 0


def flood(server: RunningServer, frames: bytes) -> None:
    """From a client that reads nothing before its last frame, a ping: it is answered, or the connection has ended."""
    with H2(server.grpc_port) as connection:
        for _ in range(10):
            connection.send(frames * 1000)
        connection.is_alive()


INFER = "/v2/models/fp32/infer"
ATTACKS = {
    **{f"JSON: {name}": (pipelined, post(INFER, body)) for name, body in {**ROW_1, **ROW_2}.items()},
    "JSON: 10^6 levels": (pipelined, post(INFER, nested(1_000_000))),
    **{
        f"gzip: {name}": (pipelined, post(INFER, body, f"Content-Encoding: {coding}"))
        for name, (coding, body) in ROW_24.items()
    },
    **{f"HTTP: {name}": (connections, case.sent) for name, case in REFUSED.items() if not case.eof},
    **{f"gRPC: {name}": (calls, message) for name, message in MALFORMED.items()},
    **{f"frames: {name}": (flood, frames) for name, frames in FLOODS.items()},
}


def cpu_seconds(pid: int) -> float:
    """What the threads of the server have run so far. Threads of its pools stay: none of them takes its time along."""
    threads = Path("/proc", str(pid), "task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


@pytest.fixture(scope="module")
def settled(server: RunningServer) -> RunningServer:
    """After the threads were started and the pools filled that the first of many requests needs."""
    for name in ("JSON: trailing garbage", "JSON: 10^6 members", "gRPC: group"):
        attack, data = ATTACKS[name]
        attack(server, data)
    return server


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_cost_the_server_no_more_than_a_hundredfold(settled: RunningServer, name: str) -> None:
    attack, data = ATTACKS[name]
    spent: list[float] = []

    def measured() -> None:
        server_before, client_before = cpu_seconds(settled.pid), time.thread_time()
        attack(settled, data)
        client = time.thread_time() - client_before
        spent.extend((cpu_seconds(settled.pid) - server_before, client))

    grown = peak_growth(settled, measured)
    assert grown < max(MEMORY_FLOOR, FACTOR * len(data)), f"{grown} bytes for {len(data)}"
    server, client = spent
    if "PYINFER_SANITIZER" not in os.environ:
        assert server < FACTOR * client, f"{server} s for {client} s"
    eventually(settled.is_ready, "the server is not ready any more")
