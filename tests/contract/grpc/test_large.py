# SPDX-License-Identifier: Apache-2.0
"""Large tensors over gRPC, both ways: clients whose calls go on beside each other, give up, or stop in the middle."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from contract.processes.test_workers import python
from pyinfer.testing import RunningServer, run_server

IDENTITY = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests
        ]
"""
#: elements: messages about as large as a read of the server, a frame of the client, and several of these
SIZES = (16_000, 65_536 - 16, 65_536, 200_003, 262_144, 1_048_576, 1_048_577, 5_000_000)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The model ``process`` in a process of its own, and ``core`` in the core."""
    directory = tmp_path_factory.mktemp("large")
    add_model(directory, "process", python(), {"model.py": IDENTITY})
    add_model(directory, "core", identity("TYPE_FP32", "-1", batch=0))
    with run_server(directory) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as made:
        yield made


def tensor(array: np.ndarray) -> triton.InferInput:
    made = triton.InferInput("INPUT0", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def numbers(size: int, first: int) -> np.ndarray:
    return np.arange(first, first + size, dtype=np.float32)


@pytest.mark.parametrize("model", ["core", "process"])
def test_tensors_of_any_size_beside_each_other(client: triton.InferenceServerClient, model: str) -> None:
    with ThreadPoolExecutor(6) as pool:

        def ask(number: int) -> None:
            array = numbers(SIZES[number % len(SIZES)], number)
            np.testing.assert_array_equal(client.infer(model, [tensor(array)]).as_numpy("OUTPUT0"), array)

        list(pool.map(ask, range(3 * len(SIZES))))


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed(client: triton.InferenceServerClient, algorithm: str) -> None:
    array = np.random.default_rng(0).standard_normal(700_000).astype(np.float32)
    result = client.infer("core", [tensor(array)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


def test_a_stream_of_large_and_small(client: triton.InferenceServerClient) -> None:
    answers: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    asked = [numbers(size, first) for first, size in enumerate((300_000, 1, 1_500_000, 2, 3, 70_000, 2_500_000))]
    for number, array in enumerate(asked):
        client.async_stream_infer("core", [tensor(array)], request_id=str(number))
    for _ in asked:
        result, error = answers.get(timeout=60)
        assert error is None
        assert isinstance(result, triton.InferResult)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), asked[int(result.get_response().id)])
    client.stop_stream()


def test_calls_that_are_given_up_while_they_are_sent(client: triton.InferenceServerClient) -> None:
    """Some before, some in the middle of their message, some behind it: the others on the connection go on."""
    left, stays = tensor(numbers(4_000_000, 0)), numbers(1_000_000, 7)
    for round_ in range(6):
        call = client.async_infer("process", [left], lambda result, error: None)
        kept: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
        client.async_infer("core", [tensor(stays)], lambda result, error, kept=kept: kept.put((result, error)))
        if round_ % 2:
            call.cancel()
        else:
            with pytest.raises(InferenceServerException, match="Deadline"):
                client.infer("process", [left], client_timeout=0.001 * (1 + round_))
            call.cancel()
        result, error = kept.get(timeout=60)
        assert error is None
        assert isinstance(result, triton.InferResult)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), stays)
