# SPDX-License-Identifier: Apache-2.0
"""What happens to requests in flight when their model or the server ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.conftest import GATE
from contract.service.conftest import IDENTITY, Bench, Client
from waiting import eventually


class Gate:
    """A model whose answers wait until the gate is opened."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def wait_begun(self) -> None:
        eventually((self._directory / "began").exists, "the model never began")

    def open(self) -> None:
        (self._directory / "open").touch()


@pytest.fixture
def gate(bench: Bench) -> Iterator[Gate]:
    config = IDENTITY.replace('"identity"', '"python"').replace("count: 2", "count: 1")
    made = Gate(bench.write("gated", config, model=GATE))
    yield made
    made.open()


def test_a_stop_answers_what_was_accepted(bench: Bench, gate: Gate, client: Client) -> None:
    service = bench.start()
    client.send("gated", [4.0])
    gate.wait_begun()
    service.begin_stop()
    late = Client(bench.engine)
    assert late.infer("gated", [5.0])[0] == 503
    late.close()
    stopped: list[bool] = []
    stopping = threading.Thread(target=lambda: stopped.append(service.stop(60)))
    stopping.start()
    gate.open()
    status, body = client.receive()
    assert (status, body["outputs"][0]["data"]) == (200, [4.0])
    stopping.join()
    assert stopped == [True]


def test_a_stop_ends_although_a_model_hangs(bench: Bench, gate: Gate, client: Client) -> None:
    service = bench.start()
    client.send("gated", [1.0])
    gate.wait_begun()
    waiting = Client(bench.engine)
    waiting.send("gated", [2.0])
    assert not service.stop(0.05)
    # the request that was still queued is answered, the one that executes when its model lets go of it
    assert waiting.receive()[0] == 503
    waiting.close()
    gate.open()
    assert client.receive()[0] == 200


def test_an_unload_lets_requests_in_flight_finish(bench: Bench, gate: Gate, client: Client) -> None:
    service = bench.start()
    client.send("gated", [3.0])
    gate.wait_begun()
    unloading = threading.Thread(target=service.unload_model, args=("gated",))
    unloading.start()
    while service.model_ready("gated"):
        time.sleep(0.001)
    assert service.repository_index() == [{"name": "gated", "version": "1", "state": "UNLOADING"}]
    gate.open()
    assert client.receive()[0] == 200
    unloading.join()
    assert service.repository_index() == [
        {"name": "gated", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"}
    ]


def test_a_reload_lets_requests_in_flight_finish_on_the_old_version(bench: Bench, gate: Gate, client: Client) -> None:
    service = bench.start()
    client.send("gated", [3.0])
    gate.wait_begun()
    bench.write("gated", IDENTITY)
    service.load_model("gated")
    other = Client(bench.engine)
    assert other.infer("gated", [8.0])[1]["outputs"][0]["data"] == [8.0]
    other.close()
    gate.open()
    assert client.receive()[0] == 200
