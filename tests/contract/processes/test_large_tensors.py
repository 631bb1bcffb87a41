# SPDX-License-Identifier: Apache-2.0
"""Large outputs of a model in a worker process, of which some are, or were, the memory of its inputs."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client

from contract.conftest import add_model
from contract.processes.test_workers import python
from pyinfer.testing import RunningServer, run_server

MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.kept = []

    def execute(self, requests):
        for array in self.kept:
            array[:] = -1
        self.kept.clear()
        return [self.answer(request.inputs()[0].as_numpy(), request) for request in requests]

    def answer(self, array, request):
        how = request.parameters()
        if "tail" in how:
            array = array[1000:]
        elif "changed" in how:
            array += 1
        elif "kept" in how:
            self.kept.append(array)
        elif "new" in how:
            array = array * 2
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])
"""

EXPECTED: dict[str, Any] = {
    "same": lambda array: array,
    "tail": lambda array: array[1000:],
    "changed": lambda array: array + 1,
    "kept": lambda array: array,
    "new": lambda array: array * 2,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    directory = tmp_path_factory.mktemp("large")
    add_model(directory, "parts", python(), {"model.py": MODEL})
    with run_server(directory) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


def test_answers_stay_as_they_were_while_others_are_executed(server: RunningServer) -> None:
    """All are asked at once, so that most answers wait for the client while the worker goes on."""
    answered: queue.SimpleQueue[tuple[int, Any, Any]] = queue.SimpleQueue()
    asked: list[tuple[str, Any]] = []
    with grpc_client.InferenceServerClient(server.grpc) as client:
        for number in range(30):
            how = list(EXPECTED)[number % len(EXPECTED)]
            array = np.arange(400_000 + number, dtype=np.float32) + number
            given = grpc_client.InferInput("INPUT0", list(array.shape), "FP32")
            given.set_data_from_numpy(array)
            asked.append((how, array))

            def keep(result: Any, error: Any, number: int = number) -> None:
                answered.put((number, result, error))

            client.async_infer("parts", [given], keep, parameters={how: True})
        for _ in asked:
            number, result, error = answered.get(timeout=60)
            assert error is None
            how, array = asked[number]
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), EXPECTED[how](array), how)
