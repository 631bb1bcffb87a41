# SPDX-License-Identifier: Apache-2.0
"""Rows 32 to 34: very many connections, no descriptors for more of them, and connections that come and go."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.http.raw import Raw, post
from faults.client import LIVE, document, is_live, tensor
from faults.guard import Guard, peak_growth
from faults.h2raw import H2, PREFACE, settings
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

BODY = document(tensor((1, 2), [1.5, -2]))
INFER = post("/v2/models/fp32/infer", BODY)


def open_files() -> int:
    """How many sockets this process can hold, and a server that it starts, with room to spare."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 21_000) if hard > 0 else 21_000, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 1000


@pytest.fixture(scope="module")
def crowded(models: Path) -> Iterator[RunningServer]:
    open_files()  # the server inherits the limit
    with run_server(models, "--max-connections=10100") as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def crowded_guard(crowded: RunningServer) -> Iterator[Guard]:
    with Guard(crowded) as made:
        yield made


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_row_32_idle_connections(crowded: RunningServer, crowded_guard: Guard, kind: str) -> None:
    """10^4: each takes little memory, and others are served."""
    count = min(10_000, open_files())
    before = sockets(crowded.pid)
    connections: list[Raw] = []

    def attack() -> None:
        for number in range(count):
            raw = Raw(crowded.http_port if kind == "http" else crowded.grpc_port)
            raw.send(LIVE if kind == "http" else PREFACE + settings())
            connections.append(raw)
            if number % 100 == 0:
                assert is_live(crowded)
        for raw in connections:
            assert raw.receive().status == 200 if kind == "http" else raw.socket.recv(9)
        assert is_live(crowded)

    try:
        growth = peak_growth(crowded, attack)
        assert growth / count < 40 << 10
        crowded_guard.check()
        # all of them are still good for something
        for raw in connections[::100]:
            if kind == "http":
                assert raw.send(INFER).receive().document["outputs"][0]["data"] == [1.5, -2]
    finally:
        for raw in connections:
            raw.socket.close()
    with H2(crowded.grpc_port) as connection:
        assert connection.call(1, bytes(5)).status == 0
    eventually(lambda: sockets(crowded.pid) < before + 20, "connections are left")
    crowded_guard.check()


def sockets(pid: int) -> int:
    return len(list(Path("/proc", str(pid), "fd").iterdir()))


def cpu_seconds(pid: int) -> float:
    fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rests(pid: int) -> bool:
    """Whether a second passes in which the process does next to nothing."""
    before = cpu_seconds(pid)
    time.sleep(1)
    return cpu_seconds(pid) - before < 0.1


@pytest.mark.skipif(
    os.environ.get("PYINFER_SANITIZER") == "address",
    reason="UBSan looks at objects through a pipe, and takes them for broken where it gets none",
)
@pytest.mark.parametrize("kind", ["http", "grpc"])
def test_row_33_no_descriptors(models: Path, kind: str) -> None:
    """Those that there is no descriptor for are turned away; who is there is served, and it does not spin."""
    with run_server(models) as server, Raw(server.http_port) as there:
        assert there.send(INFER).receive().status == 200
        limit = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (sockets(server.pid) + 20, limit[1]))
        port = server.http_port if kind == "http" else server.grpc_port
        many = [Raw(port, timeout_s=60) for _ in range(200)]
        for _ in range(100):
            assert there.send(INFER).receive().document["outputs"][0]["data"] == [1.5, -2]
        eventually(lambda: rests(server.pid), "it spins")
        for raw in many:
            raw.socket.close()
        # and once there are descriptors again, clients are served
        eventually(lambda: served(server), "no new connection is served")
        assert there.send(INFER).receive().status == 200
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limit)
        assert server.stop() == 0


def served(server: RunningServer) -> bool:
    with Raw(server.http_port) as raw, Raw(server.grpc_port) as other:
        try:
            other.send(PREFACE + settings())
            return bool(other.socket.recv(9)) and raw.send(INFER).receive().status == 200
        except (AssertionError, OSError):  # turned away
            return False


@pytest.mark.timeout(600)
def test_row_34_connections_that_come_and_go(crowded: RunningServer, crowded_guard: Guard) -> None:
    """10^5, half of each protocol, used once: nothing of them stays."""
    before = sockets(crowded.pid)

    def use(port: int, sent: bytes, answer: bytes) -> None:
        for number in range(50_000):
            with socket.socket() as one:  # no more than it takes: the server is what is tested
                one.settimeout(60)
                one.connect(("127.0.0.1", port))
                if number % 4:
                    one.sendall(sent)
                    assert one.recv(1000).startswith(answer)

    def attack() -> None:
        with ThreadPoolExecutor(2) as pool:
            calls = [
                pool.submit(use, crowded.http_port, LIVE, b"HTTP/1.1 200 "),
                pool.submit(use, crowded.grpc_port, PREFACE + settings(), b"\0"),
            ]
        assert [call.result() for call in calls] == [None, None]

    assert peak_growth(crowded, attack) < 16 << 20
    eventually(lambda: sockets(crowded.pid) < before + 20, "connections are left")
    crowded_guard.check()
