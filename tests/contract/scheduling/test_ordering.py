# SPDX-License-Identifier: Apache-2.0
"""``preserve_ordering`` over both protocols: a quick answer waits for a slow one that was asked for before it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.calls.callers import passing_on
from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MODEL = '''
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Notes each request by a file of its number; number 0 waits for the file "open"."""

    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        [request] = requests
        value = request.inputs()[0].as_numpy()
        (self.folder / f"began{value[0, 0]}").touch()
        while value[0, 0] == 0 and not (self.folder / "open").exists():
            time.sleep(0.005)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)])]
'''
#: as many responses as the number says, and one more; number 0 waits for the file "open" behind its first one
DECOUPLED = """
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        for request in requests:
            number = int(request.inputs()[0].as_numpy()[0, 0])
            threading.Thread(target=self.respond, args=(number, request.get_response_sender())).start()

    def respond(self, number, sender):
        for i in range(number + 1):
            output = pb_utils.Tensor("OUTPUT0", np.array([[10 * number + i]], np.int32))
            sender.send(pb_utils.InferenceResponse([output]))
        while number == 0 and not (self.folder / "open").exists() and not sender.is_cancelled():
            time.sleep(0.005)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        (self.folder / f"done{number}").touch()
"""
#: the same, a response in each round; number 0 goes round until there is the file "open"
ROUNDS = """
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.folder, self.sent = Path(args["model_repository"]), {}

    def execute(self, requests):
        time.sleep(0.002)
        for request in requests:
            number, key = int(request.inputs()[0].as_numpy()[0, 0]), request.correlation_id()
            sender, sent = request.get_response_sender(), self.sent.setdefault(key, 0)
            if sent <= number:
                output = pb_utils.Tensor("OUTPUT0", np.array([[10 * number + sent]], np.int32))
                sender.send(pb_utils.InferenceResponse([output]))
                self.sent[key] += 1
            if sent < number or number == 0 and not (self.folder / "open").exists():
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                continue
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
            (self.folder / f"done{number}").touch()
"""
CONFIG = """
backend: "python" max_batch_size: 1
input [ {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
dynamic_batching {{ preserve_ordering: {ordered} }}
"""


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, RunningServer]]:
    for name, ordered in (("ordered", "true"), ("free", "false")):
        add_model(tmp_path, name, CONFIG.format(ordered=ordered), {"model.py": MODEL})
    with run_server(tmp_path) as running:
        yield tmp_path, running


def infer(address: str, module: Any, model: str, value: int) -> int:
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("INPUT0", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[value]], np.int32))
        return int(client.infer(model, [tensor]).as_numpy("OUTPUT0")[0, 0])


def test_answers_leave_in_the_order_of_requests(served: tuple[Path, RunningServer], protocol: str) -> None:
    repository, server = served
    module: Any = http_client if protocol == "http" else grpc_client
    address = getattr(server, protocol)
    with ThreadPoolExecutor(4) as pool:
        for model, ordered in (("free", False), ("ordered", True)):
            slow: Future[int] = pool.submit(infer, address, module, model, 0)
            eventually((repository / model / "began0").exists, "began0 never came")
            quick: Future[int] = pool.submit(infer, address, module, model, 1)
            eventually((repository / model / "began1").exists, "began1 never came")
            if not ordered:
                assert quick.result(timeout=60) == 1
            assert not slow.done()
            # the same instance has answered one more: had the first been let go, it would have been long ago
            if ordered:
                third: Future[int] = pool.submit(infer, address, module, model, 2)
                eventually((repository / model / "began2").exists, "began2 never came")
                assert not quick.done()
            (repository / model / "open").touch()
            assert (slow.result(timeout=60), quick.result(timeout=60)) == (0, 1)
            if ordered:
                assert third.result(timeout=60) == 2


DYNAMIC = "dynamic_batching { preserve_ordering: true }"
OLDEST = "sequence_batching { oldest { preserve_ordering: true } }"
ITERATIVE = OLDEST.replace("{ oldest {", "{ iterative_sequence: true oldest { max_candidate_sequences: 4")


class Ordered:
    """The model ``many``, decoupled and of one instance, beside ``free``; notes what comes, of whatever request."""

    def __init__(self, repository: Path, batching: str) -> None:
        self.folder, self._sequences = repository / "many", batching == OLDEST
        config = CONFIG.format(ordered="true").replace(DYNAMIC, batching).replace("count: 2", "count: 1")
        model = ROUNDS if batching == ITERATIVE else DECOUPLED
        add_model(repository, "many", config + "model_transaction_policy { decoupled: true }", {"model.py": model})
        add_model(repository, "free", CONFIG.format(ordered="false").replace('"python"', '"identity"'))
        self.came: list[int] = []

    def sequence(self, number: int) -> dict[str, Any]:
        return {"sequence_id": number + 1, "sequence_start": True, "sequence_end": True} if self._sequences else {}

    def note(self, result: Any, error: Any) -> None:
        if error is None:
            self.came.append(int(result.as_numpy("OUTPUT0")[0, 0]))

    def ask(self, client: Any, number: int, model: str = "many") -> None:
        tensor = grpc_client.InferInput("INPUT0", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[number]], np.int32))
        client.async_stream_infer(model, [tensor], **(self.sequence(number) if model == "many" else {}))

    def generate(self, server: RunningServer, number: int) -> None:
        url = f"http://{server.http}/v2/models/many/generate_stream"
        with httpx.stream("POST", url, json={"INPUT0": number}, timeout=60) as answer:
            assert answer.status_code == 200
            events = (line for line in answer.iter_lines() if line.startswith("data: "))
            self.came.extend(json.loads(event[6:])["OUTPUT0"] for event in events)


@pytest.mark.parametrize(
    ("protocol", "batching"),
    [("http", DYNAMIC), ("grpc", DYNAMIC), ("grpc", OLDEST), ("http", ITERATIVE), ("grpc", ITERATIVE)],
)
def test_so_do_the_responses_of_decoupled_models(tmp_path: Path, protocol: str, batching: str) -> None:
    """There is no ``generate_stream`` for sequences, as in Triton; for iterative ones there is."""
    many = Ordered(tmp_path, batching)
    with run_server(tmp_path) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(many.note)
        many.ask(client, 0)
        eventually(lambda: many.came == [0], "the first response leaves while its request goes on")
        with ThreadPoolExecutor(1) as pool:
            later = pool.submit(many.generate, server, 2) if protocol == "http" else None
            if later is None:
                many.ask(client, 2)
            eventually((many.folder / "done2").exists, "done2 never came")
            many.ask(client, 7, "free")  # what left before this answer came before it
            eventually(lambda: 7 in many.came, "the other model never answered")
            assert many.came == [0, 7]
            (many.folder / "open").touch()
            if later is not None:
                later.result(timeout=60)
        eventually(lambda: len(many.came) == 5, "the rest never came")
        assert many.came == [0, 7, 20, 21, 22]


@pytest.mark.parametrize("batching", [DYNAMIC, OLDEST, ITERATIVE])
def test_who_is_cancelled_between_two_responses_lets_the_others_go(tmp_path: Path, batching: str) -> None:
    many = Ordered(tmp_path, batching)
    with (
        run_server(tmp_path) as server,
        grpc_client.InferenceServerClient(server.grpc) as leaving,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        leaving.start_stream(many.note)
        many.ask(leaving, 0)
        eventually(lambda: many.came == [0], "the first response never came")
        client.start_stream(many.note)
        many.ask(client, 2)
        eventually((many.folder / "done2").exists, "done2 never came")
        leaving.stop_stream(cancel_requests=True)
        eventually(lambda: many.came == [0, 20, 21, 22], "the first is cancelled, and the second is still kept")


def test_a_call_whose_answer_would_be_kept_for_ever_is_refused(tmp_path: Path, protocol: str) -> None:
    """An answer waits for those that were asked for before it, so also for the one whose model makes the call."""
    config = CONFIG.format(ordered="true")
    add_model(tmp_path, "itself", config, {"model.py": passing_on("itself")})
    add_model(tmp_path, "outer", config, {"model.py": passing_on("inner")})
    add_model(tmp_path, "inner", config.replace('"python"', '"identity"'))
    module: Any = http_client if protocol == "http" else grpc_client
    with run_server(tmp_path) as server:
        address = getattr(server, protocol)
        with pytest.raises(Exception, match="would wait for ever"):
            infer(address, module, "itself", 1)
        assert infer(address, module, "outer", 2) == 2
