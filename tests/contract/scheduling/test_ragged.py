# SPDX-License-Identifier: Apache-2.0
"""Ragged batches through ONNX Runtime over both protocols: sums of lists of any length, computed in one run."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server

CONFIG = """
backend: "onnxruntime" max_batch_size: 16
input [ { name: "VALUES" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true } ]
output [
  { name: "SUM" data_type: TYPE_FP32 dims: [ 1 ] },
  { name: "DOUBLED" data_type: TYPE_FP32 dims: [ -1 ] }
]
batch_input [ { kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO target_name: "BOUNDS" data_type: TYPE_INT32
                source_input: "VALUES" } ]
batch_output [ { target_name: "DOUBLED" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "VALUES" } ]
dynamic_batching { max_queue_delay_microseconds: 200000 preferred_batch_size: [ 8 ] }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


def model() -> bytes:
    """VALUES [n] and BOUNDS [m + 1] -> SUM [m, 1] of the values between two bounds each, and DOUBLED [n]."""
    zero = helper.make_tensor("zero", TensorProto.INT64, [1], [0])
    one = helper.make_tensor("one", TensorProto.INT64, [1], [1])
    last = helper.make_tensor("last", TensorProto.INT64, [1], [-1])
    end = helper.make_tensor("end", TensorProto.INT64, [1], [2**31 - 1])
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [0])
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    pad = helper.make_tensor("pad", TensorProto.FLOAT, [1], [0.0])
    nodes = [
        helper.make_node("Mul", ["VALUES", "two"], ["DOUBLED"]),
        helper.make_node("CumSum", ["VALUES", "axis0"], ["sums"]),
        helper.make_node("Concat", ["pad", "sums"], ["from_zero"], axis=0),
        helper.make_node("Gather", ["from_zero", "BOUNDS"], ["at_bounds"], axis=0),
        helper.make_node("Slice", ["at_bounds", "one", "end", "axis"], ["upper"]),
        helper.make_node("Slice", ["at_bounds", "zero", "last", "axis"], ["lower"]),
        helper.make_node("Sub", ["upper", "lower"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["SUM"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "sums",
        [info("VALUES", TensorProto.FLOAT, ["n"]), info("BOUNDS", TensorProto.INT32, ["bounds"])],
        [info("SUM", TensorProto.FLOAT, ["m", 1]), info("DOUBLED", TensorProto.FLOAT, ["n"])],
        [zero, one, last, end, axis, two, pad, helper.make_tensor("axis0", TensorProto.INT64, [], [0])],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("ragged")
    for name, config in (("sums", CONFIG), ("strict", CONFIG.replace("-1 ] allow_ragged_batch: true", "-1, 2 ]"))):
        directory = add_model(repository, name, config)
        (directory / "1" / "model.onnx").write_bytes(model())
    with run_server(repository, "--exit-on-error=false") as running:
        yield running


def infer(module: Any, address: str, values: np.ndarray) -> Any:
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("VALUES", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        return client.infer("sums", [tensor])


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_lists_of_any_length_share_a_batch(server: RunningServer, protocol: str) -> None:
    module: Any = http_client if protocol == "http" else grpc_client
    address = getattr(server, protocol)
    random = np.random.default_rng(5)
    lists = [random.integers(0, 100, (1, size)).astype(np.float32) for size in (1, 7, 0, 3, 100, 2, 5, 1)]
    with ThreadPoolExecutor(len(lists)) as pool:
        results = list(pool.map(lambda values: infer(module, address, values), lists))
    for values, result in zip(lists, results, strict=True):
        assert result.as_numpy("SUM").tolist() == [[values.sum()]]
        assert np.array_equal(result.as_numpy("DOUBLED"), 2 * values)
    with grpc_client.InferenceServerClient(server.grpc) as client:
        stats = client.get_inference_statistics("sums", as_json=True)["model_stats"][0]
    assert any(int(batch["batch_size"]) > 1 for batch in stats["batch_stats"])


def test_one_alone(server: RunningServer) -> None:
    result = infer(grpc_client, server.grpc, np.array([[1, 2, 3]], np.float32))
    assert result.as_numpy("SUM").tolist() == [[6]]
    assert result.as_numpy("DOUBLED").tolist() == [[2, 4, 6]]


def test_what_is_not_ragged_must_be_as_the_model_has_it(server: RunningServer) -> None:
    with http_client.InferenceServerClient(server.http) as client:
        [entry] = [one for one in client.get_model_repository_index() if one["name"] == "strict"]
    assert entry["state"] == "UNAVAILABLE"
    assert "the model expects 1 dimensions" in entry["reason"]
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'VALUES'"):
        infer(grpc_client, server.grpc, np.zeros((1, 2, 2), np.float32))
