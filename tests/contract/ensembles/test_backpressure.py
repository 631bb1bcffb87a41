# SPDX-License-Identifier: Apache-2.0
"""``max_inflight_requests``: a decoupled model whose responses are taken slowly is held up, and freed again."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

#: notes each response that it has handed over; the number of them is asked for
PRODUCER = """
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        for request in requests:
            count = int(request.inputs()[0].as_numpy().ravel()[0])
            sender = request.get_response_sender()
            for i in range(count):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.full((1, 1), i, np.int32))]))
                (self.folder / f"sent{i}").touch()
                if sender.is_cancelled():
                    (self.folder / "cancelled").touch()
                    break
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
#: answers with how many responses were handed over by then, when nothing has been for a while
CONSUMER = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.repository = Path(args["model_repository"]).parent

    def sent(self):
        return len(list((self.repository / "producer").glob("sent*")))

    def execute(self, requests):
        (self.repository / "began").touch()
        while (self.repository / "closed").exists() and not requests[0].is_cancelled():
            time.sleep(0.005)
        before = -1
        while before != self.sent():
            before = self.sent()
            time.sleep(0.02)
        array = np.full((1, 1), before, np.int32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]) for _ in requests]
"""
PART = """
backend: "python" max_batch_size: 1
input [ { name: "IN" data_type: TYPE_INT32 dims: [ 1 ] } ] output [ { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
DECOUPLED = "model_transaction_policy { decoupled: true }"


def _ensemble(limit: int, *models: str) -> str:
    """The models one behind the other."""
    names = ["X", *(f"t{i}" for i in range(1, len(models))), "Y"]
    steps = ", ".join(
        f'{{ model_name: "{model}" model_version: -1 input_map {{ key: "IN" value: "{names[i]}" }} '
        f'output_map {{ key: "OUT" value: "{names[i + 1]}" }} }}'
        for i, model in enumerate(models)
    )
    ends = PART.replace('"IN"', '"X"').replace('"OUT"', '"Y"').replace('backend: "python"', 'platform: "ensemble"')
    lines = [line for line in ends.splitlines() if "instance_group" not in line]
    return "\n".join([*lines, f"ensemble_scheduling {{ max_inflight_requests: {limit} step [ {steps} ] }}"])


@pytest.fixture(params=["thread", "process"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, RunningServer]]:
    add_model(tmp_path, "producer", PART + DECOUPLED, {"model.py": PRODUCER})
    add_model(tmp_path, "consumer", PART, {"model.py": CONSUMER})
    for limit in (0, 2):
        add_model(tmp_path, f"limit_{limit}", _ensemble(limit, "producer", "consumer"))
    add_model(tmp_path, "itself", _ensemble(1, "producer", "producer"))
    with run_server(tmp_path, isolated(request.param)) as running:
        yield tmp_path, running


class Stream:
    """The responses to one request for ``count`` numbers."""

    def __init__(self, server: RunningServer, model: str, count: int) -> None:
        self._results: queue.Queue[tuple[Any, Any]] = queue.Queue()
        self.client = grpc_client.InferenceServerClient(server.grpc)
        self.client.start_stream(lambda result, error: self._results.put((result, error)))
        tensor = grpc_client.InferInput("X", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[count]], np.int32))
        self.client.async_stream_infer(model, [tensor], enable_empty_final_response=True)

    def values(self) -> list[int]:
        """All of them; the stream is over afterwards."""
        got = []
        while True:
            result, error = self._results.get(timeout=60)
            assert error is None
            if result.get_response().parameters["triton_final_response"].bool_param:
                self.client.close()
                return got
            got.append(int(result.as_numpy("Y").ravel()[0]))


def test_it_is_held_up_by_the_step_behind(served: tuple[Path, RunningServer]) -> None:
    _, server = served
    values = Stream(server, "limit_2", 12).values()
    # two are let in, and each one after them is handed over when one leaves
    assert len(values) == 12
    assert all(sent <= 2 + place for place, sent in enumerate(values)), values


def test_without_a_limit_it_goes_on(served: tuple[Path, RunningServer]) -> None:
    repository, server = served
    (repository / "closed").touch()
    stream = Stream(server, "limit_0", 12)
    eventually((repository / "producer" / "sent11").exists, "all are handed over while none is taken")
    (repository / "closed").unlink()
    assert stream.values() == [12] * 12


def test_cancellation_frees_it(served: tuple[Path, RunningServer]) -> None:
    repository, server = served
    (repository / "closed").touch()
    stream = Stream(server, "limit_2", 12)
    eventually((repository / "began").exists, "the step behind began")
    eventually((repository / "producer" / "sent1").exists, "two are let in")
    stream.client.stop_stream(cancel_requests=True)
    eventually((repository / "producer" / "cancelled").exists, "the producer goes on, and sees why")
    (repository / "closed").unlink()
    for i in range(12):
        (repository / "producer" / f"sent{i}").unlink(missing_ok=True)
    assert len(Stream(server, "limit_2", 3).values()) == 3


def test_who_would_wait_for_itself_is_not_held_up(served: tuple[Path, RunningServer]) -> None:
    _, server = served
    # 0, 1, 2 and 3 are asked of the same single instance again: no number, one, two, three
    assert Stream(server, "itself", 4).values() == [0, 0, 1, 0, 1, 2]


def _needing(model: str, resource: str) -> str:
    group = f'kind: KIND_CPU rate_limiter {{ resources [ {{ name: "{resource}" count: 1 }} ] }}'
    return model.replace("kind: KIND_CPU", group)


@pytest.mark.parametrize("shared", [False, True], ids=["other resources", "the same resource"])
def test_under_the_rate_limiter(tmp_path: Path, shared: bool) -> None:
    """It is held up, unless what it holds is what the step behind needs: then that could never go on."""
    add_model(tmp_path, "producer", _needing(PART, "R") + DECOUPLED, {"model.py": PRODUCER})
    add_model(tmp_path, "consumer", _needing(PART, "R" if shared else "S"), {"model.py": CONSUMER})
    add_model(tmp_path, "limit_2", _ensemble(2, "producer", "consumer"))
    with run_server(tmp_path, "--rate-limit=execution_count") as server:
        values = Stream(server, "limit_2", 12).values()
    assert len(values) == 12
    if shared:
        assert values == [12] * 12
    else:
        assert all(sent <= 2 + place for place, sent in enumerate(values)), values
