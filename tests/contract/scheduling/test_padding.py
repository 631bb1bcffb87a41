# SPDX-License-Identifier: Apache-2.0
"""Texts of any length in one batch, over both protocols: an ONNX model with attention, whose answers must not change by
padding, and a Python model that shows what it was given."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server

HIDDEN = 8
WORDS = 50

ENCODER = """
backend: "onnxruntime" max_batch_size: 8
input [
  { name: "ids" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "mask" data_type: TYPE_INT64 dims: [ -1 ] }
]
output [
  { name: "hidden" data_type: TYPE_FP32 dims: [ -1, 8 ] },
  { name: "attention" data_type: TYPE_FP32 dims: [ -1, -1 ] },
  { name: "pooled" data_type: TYPE_FP32 dims: [ 8 ] }
]
dynamic_batching { max_queue_delay_microseconds: 200000 preferred_batch_size: [ 8 ] }
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "padding.tokens.inputs" value { string_value: "ids=1, mask" } }
parameters { key: "padding.tokens.buckets" value { string_value: "4, 8, 16" } }
parameters { key: "padding.tokens.outputs" value { string_value: "hidden, attention[1], attention[2]" } }
parameters { key: "padding.tokens.lengths" value { string_value: "lengths TYPE_INT64" } }
"""

PYTHON = """
backend: "python" max_batch_size: 8
input [ { name: "words" data_type: TYPE_STRING dims: [ -1 ] } ]
output [
  { name: "seen" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "upper" data_type: TYPE_STRING dims: [ -1 ] },
  { name: "sizes" data_type: TYPE_INT32 dims: [ 2 ] }
]
dynamic_batching { max_queue_delay_microseconds: 200000 preferred_batch_size: [ 4 ] }
instance_group [ { count: 1 kind: KIND_CPU } ]
parameters { key: "padding.words.inputs" value { string_value: "words=[PAD]" } }
parameters { key: "padding.words.buckets" value { string_value: "longest up to 6" } }
parameters { key: "padding.words.outputs" value { string_value: "upper" } }
parameters { key: "padding.words.lengths" value { string_value: "count TYPE_INT32" } }
"""

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            words = pb_utils.get_input_tensor_by_name(request, "words").as_numpy()
            count = pb_utils.get_input_tensor_by_name(request, "count").as_numpy()
            sizes = np.array([[n, len(requests)] for n in count], np.int32)
            upper = np.array([[word.upper() for word in row] for row in words], np.object_)
            answers.append(
                pb_utils.InferenceResponse(
                    [
                        pb_utils.Tensor("seen", words),
                        pb_utils.Tensor("upper", upper),
                        pb_utils.Tensor("sizes", sizes),
                    ]
                )
            )
        return answers
"""


def encoder() -> bytes:
    """ids, mask [n, t] and lengths [n] -> hidden [n, t, 8] by masked attention, its weights [n, t, t], and the mean of
    the first ``lengths`` of hidden [n, 8]."""
    random = np.random.default_rng(3)
    constants = {
        "table": random.standard_normal((WORDS, HIDDEN)).astype(np.float32),
        "weights": random.standard_normal((HIDDEN, HIDDEN)).astype(np.float32),
        "one": np.array(1, np.float32),
        "masked": np.array(-1e30, np.float32),
        "axis1": np.array([1], np.int64),
        "axis2": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("MatMul", ["words", "weights"], ["queries"]),
        helper.make_node("Transpose", ["words"], ["keys"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["queries", "keys"], ["raw"]),
        helper.make_node("Cast", ["mask"], ["present"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "present"], ["absent"]),
        helper.make_node("Mul", ["absent", "masked"], ["penalty"]),
        helper.make_node("Unsqueeze", ["penalty", "axis1"], ["penalties"]),
        helper.make_node("Add", ["raw", "penalties"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["attention"], axis=-1),
        helper.make_node("MatMul", ["attention", "words"], ["hidden"]),
        helper.make_node("Unsqueeze", ["present", "axis2"], ["shares"]),
        helper.make_node("Mul", ["hidden", "shares"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axis1"], ["total"], keepdims=0),
        helper.make_node("Cast", ["lengths"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["sizes", "axis1"], ["divisors"]),
        helper.make_node("Div", ["total", "divisors"], ["pooled"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "encoder",
        [
            info("ids", TensorProto.INT64, ["n", "t"]),
            info("mask", TensorProto.INT64, ["n", "t"]),
            info("lengths", TensorProto.INT64, ["n"]),
        ],
        [
            info("hidden", TensorProto.FLOAT, ["n", "t", HIDDEN]),
            info("attention", TensorProto.FLOAT, ["n", "t", "t"]),
            info("pooled", TensorProto.FLOAT, ["n", HIDDEN]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("padding")
    faulty = ENCODER.replace("ids=1", "idz=1")
    for name, config in (("encoder", ENCODER), ("completed", _without_tensors(ENCODER)), ("faulty", faulty)):
        directory = add_model(repository, name, config)
        (directory / "1" / "model.onnx").write_bytes(encoder())
    add_model(repository, "words", PYTHON, {"model.py": MODEL})
    with run_server(repository, "--exit-on-error=false") as running:
        yield running


def _without_tensors(config: str) -> str:
    """The same, with inputs and outputs left to the model file."""
    start, end = config.index("input ["), config.index("dynamic_batching")
    return config[:start] + config[end:]


def module_and_address(server: RunningServer, protocol: str) -> tuple[Any, str]:
    return (http_client, server.http) if protocol == "http" else (grpc_client, server.grpc)


def ask(module: Any, address: str, model: str, tensors: Sequence[tuple[str, str, NDArray[Any]]]) -> Any:
    with module.InferenceServerClient(address) as client:
        inputs = []
        for name, datatype, array in tensors:
            inputs.append(module.InferInput(name, list(array.shape), datatype))
            inputs[-1].set_data_from_numpy(array)
        return client.infer(model, inputs)


def text(rows: int, length: int, seed: int) -> list[tuple[str, str, NDArray[Any]]]:
    ids = np.random.default_rng(seed).integers(0, WORDS, (rows, length))
    return [("ids", "INT64", ids), ("mask", "INT64", np.ones_like(ids))]


def at_once(module: Any, address: str, model: str, asked: Sequence[Any]) -> list[Any]:
    start = threading.Barrier(len(asked))

    def one(tensors: Any) -> Any:
        start.wait()
        return ask(module, address, model, tensors)

    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(one, asked))


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("model", ["encoder", "completed"])
def test_texts_of_any_length_are_answered_as_if_they_were_alone(
    server: RunningServer, protocol: str, model: str
) -> None:
    module, address = module_and_address(server, protocol)
    asked = [text(rows, length, length) for rows, length in ((1, 5), (1, 8), (2, 6), (1, 7), (1, 1), (1, 16), (1, 3))]
    answers = at_once(module, address, model, asked)
    session = onnxruntime.InferenceSession(encoder())
    for tensors, answer in zip(asked, answers, strict=True):
        ids = tensors[0][2]
        lengths = np.full(len(ids), ids.shape[1], np.int64)
        alone = session.run(None, {"ids": ids, "mask": np.ones_like(ids), "lengths": lengths})
        for name, expected in zip(("hidden", "attention", "pooled"), alone, strict=True):
            assert answer.as_numpy(name).shape == expected.shape
            np.testing.assert_allclose(answer.as_numpy(name), expected, rtol=1e-4, atol=1e-5)
    with grpc_client.InferenceServerClient(server.grpc) as client:
        stats = client.get_inference_statistics(model, as_json=True)["model_stats"][0]
    assert any(int(batch["batch_size"]) > 1 for batch in stats["batch_stats"])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_python_model_gets_requests_that_are_equally_long(server: RunningServer, protocol: str) -> None:
    module, address = module_and_address(server, protocol)
    texts = [[b"a"], [b"b", b"bb", b"bbb"], [b"c", b"cc"], [b"d"]]
    asked = [[("words", "BYTES", np.array([words], np.object_))] for words in texts]
    for words, answer in zip(texts, at_once(module, address, "words", asked), strict=True):
        length, together = answer.as_numpy("sizes")[0].tolist()
        assert length == len(words)
        assert together == len(texts)
        assert answer.as_numpy("seen").tolist() == [words + [b"[PAD]"] * (3 - len(words))]
        assert answer.as_numpy("upper").tolist() == [[word.upper() for word in words]]


@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (text(1, 17, 0), "input 'ids' for model 'encoder' has 17 along dimension 1, the most is 16 along 'tokens'"),
        (
            [text(1, 5, 0)[0], text(1, 6, 0)[1]],
            "input 'mask' for model 'encoder' has 6 along dimension 1, but other inputs have 5 along 'tokens'",
        ),
    ],
)
def test_what_fits_no_bucket_is_refused(
    server: RunningServer, protocol: str, tensors: Sequence[tuple[str, str, NDArray[Any]]], message: str
) -> None:
    module, address = module_and_address(server, protocol)
    with pytest.raises(InferenceServerException) as caught:
        ask(module, address, "encoder", tensors)
    assert caught.value.message() == f"[request id: <id_unknown>] {message}"
    assert caught.value.status() == ("400" if protocol == "http" else "StatusCode.INVALID_ARGUMENT")
    assert ask(module, address, "encoder", text(1, 16, 0)).as_numpy("hidden").shape == (1, 16, HIDDEN)


def test_a_configuration_that_names_no_input_of_the_model_is_not_served(server: RunningServer) -> None:
    with http_client.InferenceServerClient(server.http) as client:
        [entry] = [one for one in client.get_model_repository_index() if one["name"] == "faulty"]
    assert entry["state"] == "UNAVAILABLE"
    assert "parameter 'padding.tokens.inputs': input 'idz' is unknown for faulty" in entry["reason"]
