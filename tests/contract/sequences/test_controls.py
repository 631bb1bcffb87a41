# SPDX-License-Identifier: Apache-2.0
"""Control tensors of every kind in every type that the configuration allows, as a Python model sees them."""

from __future__ import annotations

import json
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

MODEL = '''
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with what it was told: of each control its type, shape and value."""

    def execute(self, requests):
        responses = []
        for request in requests:
            seen = {}
            for name in ("START", "READY", "END", "CORRID"):
                array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                value = array.ravel()[0]
                value = value.decode() if isinstance(value, bytes) else value.item()
                seen[name] = [str(array.dtype), list(array.shape), value]
            shape = request.inputs()[0].as_numpy().shape
            text = np.array([json.dumps(seen).encode()] * int(np.prod(shape)), object).reshape(shape)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", text)]))
        return responses
'''
CONFIG = """
backend: "python" max_batch_size: {batch}
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_STRING dims: [ 1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
sequence_batching {{
  {strategy}
  control_input [
    {{ name: "START" control [ {{ kind: CONTROL_SEQUENCE_START {pair} }} ] }},
    {{ name: "READY" control [ {{ kind: CONTROL_SEQUENCE_READY {pair} }} ] }},
    {{ name: "END" control [ {{ kind: CONTROL_SEQUENCE_END {pair} }} ] }},
    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: {id_type} }} ] }}
  ]
}}
"""
#: field of the configuration -> its values, numpy's name of the type, what the model must see for false and true
PAIRS = {
    "int32_false_true: [ 7, -3 ]": ("int32", 7, -3),
    "fp32_false_true: [ 0.5, -2.5 ]": ("float32", 0.5, -2.5),
    "bool_false_true: [ true, false ]": ("bool", True, False),
}
IDS = {"TYPE_INT32": "int32", "TYPE_UINT32": "uint32", "TYPE_INT64": "int64", "TYPE_UINT64": "uint64"}
SHAPES = {
    "alone": (0, "direct { }"),
    "direct": (2, "direct { }"),
    "oldest": (2, "oldest { max_candidate_sequences: 2 }"),
}
MODELS = [(way, pair, id_type) for way in SHAPES for pair in PAIRS for id_type in [*IDS, "TYPE_STRING"]]


def name_of(way: str, pair: str, id_type: str) -> str:
    return f"{way}_{PAIRS[pair][0]}_{id_type.lower()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("controls")
    for way, pair, id_type in MODELS:
        batch, strategy = SHAPES[way]
        config = CONFIG.format(batch=batch, strategy=strategy, pair=pair, id_type=id_type)
        add_model(repository, name_of(way, pair, id_type), config, {"model.py": MODEL})
    with run_server(repository, isolated("thread")) as running:  # 45 models
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    module: Any = http_client if request.param == "http" else grpc_client
    made = module.InferenceServerClient(getattr(server, request.param))
    made.tensor = module.InferInput
    yield made
    made.close()


def ask(client: Any, way: str, model: str, sequence: int | str, **flags: bool) -> dict[str, Any]:
    shape = [1] if way == "alone" else [1, 1]
    tensor = client.tensor("IN", shape, "INT32")
    tensor.set_data_from_numpy(np.zeros(shape, np.int32))
    answer = client.infer(model, [tensor], sequence_id=sequence, **flags).as_numpy("OUT")
    return dict(json.loads(answer.ravel()[0]))


@pytest.mark.parametrize(("way", "pair", "id_type"), MODELS)
def test_controls(client: Any, way: str, pair: str, id_type: str) -> None:
    model, shape = name_of(way, pair, id_type), [1] if way == "alone" else [1, 1]
    kind, no, yes = PAIRS[pair]
    texts, numbers = ["a text", "\u00fc" * 64], [5, 2**31 + 1, 2**32 + 9, 2**63 - 1]
    # a number is cut to the size of the type
    ids: list[int | str] = [*(texts if id_type == "TYPE_STRING" else numbers)]
    for sequence in ids:
        for start, end in ((True, False), (False, False), (False, True), (True, True)):
            seen = ask(client, way, model, sequence, sequence_start=start, sequence_end=end)
            for control, value in (("START", start), ("READY", True), ("END", end)):
                assert seen[control] == [kind, shape, yes if value else no], control
            if isinstance(sequence, str):
                assert seen["CORRID"] == ["object", shape, sequence]
            else:
                wanted = np.array([sequence], np.uint64).view(np.uint8)[: np.dtype(IDS[id_type]).itemsize]
                assert seen["CORRID"] == [IDS[id_type], shape, wanted.view(IDS[id_type])[0].item()]


@pytest.mark.parametrize(("id_type", "sequence"), [("TYPE_STRING", 5), ("TYPE_UINT64", "a text")])
def test_an_id_of_the_other_kind_is_refused(client: Any, id_type: str, sequence: int | str) -> None:
    model = name_of("direct", next(iter(PAIRS)), id_type)
    kind = "an integer" if isinstance(sequence, int) else "a string"
    with pytest.raises(InferenceServerException, match=f"expects a correlation ID of type .*, got {kind}"):
        ask(client, "direct", model, sequence, sequence_start=True)


@pytest.mark.parametrize("length", [129, 10_240])
def test_an_id_that_is_too_long_is_refused(client: Any, length: int) -> None:
    model = name_of("direct", next(iter(PAIRS)), "TYPE_STRING")
    with pytest.raises(InferenceServerException, match="string correlation ID cannot be longer than 128 characters"):
        ask(client, "direct", model, "x" * length, sequence_start=True)
