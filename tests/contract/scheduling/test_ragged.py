# SPDX-License-Identifier: Apache-2.0
"""Ragged batches through ONNX Runtime over both protocols: sums of lists of any length, computed in one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, permutations
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


#: each kind of batch input: the kind, its data type, and what it is for requests of so many elements
KINDS: dict[str, tuple[str, int, Callable[[list[int]], list[int]]]] = {
    "COUNT": ("BATCH_ELEMENT_COUNT", TensorProto.INT32, list),
    "SUMS": ("BATCH_ACCUMULATED_ELEMENT_COUNT", TensorProto.FLOAT, lambda sizes: list(accumulate(sizes))),
    "BOUNDS": (
        "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", TensorProto.INT32, lambda sizes: list(accumulate(sizes, initial=0))
    ),
    "LONGEST": ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", TensorProto.FLOAT, lambda sizes: [max(sizes)]),
    "SHAPES": ("BATCH_ITEM_SHAPE", TensorProto.INT32, list),
    "FLAT": ("BATCH_ITEM_SHAPE_FLATTEN", TensorProto.FLOAT, list),
}  # fmt: skip
KINDS_CONFIG = """
backend: "onnxruntime" max_batch_size: 16
input [ {{ name: "VALUES" data_type: TYPE_FP32 dims: [ -1 ] allow_ragged_batch: true }} ]
output [ {{ name: "ALL" data_type: TYPE_FP32 dims: [ -1 ] }} ]
batch_input [ {inputs} ]
dynamic_batching {{ max_queue_delay_microseconds: 60000000 preferred_batch_size: [ 3 ] }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


def serialized(graph: onnx.GraphProto) -> bytes:
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString())


def kinds_config() -> str:
    types = {TensorProto.INT32: "TYPE_INT32", TensorProto.FLOAT: "TYPE_FP32"}
    inputs = ", ".join(
        f'{{ kind: {kind} target_name: "{name}" data_type: {types[of]} source_input: "VALUES" }}'
        for name, (kind, of, _) in KINDS.items()
    )
    return KINDS_CONFIG.format(inputs=inputs)


def kinds_model() -> bytes:
    """VALUES [n] and all batch inputs -> ALL [m, k]: in each row the numbers of all batch inputs."""
    nodes = [helper.make_node("Shape", ["SHAPES"], ["shape"]), helper.make_node("Shape", ["LONGEST"], ["longest"])]
    for name in KINDS:
        source = "longest" if name == "LONGEST" else name
        nodes.append(helper.make_node("Reshape", [source, "flat"], [f"{name}_flat"]))
        nodes.append(helper.make_node("Cast", [f"{name}_flat"], [f"{name}_part"], to=TensorProto.FLOAT))
    nodes += [
        helper.make_node("Concat", [f"{name}_part" for name in KINDS], ["parts"], axis=0),
        helper.make_node("Slice", ["shape", "zero", "one"], ["rows"]),
        helper.make_node("Concat", ["rows", "one"], ["times"], axis=0),
        helper.make_node("Unsqueeze", ["parts", "zero"], ["row"]),
        helper.make_node("Tile", ["row", "times"], ["ALL"]),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "kinds",
        [
            info("VALUES", TensorProto.FLOAT, ["n"]),
            *(info(name, of, ["m", 1] if name == "SHAPES" else [name]) for name, (_, of, _) in KINDS.items()),
        ],
        [info("ALL", TensorProto.FLOAT, ["m", "k"])],
        [
            helper.make_tensor(name, TensorProto.INT64, [1], [at])
            for name, at in (("zero", 0), ("one", 1), ("flat", -1))
        ],
    )
    return serialized(graph)


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
    return serialized(graph)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("ragged")
    for name, config in (("sums", CONFIG), ("strict", CONFIG.replace("-1 ] allow_ragged_batch: true", "-1, 2 ]"))):
        directory = add_model(repository, name, config)
        (directory / "1" / "model.onnx").write_bytes(model())
    (add_model(repository, "kinds", kinds_config()) / "1" / "model.onnx").write_bytes(kinds_model())
    with run_server(repository, "--exit-on-error=false") as running:
        yield running


def infer(module: Any, address: str, values: np.ndarray, model: str = "sums") -> Any:
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("VALUES", list(values.shape), "FP32")
        tensor.set_data_from_numpy(values)
        return client.infer(model, [tensor])


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


def test_each_kind_of_batch_input(server: RunningServer) -> None:
    lists = [np.zeros((1, size), np.float32) for size in (3, 4, 5)]
    with ThreadPoolExecutor(len(lists)) as pool:
        results = list(pool.map(lambda values: infer(grpc_client, server.grpc, values, "kinds"), lists))
    seen = {tuple(result.as_numpy("ALL").ravel().astype(int).tolist()) for result in results}
    # one batch, in the order in which they happened to come
    expected = [
        tuple(number for _, _, of in KINDS.values() for number in of(list(sizes))) for sizes in permutations((3, 4, 5))
    ]
    assert len(seen) == 1 and seen <= set(expected)


def test_what_is_not_ragged_must_be_as_the_model_has_it(server: RunningServer) -> None:
    with http_client.InferenceServerClient(server.http) as client:
        [entry] = [one for one in client.get_model_repository_index() if one["name"] == "strict"]
    assert entry["state"] == "UNAVAILABLE"
    assert "the model expects 1 dimensions" in entry["reason"]
    with pytest.raises(InferenceServerException, match="unexpected shape for input 'VALUES'"):
        infer(grpc_client, server.grpc, np.zeros((1, 2, 2), np.float32))
