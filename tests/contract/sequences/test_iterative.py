# SPDX-License-Identifier: Apache-2.0
"""Iterative sequences: Python models whose requests are rescheduled until they are done, over both protocols."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server

COUNTDOWN = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    '''Runs a request as often as it says; the answer is how many rounds it took.'''

    def initialize(self, args):
        self.rounds = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            number = request.correlation_id()
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                self.rounds[number] = 0
            self.rounds[number] = self.rounds.get(number, 0) + 1
            if self.rounds[number] < request.inputs()[0].as_numpy()[0, 0]:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                responses.append(None)
                continue
            answer = np.array([[self.rounds.pop(number)]], np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", answer)]))
        return responses
"""
TOKENS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    '''One response in each round.'''

    def initialize(self, args):
        self.rounds = {}

    def execute(self, requests):
        for request in requests:
            number = request.correlation_id()
            done = self.rounds.setdefault(number, 0)
            last = done + 1 == request.inputs()[0].as_numpy()[0, 0]
            sender = request.get_response_sender()
            tensor = pb_utils.Tensor("OUTPUT0", np.array([[done]], np.int32))
            flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
            sender.send(pb_utils.InferenceResponse([tensor]), flags=flags)
            if last:
                del self.rounds[number]
            else:
                self.rounds[number] += 1
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
"""
CONFIG = """
backend: "python" max_batch_size: 4
input [ {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{batcher}
"""
ITERATIVE = "sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 6 } }"


@pytest.fixture(scope="module", params=["thread", "process"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("iterative")
    add_model(repository, "countdown", CONFIG.format(batcher=ITERATIVE), {"model.py": COUNTDOWN})
    add_model(repository, "plain", CONFIG.format(batcher="dynamic_batching { }"), {"model.py": COUNTDOWN})
    decoupled = f"{ITERATIVE} model_transaction_policy {{ decoupled: true }}"
    add_model(repository, "tokens", CONFIG.format(batcher=decoupled), {"model.py": TOKENS})
    with run_server(repository, isolated(request.param)) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def count(server: RunningServer, protocol: str, rounds: int, model: str = "countdown") -> int:
    module: Any = http_client if protocol == "http" else grpc_client
    with module.InferenceServerClient(getattr(server, protocol)) as client:
        tensor = module.InferInput("INPUT0", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[rounds]], np.int32))
        return int(client.infer(model, [tensor]).as_numpy("OUTPUT0")[0, 0])


def test_a_request_runs_until_it_is_done(server: RunningServer, protocol: str) -> None:
    rounds = [1, 5, 40, 2, 17, 3, 1, 8, 100, 2]  # more than there are slots
    with ThreadPoolExecutor(len(rounds)) as pool:
        assert list(pool.map(lambda number: count(server, protocol, number), rounds)) == rounds


def test_each_round_is_an_execution(server: RunningServer) -> None:
    with grpc_client.InferenceServerClient(server.grpc) as client:
        before = client.get_inference_statistics("countdown", as_json=True)["model_stats"][0]
        assert count(server, "grpc", 9) == 9
        after = client.get_inference_statistics("countdown", as_json=True)["model_stats"][0]
    changes = {
        name: int(after.get(name, 0)) - int(before.get(name, 0)) for name in ("inference_count", "execution_count")
    }
    assert changes == {"inference_count": 1, "execution_count": 9}


def test_only_where_the_model_is_iterative(server: RunningServer, protocol: str) -> None:
    with pytest.raises(InferenceServerException, match="can not be rescheduled"):
        count(server, protocol, 100, "plain")


def test_a_response_of_each_round(server: RunningServer) -> None:
    results: Queue[Any] = Queue()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(callback=lambda result, error: results.put((result, error)))
        for rounds in (3, 4):
            tensor = grpc_client.InferInput("INPUT0", [1, 1], "INT32")
            tensor.set_data_from_numpy(np.array([[rounds]], np.int32))
            client.async_stream_infer("tokens", [tensor], request_id=str(rounds))
        tokens: dict[str, list[int]] = {"3": [], "4": []}
        for _ in range(7):
            result, error = results.get(timeout=60)
            assert error is None
            tokens[result.get_response().id].append(int(result.as_numpy("OUTPUT0")[0, 0]))
        client.stop_stream()
    assert tokens == {"3": [0, 1, 2], "4": [0, 1, 2, 3]}
