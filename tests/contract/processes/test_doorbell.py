# SPDX-License-Identifier: Apache-2.0
"""Answers of worker processes that the event loop takes itself, because the worker rings for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model, identity
from contract.processes.test_workers import python
from pyinfer.testing import RunningServer, run_server

PLAIN = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, array):
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)])
"""

# Does to the doorbell what can be done to it from a worker: fills it, and changes the flags of the end that it has.
NOISY = (
    PLAIN.replace("import triton", "import os\nimport triton", 1).replace(
        "    def answer(self, array):\n", "    def answer(self, array):\n        ring()\n"
    )
    + """

def ring():
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("pipe:"):
                os.set_blocking(int(name), False)
                while True:
                    os.write(int(name), bytes(4096))
        except BlockingIOError:
            os.set_blocking(int(name), True)
        except OSError:
            pass
"""
)

Infer = Callable[[str, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = tmp_path_factory.mktemp("models")
    for name, text in (("plain", PLAIN), ("noisy", NOISY)):
        add_model(models, name, python("TYPE_FP32"), {"model.py": text})
    add_model(models, "other", identity("TYPE_FP32", "-1", batch=0))
    with run_server(models) as running:
        yield running


@pytest.fixture(params=["grpc", "http"])
def infer(server: RunningServer, request: pytest.FixtureRequest) -> Iterator[Infer]:
    protocol = grpc_client if request.param == "grpc" else http_client
    with protocol.InferenceServerClient(getattr(server, request.param)) as client:

        def ask(model: str, array: np.ndarray) -> np.ndarray:
            tensor = protocol.InferInput("INPUT0", array.shape, "FP32")
            tensor.set_data_from_numpy(array)
            answer: np.ndarray = client.infer(model, [tensor]).as_numpy("OUTPUT0")
            return answer

        yield ask


def sleeps_of_threads(pid: int) -> int:
    """How often the threads of a process have waited for something, but for the first one, of the event loop."""
    count = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        if task.name != str(pid):
            lines = (task / "status").read_text().splitlines()
            count += sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return count


def test_small_requests_wake_no_thread_of_the_server(server: RunningServer, infer: Infer) -> None:
    requests = 400
    infer("plain", np.zeros(4, np.float32))
    before = sleeps_of_threads(server.pid)
    for number in range(requests):
        array = np.full(4, number, np.float32)
        np.testing.assert_array_equal(infer("plain", array), array)
    # The thread of the instance looks now and then, whether or not there are requests.
    assert sleeps_of_threads(server.pid) - before < requests * 3 / 4


@pytest.mark.parametrize("size", [1, 20_000, 1_000_000])
def test_answers_of_any_size_arrive(infer: Infer, size: int) -> None:
    for number in range(20):
        array = np.full(size, number, np.float32)
        np.testing.assert_array_equal(infer("plain", array), array)


def test_a_worker_that_rings_without_end_is_answered_as_others_are(server: RunningServer, infer: Infer) -> None:
    for number in range(20):
        array = np.full(4, number, np.float32)
        for model in ("noisy", "other", "plain"):
            np.testing.assert_array_equal(infer(model, array), array)
