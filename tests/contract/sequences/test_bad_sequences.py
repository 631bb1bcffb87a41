# SPDX-License-Identifier: Apache-2.0
"""Row 67 of the catalogue of bad input: sequences that are not as they should be share no state and keep no slot.

Beside these: no START, START twice, id 0, idle limits and exhausted slots (``test_sequences``), ids that are too long
or of the wrong kind (``test_controls``).
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from contract.sequences.test_sequences import ACCUMULATE, CONFIG, MINUTE_US
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

#: as ACCUMULATE; the value 0 waits for the file "open"
GATE = ACCUMULATE.replace(
    "    def execute(self, requests):\n",
    """    def execute(self, requests):
        import time
        from pathlib import Path
        folder = Path(self.folder)
        while any(one(request, "INPUT") == 0 and one(request, "READY") for request in requests):
            (folder / "began").touch()
            if (folder / "open").exists():
                break
            time.sleep(0.005)
""",
).replace("self.sums = {}", 'self.sums = {}\n        self.folder = args["model_repository"]')
ONE_SLOT = CONFIG.replace("max_batch_size: 4", "max_batch_size: 1")
ITERATIVE = """
backend: "python" max_batch_size: 4
input [ { name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
sequence_batching { iterative_sequence: true oldest { max_candidate_sequences: 4 } }
"""
ECHO = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", r.inputs()[0].as_numpy())]) for r in requests
        ]
"""

#: (model, value, sequence id, start, end) -> the output. Raises InferenceServerException
Ask = Callable[..., int]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_sequences")
    for strategy in ("direct { }", "oldest { max_candidate_sequences: 4 }"):
        config = CONFIG.format(strategy=strategy, idle_us=MINUTE_US, instances=1)
        add_model(folder, strategy.split()[0], config, {"model.py": ACCUMULATE})
    for protocol in ("http", "grpc"):
        one = ONE_SLOT.format(strategy="direct { }", idle_us=MINUTE_US, instances=1)
        add_model(folder, f"one_{protocol}", one, {"model.py": GATE})
    add_model(folder, "iterative", ITERATIVE, {"model.py": ECHO})
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with run_server(repository) as running:
        yield running
        assert running.process.poll() is None, running.log


def _request(model: str, value: int, sequence: int, start: bool, end: bool) -> Any:
    """Ids over gRPC are signed: those from 2^63 on are negative numbers there."""
    message = grpc_client.service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT", datatype="INT32", shape=[1, 1])
    message.raw_input_contents.append(struct.pack("<i", value))
    message.parameters["sequence_id"].int64_param = sequence if sequence < 2**63 else sequence - 2**64
    message.parameters["sequence_start"].bool_param = start
    message.parameters["sequence_end"].bool_param = end
    return message


@pytest.fixture(params=["http", "grpc"])
def ask(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Ask]:
    if request.param == "grpc":
        with grpc.insecure_channel(server.grpc) as channel:
            stub = grpc_client.service_pb2_grpc.GRPCInferenceServiceStub(channel)

            def over_grpc(model: str, value: int, sequence: int, *, start: bool = False, end: bool = False) -> int:
                try:
                    answer = stub.ModelInfer(_request(model, value, sequence, start, end), timeout=60)
                except grpc.RpcError as error:
                    raise InferenceServerException(error.details(), str(error.code())) from None
                return int(np.frombuffer(answer.raw_output_contents[0], np.int32)[0])

            yield over_grpc
    else:
        with http_client.InferenceServerClient(server.http) as client:

            def over_http(model: str, value: int, sequence: int, *, start: bool = False, end: bool = False) -> int:
                tensor = http_client.InferInput("INPUT", [1, 1], "INT32")
                tensor.set_data_from_numpy(np.array([[value]], np.int32))
                options = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
                return int(client.infer(model, [tensor], **options).as_numpy("OUTPUT")[0, 0])

            yield over_http


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_row_67_ids_beyond_63_bits(ask: Ask, model: str) -> None:
    ids = (2**63 - 1, 2**63, 2**63 + 1, 2**64 - 1)
    for place, sequence in enumerate(ids):
        assert ask(model, 1 + place, sequence, start=True) == 1 + place
    for place, sequence in enumerate(ids):
        assert ask(model, 10, sequence, end=True) == 11 + place
    with pytest.raises(InferenceServerException, match=f"for sequence {2**64 - 1} to model '{model}' must specify the"):
        ask(model, 1, 2**64 - 1)


def test_row_67_ids_of_iterations_can_not_be_named(ask: Ask) -> None:
    """Those that the server gives to requests without one: a client that guesses one would go on with its state."""
    text = f"must specify a correlation ID below {2**63}: those from there on are given to requests that specify none"
    for sequence in (2**63, 2**63 + 1, 2**64 - 1):
        for start in (False, True):
            with pytest.raises(InferenceServerException, match=text):
                ask("iterative", 1, sequence, start=start)
    assert ask("iterative", 5, 0) == 5
    assert ask("iterative", 6, 2**63 - 1, start=True) == 6


def _occupy(client: Any, folder: Path, answered: Callable[..., None] = lambda result, error: None) -> None:
    """A request begins sequence 5 of the one slot, and is executed until there is the file "open"."""
    for name in ("began", "open"):
        (folder / name).unlink(missing_ok=True)
    client.async_infer(folder.name, [_tensor(0)], answered, sequence_id=5, sequence_start=True)
    eventually((folder / "began").exists, "the sequence began")


def _begin(server: RunningServer, folder: Path, protocol: str) -> Any:
    """A request without answer begins sequence 5 of the one slot, and another one waits behind it; returns that one."""
    client = grpc_client.InferenceServerClient(server.grpc)
    _occupy(client, folder)
    if protocol == "grpc":
        behind: Any = client.async_infer("one_grpc", [_tensor(7)], lambda result, error: None, sequence_id=5)
    else:
        body = {
            "parameters": {"sequence_id": 5},
            "inputs": [{"name": "INPUT", "datatype": "INT32", "shape": [1, 1], "data": [7]}],
        }
        text = json.dumps(body)
        behind = socket.create_connection(server.http.split(":"))  # type: ignore[arg-type]
        behind.sendall(
            f"POST /v2/models/one_http/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
        )
    eventually(lambda: _pending(server, protocol) == 1, "a request waits behind it")
    return behind, client


def _tensor(value: int) -> Any:
    tensor = grpc_client.InferInput("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    return tensor


def _pending(server: RunningServer, protocol: str) -> int:
    return counter(server, "nv_inference_pending_request_count", f"one_{protocol}")


def test_row_67_a_second_end_ends_nothing(server: RunningServer, repository: Path, ask: Ask) -> None:
    """Neither the sequence whose END still waits, nor the one that has its id next; nor does it take a place."""
    model, answers = "one_grpc", SimpleQueue[Any]()

    def infer(value: int, **flags: bool) -> None:
        client.async_infer(
            model, [_tensor(value)], lambda result, error: answers.put(error or result), sequence_id=5, **flags
        )

    def outputs(count: int) -> list[int]:
        return [int(answers.get(timeout=30).as_numpy("OUTPUT")[0, 0]) for _ in range(count)]

    with grpc_client.InferenceServerClient(server.grpc) as client:
        _occupy(client, repository / model, lambda result, error: answers.put(error or result))
        infer(7, sequence_end=True)
        eventually(lambda: _pending(server, "grpc") == 1, "its END waits")
        with pytest.raises(InferenceServerException, match="for sequence 5 to model 'one_grpc' must specify the START"):
            ask(model, 100, 5, end=True)
        infer(20, sequence_start=True)
        eventually(lambda: _pending(server, "grpc") == 2, "the next sequence waits for the slot")
        (repository / model / "open").touch()
        assert outputs(3) == [0, 7, 20]
    assert ask(model, 1, 5, end=True) == 21
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        ask(model, 100, 5, end=True)
    assert ask(model, 30, 6, start=True, end=True) == 30


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_row_67_a_client_that_goes_leaves_its_slot_and_no_state(
    server: RunningServer, repository: Path, protocol: str
) -> None:
    """The client goes (HTTP) or cancels (gRPC); its sequence is given up, and its id begins anew."""
    folder = repository / f"one_{protocol}"
    behind, client = _begin(server, folder, protocol)
    with client:
        if protocol == "http":
            behind.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, no half-close
            behind.close()
        else:
            behind.cancel()
        eventually(lambda: _pending(server, protocol) == 0, "the sequence was given up")
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            client.infer(f"one_{protocol}", [_tensor(8)], sequence_id=5)
        (folder / "open").touch()
        # there is one slot, and its sequence would be idle for a minute
        for sequence, value in ((5, 30), (6, 40), (5, 50)):
            start = client.infer(f"one_{protocol}", [_tensor(value)], sequence_id=sequence, sequence_start=True)
            assert start.as_numpy("OUTPUT").tolist() == [[value]]
            end = client.infer(f"one_{protocol}", [_tensor(1)], sequence_id=sequence, sequence_end=True)
            assert end.as_numpy("OUTPUT").tolist() == [[value + 1]]
