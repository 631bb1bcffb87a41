# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models, made where they are needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["FP32", "graph_model", "identity_model", "mlp", "write"]

FP32 = TensorProto.FLOAT

Tensor = tuple[str, int, Sequence[Any]]


def graph_model(
    nodes: Sequence[Any], inputs: Sequence[Tensor], outputs: Sequence[Tensor], weights: Sequence[Any] = ()
) -> onnx.ModelProto:
    """A model of one graph; a tensor is (name, type, dims) where a dim is a number or a name."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        list(weights),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def identity_model(data_type: int = FP32, dims: Sequence[Any] = ("n", 2)) -> onnx.ModelProto:
    """``A`` to ``B``."""
    return graph_model([helper.make_node("Identity", ["A"], ["B"])], [("A", data_type, dims)], [("B", data_type, dims)])


def mlp() -> onnx.ModelProto:
    """``A`` [n, 3] times a weight [3, 2] to ``B`` [n, 2]; a second output ``C`` is the ReLU of it."""
    weight = numpy_helper.from_array(np.array([[1, -1], [0, 1], [2, 0]], dtype=np.float32), "W")
    nodes = [helper.make_node("MatMul", ["A", "W"], ["B"]), helper.make_node("Relu", ["B"], ["C"])]
    return graph_model(nodes, [("A", FP32, ["n", 3])], [("B", FP32, ["n", 2]), ("C", FP32, ["n", 2])], [weight])


def write(directory: Path, model: onnx.ModelProto | bytes, version: int = 1, name: str = "model.onnx") -> Path:
    """Write the model's file into a version of the model ``directory``; returns the file."""
    file = directory / str(version) / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return file
