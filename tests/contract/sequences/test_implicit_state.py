# SPDX-License-Identifier: Apache-2.0
"""Implicit state over both protocols: a Python model without memory sums up what each sequence sent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server

SUM = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            state = pb_utils.get_input_tensor_by_name(request, "SUM").as_numpy()
            if value[0, 0] < 0:
                state[:] = 0  # its own copy: nobody else sees it
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
                continue
            total = state + value
            tensors = [pb_utils.Tensor("OUTPUT", total), pb_utils.Tensor("NEXT_SUM", total)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
"""
CONFIG = """
backend: "python" max_batch_size: 4
input [ {{ name: "INPUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT" data_type: TYPE_INT32 dims: [ 1 ] }} {shown} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
sequence_batching {{
  max_sequence_idle_microseconds: 60000000
  {strategy}
  state [ {{ input_name: "SUM" output_name: "NEXT_SUM" data_type: TYPE_INT32 dims: [ 1 ] {initial} }} ]
}}
"""
SHOWN = ', { name: "NEXT_SUM" data_type: TYPE_INT32 dims: [ 1 ] }'
FROM_FILE = 'initial_state { name: "i" data_type: TYPE_INT32 dims: [ 1 ] data_file: "first" }'
MODELS = {
    "direct": {"strategy": "direct { }", "initial": "", "shown": ""},
    "oldest": {"strategy": "oldest { max_candidate_sequences: 8 }", "initial": "", "shown": ""},
    "one_buffer": {
        "strategy": "direct { }",
        "initial": "use_same_buffer_for_input_output: true",
        "shown": "",
    },
    "from_file": {"strategy": "direct { }", "initial": FROM_FILE, "shown": ""},
    "shown": {"strategy": "direct { }", "initial": "", "shown": SHOWN},
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("states")
    for name, fields in MODELS.items():
        directory = add_model(made, name, CONFIG.format(**fields), {"model.py": SUM})
        (directory / "initial_state").mkdir()
        (directory / "initial_state" / "first").write_bytes(np.array([1000], "<i4").tobytes())
    return made


@pytest.fixture(scope="module", params=["thread", "process"])
def server(request: pytest.FixtureRequest, repository: Path) -> Iterator[RunningServer]:
    # by name: a test has put a broken model beside them by the time of the second server
    names = [f"--load-model={name}" for name in MODELS]
    with run_server(repository, "--model-control-mode=explicit", *names, isolated(request.param)) as running:
        yield running


def infer(client: Any, model: str, value: int, sequence: int | str, output: str = "OUTPUT", **flags: bool) -> int:
    tensor = client.tensor("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    result = client.infer(model, [tensor], sequence_id=sequence, **flags)
    return int(result.as_numpy(output)[0, 0])


START, END = {"sequence_start": True}, {"sequence_end": True}


@pytest.mark.parametrize("model", ["direct", "oldest", "one_buffer"])
def test_each_sequence_has_a_sum_of_its_own(client: Any, model: str) -> None:
    ids = [11, "a text", 2**40, 12, 13]
    assert [infer(client, model, 1, one, **START) for one in ids] == [1] * len(ids)
    assert [infer(client, model, 10 * step, one) for step, one in enumerate(ids)] == [1, 11, 21, 31, 41]
    assert [infer(client, model, 1, one, **END) for one in ids] == [2, 12, 22, 32, 42]
    assert infer(client, model, 5, ids[0], **START) == 5  # nothing is left of the one before
    assert infer(client, model, 7, ids[0], **START) == 7  # nor of one that was not ended


def test_so_it_has_on_a_stream(server: RunningServer) -> None:
    results: Queue[Any] = Queue()
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.start_stream(lambda result, error: results.put((result, error)))
        ids: list[int | str] = [61, "61", "a text"]  # a number and the same as a text are two sequences
        for step, one in [(step, one) for step in range(3) for one in ids]:
            tensor = grpc_client.InferInput("INPUT", [1, 1], "INT32")
            tensor.set_data_from_numpy(np.array([[10**step]], np.int32))
            flags = {"sequence_id": one, "sequence_start": step == 0, "sequence_end": step == 2}
            client.async_stream_infer("direct", [tensor], request_id=f"{one!r}", **flags)
        sums: dict[str, list[int]] = {f"{one!r}": [] for one in ids}
        for _ in range(3 * len(ids)):
            result, error = results.get(timeout=60)
            assert error is None
            sums[result.get_response().id].append(int(result.as_numpy("OUTPUT")[0, 0]))
        client.stop_stream()
    assert list(sums.values()) == [[1, 11, 111]] * 3


def test_the_first_state_may_come_from_a_file(client: Any) -> None:
    assert infer(client, "from_file", 1, 21, **START) == 1001
    assert infer(client, "from_file", 1, 21, **END) == 1002


def test_a_failed_request_changes_nothing(client: Any) -> None:
    assert infer(client, "direct", 3, 31, **START) == 3
    with pytest.raises(InferenceServerException, match="negative"):
        infer(client, "direct", -1, 31)
    assert infer(client, "direct", 4, 31, **END) == 7


def test_clients_see_the_state_where_it_is_an_output(client: Any) -> None:
    assert infer(client, "shown", 3, 41, "NEXT_SUM", **START) == 3
    assert infer(client, "shown", 3, 41, "NEXT_SUM", **END) == 6
    names = {}
    for model in ("shown", "direct"):
        metadata = client.get_model_metadata(model)
        outputs = metadata["outputs"] if isinstance(metadata, dict) else metadata.outputs
        inputs = metadata["inputs"] if isinstance(metadata, dict) else metadata.inputs
        names[model] = [
            [tensor["name"] if isinstance(tensor, dict) else tensor.name for tensor in tensors]
            for tensors in (inputs, outputs)
        ]
    assert names == {"shown": [["INPUT"], ["OUTPUT", "NEXT_SUM"]], "direct": [["INPUT"], ["OUTPUT"]]}


def test_a_reload_forgets_it(client: Any, repository: Path) -> None:
    assert infer(client, "oldest", 3, 51, **START) == 3
    model = repository / "oldest" / "1" / "model.py"
    model.write_text(model.read_text() + "\n")
    client.load_model("oldest")
    with pytest.raises(InferenceServerException, match="must specify the START flag"):
        infer(client, "oldest", 3, 51)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"123", "initial_state setting expects 4 bytes, but the data provided from firstonly has 3 bytes."),
        (None, "failed to read initial state file 'initial_state/first': No such file or directory"),
    ],
)
def test_a_file_that_does_not_do(client: Any, repository: Path, data: bytes | None, fault: str) -> None:
    directory = repository / "broken"
    if not directory.exists():
        add_model(repository, "broken", CONFIG.format(**MODELS["from_file"]), {"model.py": SUM})
        (directory / "initial_state").mkdir()
    (directory / "initial_state" / "first").unlink(missing_ok=True)
    if data is not None:
        (directory / "initial_state" / "first").write_bytes(data)
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("broken")
    assert fault in str(caught.value)
    assert str(repository) not in str(caught.value)
