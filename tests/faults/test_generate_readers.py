# SPDX-License-Identifier: Apache-2.0
"""Streams over HTTP whose clients stop reading, read slowly or go away: what is held is bounded, others are served."""

from __future__ import annotations

import json
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.http.generate import event
from contract.http.raw import Raw, post
from faults.client import times
from faults.guard import Control, counter, peak_growth
from faults.test_grpc_streams import accounted
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MIB = 1 << 20


@pytest.fixture(scope="module")
def roomy(models: Path) -> Iterator[RunningServer]:
    """A server of their own: it keeps some of the memory, for the next answers."""
    with run_server(models) as server:
        control = Control(server)
        yield server
        control.stop()
        assert not control.errors, control.errors
        assert control.answers
        assert server.stop() == 0
        assert "All requests are answered, all models are stopped." in server.log


def many(count: int, elements: int) -> bytes:
    return post("/v2/models/many/generate_stream", json.dumps({"INPUT0": [count, elements]}).encode())


class Narrow(Raw):
    """A client whose system takes little before it reads."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.settimeout(60)
        self.socket.connect(("127.0.0.1", port))
        self._buffer = b""


def test_row_31_a_reader_that_stops(roomy: RunningServer) -> None:
    """A model that makes 13 GiB of events is told to stop; who then reads learns why, and may go on."""
    before = accounted(roomy, "many")
    with Narrow(roomy.http_port) as raw:

        def attack() -> None:
            raw.send(many(100_000, 65_536))
            assert raw.receive_head().status == 200
            raw.chunk()
            eventually(lambda: accounted(roomy, "many") > before, "the model goes on")

        assert peak_growth(roomy, attack) < 200 * MIB
        events = list(iter(raw.chunk, b""))
        assert [event(one)["OUTPUT0"][0] for one in events[:-1]] == list(range(1, len(events)))
        assert event(events[-1])["error"].startswith("the client does not read its responses: ")
        answer = raw.send(many(3, 1)).receive()
        assert [json.loads(line[6:])["OUTPUT0"] for line in answer.body.split(b"\n") if line] == [0, 1, 2]


def test_row_31_many_slow_readers(roomy: RunningServer) -> None:
    """500 of them, 110 MiB in all, none of whom reads before the last is answered."""
    clients, before = [Narrow(roomy.http_port) for _ in range(500)], accounted(roomy, "many")

    def attack() -> None:
        for client in clients:
            client.send(many(50, 2048))
        eventually(lambda: accounted(roomy, "many") - before == 500, "requests are left", timeout_s=120)

    assert peak_growth(roomy, attack) < 400 * MIB
    for client in clients:
        assert client.receive_head().status == 200
    for number in range(50):
        for client in clients:
            assert event(client.chunk())["OUTPUT0"] == [number] * 2048
    for client in clients:
        assert client.chunk() == b""
        client.socket.close()


@pytest.mark.timeout(600)
def test_row_47_a_million_responses(roomy: RunningServer) -> None:
    """They all come, and in order; what is in memory at a time is bounded."""
    count, received = times(1_000_000), bytearray()
    with Raw(roomy.http_port, timeout_s=60) as raw:

        def attack() -> None:
            raw.send(many(count, 1))
            while not received.endswith(b"\r\n0\r\n\r\n"):
                received.extend(raw.socket.recv(MIB))

        assert peak_growth(roomy, attack) < 200 * MIB
    assert list(map(int, re.findall(rb'"OUTPUT0":(\d+)', received))) == list(range(count))


@pytest.mark.parametrize("reads", [0, 2])
def test_row_29_clients_that_reset(roomy: RunningServer, reads: int) -> None:
    for _ in range(50):
        with Raw(roomy.http_port) as raw:
            raw.send(many(1_000_000, 10) * 2)
            if reads:
                raw.receive_head()
            for number in range(reads):
                assert event(raw.chunk())["OUTPUT0"] == [number] * 10
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    eventually(lambda: counter(roomy, "nv_inference_pending_request_count", "many") == 0, "requests are left")
