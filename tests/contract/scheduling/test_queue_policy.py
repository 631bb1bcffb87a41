# SPDX-License-Identifier: Apache-2.0
"""Priorities, timeouts and limits of the queue over both protocols, while the one instance is busy."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

GATE = """
import time
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    \"\"\"Notes what it executes; the value 0 waits for the file "open".\"\"\"

    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        responses = []
        for request in requests:
            array = request.inputs()[0].as_numpy()
            with (self.folder / "order").open("a") as order:
                order.write(f"{int(array.ravel()[0])}\\n")
            while array.ravel()[0] == 0 and not (self.folder / "open").exists():
                time.sleep(0.005)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return responses
"""
POLICY = """
dynamic_batching {
  priority_levels: 2 default_priority_level: 2
  priority_queue_policy { key: 1 value { default_timeout_microseconds: 60000000 allow_timeout_override: true } }
  default_queue_policy { max_queue_size: 3 }
}
"""


class Client:
    """Sends values on threads of its own: tritonclient's callers block."""

    def __init__(self, server: RunningServer, protocol: str) -> None:
        self._module: Any = http_client if protocol == "http" else grpc_client
        self._url = getattr(server, protocol)
        self._pool = ThreadPoolExecutor(16)

    def send(self, model: str, value: int, **options: int) -> Future[float]:
        return self._pool.submit(self._infer, model, value, options)

    def _infer(self, model: str, value: int, options: dict[str, int]) -> float:
        client = self._module.InferenceServerClient(self._url)
        try:
            tensor = self._module.InferInput("INPUT0", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.full((1, 1), value, np.float32))
            return float(client.infer(model, [tensor], **options).as_numpy("OUTPUT0")[0, 0])
        finally:
            client.close()


@pytest.fixture(params=["http", "grpc"])
def gate(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[RunningServer, Client, Path]]:
    """A server whose model executes the value 0 until ``open`` exists."""
    config = (
        identity("TYPE_FP32", "1", batch=1).replace('"identity"', '"python"').replace("dynamic_batching { }", POLICY)
    )
    folder = add_model(tmp_path, "gate", config, {"model.py": GATE})
    with run_server(tmp_path) as server:
        client = Client(server, request.param)
        first = client.send("gate", 0)
        eventually((folder / "order").exists, "the model began")
        yield server, client, folder
        (folder / "open").touch()
        assert first.result(timeout=60) == 0


def pending(server: RunningServer) -> int:
    return counter(server, "nv_inference_pending_request_count", "gate")


def test_higher_priority_is_executed_first(gate: tuple[RunningServer, Client, Path]) -> None:
    server, client, folder = gate
    calls: list[Future[float]] = []
    for value, priority in ((1, 2), (2, 0), (3, 1), (4, 1)):
        calls.append(client.send("gate", value, priority=priority))
        eventually(lambda: pending(server) == len(calls), "the request waits")
    (folder / "open").touch()
    assert [call.result(timeout=60) for call in calls] == [1, 2, 3, 4]
    assert (folder / "order").read_text().split() == ["0", "3", "4", "1", "2"]


def test_a_timeout_acts_while_the_instance_is_busy(gate: tuple[RunningServer, Client, Path]) -> None:
    server, client, folder = gate
    call = client.send("gate", 5, priority=1, timeout=1000)
    error = call.exception(timeout=60)  # the gate is still closed
    assert isinstance(error, InferenceServerException)
    assert "Request timeout expired" in str(error)
    assert counter(server, "nv_inference_request_failure", "gate", reason="REJECTED") == 1
    assert (folder / "order").read_text().split() == ["0"]


def test_each_level_has_its_limit(gate: tuple[RunningServer, Client, Path]) -> None:
    server, client, folder = gate
    calls = [client.send("gate", 6) for _ in range(3)]
    eventually(lambda: pending(server) == 3, "the level is full")
    error = client.send("gate", 7).exception(timeout=60)
    assert "Exceeds maximum queue size" in str(error)
    calls.append(client.send("gate", 6, priority=1))  # another level
    eventually(lambda: pending(server) == 4, "the other level takes it")
    (folder / "open").touch()
    assert [call.result(timeout=60) for call in calls] == [6] * 4
