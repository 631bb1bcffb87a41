# SPDX-License-Identifier: Apache-2.0
"""Large tensors of models in worker processes.

Inputs that gRPC has received where workers read them, outputs of which some are, or were, the memory of inputs.
"""

from __future__ import annotations

import os
import queue
import signal
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from contract.processes.test_workers import python
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

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

# Tells of the larger of two inputs in which piece of memory it is, and sends it back.
TWO = """
import os
import triton_python_backend_utils as pb_utils


def memory_of(array):
    at = array.__array_interface__["data"][0]
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, _, _, inode = line.split()[:5]
            begin, end = (int(part, 16) for part in span.split("-"))
            if begin <= at < end:
                return int(inode)
    return -1


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            small, large = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("SMALL", "LARGE"))
            told = {"large": memory_of(large), "pid": os.getpid()}
            output = pb_utils.Tensor("OUTPUT0", large + small[0] if small[0] else large)
            responses.append(pb_utils.InferenceResponse([output], parameters=told))
        return responses
"""
TWO_CONFIG = """
backend: "python"
input [ { name: "SMALL" data_type: TYPE_FP32 dims: [ 1 ] }, { name: "LARGE" data_type: TYPE_FP32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ]
instance_group [ { count: 2 kind: KIND_CPU } ]
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
    add_model(directory, "two", TWO_CONFIG, {"model.py": TWO})
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


def two(module: Any, add: float, array: Any) -> list[Any]:
    inputs = [module.InferInput("LARGE", [len(array)], "FP32"), module.InferInput("SMALL", [1], "FP32")]
    inputs[0].set_data_from_numpy(array)
    inputs[1].set_data_from_numpy(np.array([add], np.float32))
    return inputs


def told(result: Any) -> dict[str, int]:
    parameters = result.get_response().parameters
    return {name: int(parameters[name].int64_param) for name in ("large", "pid")}


@pytest.mark.parametrize("add", [0, 1])
def test_a_large_input_is_read_where_it_was_received(server: RunningServer, add: int) -> None:
    """Over gRPC it is in the memory that all workers share, over HTTP in the message of its batch."""
    array = np.arange(1_000_000, dtype=np.float32)
    shared = set()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        for _ in range(4):
            result = client.infer("two", two(grpc_client, add, array))
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array + add)
            shared.add(told(result)["large"])
        assert len(shared) == 1
        assert told(client.infer("two", two(grpc_client, add, array[:100])))["large"] not in shared
    with http_client.InferenceServerClient(server.http) as client:
        result = client.infer("two", two(http_client, add, array))
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array + add)
        assert result.get_response()["parameters"]["large"] not in shared


def test_requests_of_a_stream(server: RunningServer) -> None:
    answered: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
    arrays = [np.arange(size, dtype=np.float32) for size in (1, 500_000, 70_000, 500_001, 3, 2_000_000)]
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: answered.put((result, error)))
        for number, array in enumerate(arrays):
            client.async_stream_infer("two", two(grpc_client, number % 2, array))
        for number, array in enumerate(arrays):
            result, error = answered.get(timeout=60)
            assert error is None
            np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array + number % 2)
        client.stop_stream()


def test_a_worker_dies_with_large_inputs(server: RunningServer) -> None:
    """What it had of the memory is free for others, and the next requests are answered right."""
    array = np.arange(1_000_000, dtype=np.float32)
    failures: list[str] = []

    def asks(client: Any) -> Any:
        return client.infer("two", two(grpc_client, 0, array))

    with grpc_client.InferenceServerClient(server.grpc) as client:
        for _ in range(3):
            os.kill(told(asks(client))["pid"], signal.SIGKILL)

            def is_right() -> bool:
                try:
                    result = asks(client)
                except InferenceServerException as error:
                    failures.append(str(error))
                    return False
                return bool(np.array_equal(result.as_numpy("OUTPUT0"), array))

            eventually(is_right, "the next worker answers")
    assert all("worker process" in text for text in failures), failures
