# SPDX-License-Identifier: Apache-2.0
"""Warm-up of real models: what each instance executes before it serves, and samples that keep a model from loading."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server

NOTES = '''
import json
import os
import threading
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


def niceness(thread):
    return os.getpriority(os.PRIO_PROCESS, thread.native_id)


class TritonPythonModel:
    """Notes every batch in the file "notes" of its directory."""

    def initialize(self, args):
        self.notes = Path(args["model_repository"]) / "notes"
        self.name = args["model_instance_name"]
        self.nice_at_first = niceness(threading.current_thread())
        self.done = threading.Event()
        self.helper = threading.Thread(target=self.done.wait)
        self.helper.start()

    def execute(self, requests):
        seen = []
        for request in requests:
            tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
            seen.append({name: [str(a.dtype), list(a.shape), a.ravel().tolist()[:3]] for name, a in tensors.items()
                         if a.dtype != object})
            seen[-1]["flags"] = request.flags()
        nice = [self.nice_at_first, niceness(threading.current_thread()), niceness(self.helper)]
        note = {"instance": self.name, "requests": seen, "nice": nice}
        with self.notes.open("a") as file:
            file.write(json.dumps(note) + "\\n")
        if any((r.inputs()[0].as_numpy() == 13).any() for r in requests):
            raise ValueError("thirteen")
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())]) for r in requests]

    def finalize(self):
        self.done.set()
        self.helper.join()
'''
CONFIG = """
backend: "python" max_batch_size: 4
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ 2 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_INT32 dims: [ 2 ] }} ]
instance_group [ {{ count: {instances} kind: KIND_CPU }} ]
{more}
"""
SAMPLES = """
model_warmup [
  {
    name: "zeros" batch_size: 3 count: 2
    inputs { key: "IN" value { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } }
  },
  {
    name: "skipped" batch_size: 0
    inputs { key: "IN" value { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } }
  },
  {
    name: "file" batch_size: 1
    inputs { key: "IN" value { data_type: TYPE_INT32 dims: [ 2 ] input_data_file: "five" } }
  },
  {
    name: "random" batch_size: 1
    inputs { key: "IN" value { data_type: TYPE_INT32 dims: [ 2 ] random_data: true } }
  }
]
"""
SEQUENCES = """
sequence_batching {
  direct { }
  control_input [ { name: "START" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ]
  state [ { input_name: "S" output_name: "T" data_type: TYPE_FP32 dims: [ 1 ] } ]
}
model_warmup [
  { name: "w" batch_size: 1 inputs { key: "IN" value { data_type: TYPE_INT32 dims: [ 2 ] zero_data: true } } }
]
optimization { priority: PRIORITY_MIN }
"""
FOREMOST = "optimization { priority: PRIORITY_MAX }"


def sample(name: str, value: str, *, tensor: str = "IN", size: int = 1) -> str:
    return f'model_warmup [ {{ name: "{name}" batch_size: {size} inputs {{ key: "{tensor}" value {{ {value} }} }} }} ]'


#: model -> its warm-up, and why it is not loaded
BROKEN = {
    "raises": (
        sample("bad luck", 'data_type: TYPE_INT32 dims: [ 2 ] input_data_file: "thirteen"'),
        "failed to run warmup sample 'bad luck'",
    ),
    "short": (
        sample("w", 'data_type: TYPE_INT32 dims: [ 2 ] input_data_file: "short"'),
        "warmup setting expects 8 bytes, but the data provided from shortonly has 3 bytes",
    ),
    "absent": (
        sample("w", 'data_type: TYPE_INT32 dims: [ 2 ] input_data_file: "absent"'),
        "failed to read warmup data file 'warmup/absent': No such file or directory",
    ),
    "outside": (
        sample("w", 'data_type: TYPE_INT32 dims: [ 2 ] input_data_file: "../config.pbtxt"'),
        "'input_data_file' must name a file within the model directory",
    ),
    "wrong_type": (
        sample("w", "data_type: TYPE_FP32 dims: [ 2 ] zero_data: true"),
        "inference input 'IN' data-type is 'FP32', but model 'wrong_type' expects 'INT32'",
    ),
    "wrong_shape": (
        sample("w", "data_type: TYPE_INT32 dims: [ 3 ] zero_data: true"),
        "unexpected shape for input 'IN'",
    ),
    "wrong_name": (
        sample("w", "data_type: TYPE_INT32 dims: [ 2 ] zero_data: true", tensor="OTHER"),
        "unexpected inference input 'OTHER'",
    ),
}


def notes(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "notes").read_text().splitlines()]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("warmup")
    add_model(made, "warm", CONFIG.format(instances=2, more=f"{SAMPLES}{FOREMOST}"), {"model.py": NOTES})
    add_model(made, "sequences", CONFIG.format(instances=1, more=SEQUENCES), {"model.py": NOTES})
    for name, (config, _) in BROKEN.items():
        add_model(made, name, CONFIG.format(instances=1, more=config), {"model.py": NOTES})
    native = CONFIG.replace('"python"', '"identity"').format(
        instances=1, more=sample("w", "data_type: TYPE_FP32 dims: [ 2 ] zero_data: true")
    )
    add_model(made, "native", native)
    for directory in made.iterdir():
        (directory / "warmup").mkdir()
        for file, data in (("five", np.array([5, 5], "<i4").tobytes()), ("short", b"abc")):
            (directory / "warmup" / file).write_bytes(data)
        (directory / "warmup" / "thirteen").write_bytes(np.array([13, 13], "<i4").tobytes())
    return made


@pytest.fixture(scope="module")
def server(repository: Path, isolation: str) -> Iterator[RunningServer]:
    for directory in repository.iterdir():
        (directory / "notes").unlink(missing_ok=True)
    flags = ("--model-control-mode=explicit", "--load-model=warm", "--load-model=sequences", isolated(isolation))
    with run_server(repository, *flags) as running:
        yield running


def test_each_instance_executes_every_sample(server: RunningServer, repository: Path) -> None:
    by_instance: dict[str, list[Any]] = {"warm_0_0": [], "warm_0_1": []}
    for note in notes(repository / "warm"):
        by_instance[note["instance"]].append(note["requests"])
        # PRIORITY_MAX: none of the model's threads yields, and none is raised
        assert note["nice"] == [os.getpriority(os.PRIO_PROCESS, 0)] * 3
    zeros = [{"IN": ["int32", [1, 2], [0, 0]], "flags": 0}] * 3
    for batches in by_instance.values():
        assert batches[:2] == [zeros, zeros]
        assert batches[2] == [{"IN": ["int32", [1, 2], [5, 5]], "flags": 0}]
        assert len(batches) == 4
        assert all(0 <= number < 128 for number in batches[3][0]["IN"][2])
    with grpc_client.InferenceServerClient(server.grpc) as client:
        stats = client.get_inference_statistics("warm", as_json=True)["model_stats"][0]
    assert "inference_count" not in stats  # nobody asked for it
    assert "execution_count" not in stats


def test_a_sample_of_a_sequence_model_is_a_whole_sequence(
    server: RunningServer, repository: Path, isolation: str
) -> None:
    [note] = notes(repository / "sequences")
    assert note["requests"] == [
        {
            "IN": ["int32", [1, 2], [0, 0]],
            "START": ["int32", [1, 1], [1]],
            "S": ["float32", [1, 1], [0.0]],
            "flags": 3,
        }
    ]
    # PRIORITY_MIN: all of the model's threads, those of a process not before it is ready
    at_first = 19 if isolation == "thread" else os.getpriority(os.PRIO_PROCESS, 0)
    assert note["nice"] == [at_first, 19, 19]


@pytest.mark.parametrize("model", [*BROKEN, "native"])
@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_sample_that_fails_keeps_the_model_from_loading(
    server: RunningServer, repository: Path, model: str, protocol: str
) -> None:
    text = BROKEN[model][1] if model in BROKEN else "failed to run warmup sample 'w': "
    module: Any = http_client if protocol == "http" else grpc_client
    with module.InferenceServerClient(getattr(server, protocol)) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model(model)
        assert text in str(caught.value)
        assert str(repository) not in str(caught.value)
        assert not client.is_model_ready(model)
