# SPDX-License-Identifier: Apache-2.0
"""Sequences over both protocols: a Python model that sums up what each sequence sent, with both strategies."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server

ACCUMULATE = """
import numpy as np
import triton_python_backend_utils as pb_utils


def one(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()[0]


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            ready = one(request, "READY")
            number = one(request, "CORRID")
            if ready:
                assert request.correlation_id() == number
                start = bool(request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START)
                end = bool(request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END)
                assert (start, end) == (bool(one(request, "START")), bool(one(request, "END")))
                if start:
                    self.sums[number] = 0
                self.sums[number] += one(request, "INPUT")
            total = np.full((1, 1), self.sums.get(number, -1), np.int32)
            if ready and end:
                del self.sums[number]
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", total)]))
        return responses
"""
CONFIG = """
backend: "python" max_batch_size: 4
input [ {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
sequence_batching {{
  max_sequence_idle_microseconds: {idle_us}
  {strategy}
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] }} ] }},
    {{ name: "END" control [ {{ kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] }} ] }},
    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 }} ] }}
  ]
}}
"""
STRATEGIES = {"direct": "direct { }", "oldest": "oldest { max_candidate_sequences: 3 }"}
MINUTE_US = 60_000_000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("sequences")
    for name, strategy in STRATEGIES.items():
        config = CONFIG.format(strategy=strategy, idle_us=MINUTE_US, instances=1)
        add_model(repository, name, config, {"model.py": ACCUMULATE})
    short = CONFIG.format(strategy="direct { }", idle_us=1, instances=1)
    add_model(repository, "impatient", short, {"model.py": ACCUMULATE})
    with run_server(repository, isolated(isolation)) as running:
        yield running


def infer(
    client: Any, model: str, value: int, sequence: int | str, *, start: bool = False, end: bool = False, **options: int
) -> int:
    tensor = client.tensor("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    result = client.infer(model, [tensor], sequence_id=sequence, sequence_start=start, sequence_end=end, **options)
    return int(result.as_numpy("OUTPUT")[0, 0])


@pytest.mark.parametrize("model", STRATEGIES)
def test_each_sequence_has_a_sum_of_its_own(client: Any, model: str) -> None:
    ids = [101, 2**63 - 1, 7]
    for sequence in ids:
        assert infer(client, model, 1, sequence, start=True) == 1
    for step, sequence in enumerate(ids):
        assert infer(client, model, 10 * step, sequence) == 1 + 10 * step
    for step, sequence in enumerate(ids):
        assert infer(client, model, 100, sequence, end=True) == 101 + 10 * step
    with pytest.raises(InferenceServerException, match="must specify the START flag on the first request"):
        infer(client, model, 1, 7)
    assert infer(client, model, 5, 7, start=True, end=True) == 5


@pytest.mark.parametrize("model", STRATEGIES)
def test_a_start_amid_a_sequence_begins_it_anew(client: Any, model: str) -> None:
    assert infer(client, model, 1, 55, start=True) == 1
    assert infer(client, model, 3, 55, start=True) == 3
    assert infer(client, model, 1, 55, end=True) == 4


def test_what_is_refused(client: Any) -> None:
    for sequence, text in ((0, "non-zero or non-empty correlation ID"), ("name", "correlation ID")):
        with pytest.raises(InferenceServerException, match=text):
            infer(client, "direct", 1, sequence, start=True)
    assert infer(client, "direct", 1, 31, start=True, end=True) == 1
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        infer(client, "direct", 1, 31, end=True)  # it has ended
    tensor = client.tensor("INPUT", [2, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[1], [2]], np.int32))
    with pytest.raises(InferenceServerException, match="batch-size 1 due to requirements of sequence batcher"):
        client.infer("direct", [tensor], sequence_id=9, sequence_start=True)


def test_an_idle_sequence_is_forgotten(client: Any) -> None:
    assert infer(client, "impatient", 1, 77, start=True) == 1
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        infer(client, "impatient", 1, 77)


def test_sequences_beyond_the_slots_wait_for_one(client: Any, server: RunningServer) -> None:
    """Four slots, six sequences: two of them begin only once others have ended."""

    def whole(sequence: int) -> int:
        with grpc_client.InferenceServerClient(server.grpc) as another:
            another.tensor = grpc_client.InferInput
            return infer(another, "direct", sequence, 1000 + sequence, start=True, end=True)

    for sequence in range(1, 5):
        infer(client, "direct", sequence, 1000 + sequence, start=True)
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(whole, sequence) for sequence in (5, 6)]
        for sequence in (2, 1, 3, 4):
            assert infer(client, "direct", 10, 1000 + sequence, end=True) == 10 + sequence
        assert [call.result(timeout=60) for call in waiting] == [5, 6]


@pytest.mark.parametrize(("model", "slots"), [("direct", 4), ("oldest", 3)])
def test_a_sequence_that_waits_for_too_long_is_given_up(client: Any, model: str, slots: int) -> None:
    sequences = range(2001, 2001 + slots)
    for sequence in sequences:
        assert infer(client, model, 1, sequence, start=True, timeout=1) == 1  # has its place
    with pytest.raises(
        InferenceServerException, match="timeout of the corresponding sequence has been expired"
    ) as fault:
        infer(client, model, 1, 2000, start=True, timeout=1000)
    assert fault.value.status() in ("503", "StatusCode.UNAVAILABLE")
    for sequence in sequences:
        assert infer(client, model, 2, sequence, end=True) == 3
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        infer(client, model, 1, 2000)
