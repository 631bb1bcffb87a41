# SPDX-License-Identifier: Apache-2.0
"""A model can not make the server read files that are not the model's."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pyinfer.backends.base import ModelContext
from pyinfer.backends.onnxruntime import OnnxRuntimeBackend
from pyinfer.backends.onnxruntime.external import check_external_data
from pyinfer.errors import ModelError
from unit.backends import models

CONFIG = {
    "max_batch_size": 8,
    "input": [{"name": "A", "data_type": "TYPE_FP32", "dims": [3]}],
    "output": [{"name": "B", "data_type": "TYPE_FP32", "dims": [2]}],
}
WEIGHTS = np.ones((3, 2), dtype=np.float32).tobytes()


def outside(location: str) -> TensorProto:
    """A weight of [3, 2] whose data lies in the file ``location``."""
    tensor = TensorProto(name="W", dims=[3, 2], data_type=models.FP32, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(WEIGHTS)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return tensor


def with_initializer(location: str) -> onnx.ModelProto:
    nodes = [helper.make_node("MatMul", ["A", "W"], ["B"])]
    tensors = [("A", models.FP32, ["n", 3])], [("B", models.FP32, ["n", 2])]
    return models.graph_model(nodes, *tensors, [outside(location)])


def in_subgraph(location: str) -> onnx.ModelProto:
    """The weight is an attribute of a node in a branch of an If."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=outside(location))],
        "branch",
        [],
        [helper.make_tensor_value_info("c", models.FP32, [3, 2])],
    )
    nodes = [
        helper.make_node("If", ["cond"], ["w"], then_branch=branch, else_branch=branch),
        helper.make_node("MatMul", ["A", "w"], ["B"]),
    ]
    inputs = [("A", models.FP32, ["n", 3]), ("cond", TensorProto.BOOL, [])]
    return models.graph_model(nodes, inputs, [("B", models.FP32, ["n", 2])])


def load(file: Path) -> None:
    OnnxRuntimeBackend(ModelContext("m", 1, file.parent.parent, CONFIG)).close()


def test_data_beside_the_model_is_fine(tmp_path: Path) -> None:
    file = models.write(tmp_path / "m", with_initializer("data/weights.bin"))
    (file.parent / "data").mkdir()
    (file.parent / "data" / "weights.bin").write_bytes(WEIGHTS)
    load(file)


@pytest.mark.parametrize("build", [with_initializer, in_subgraph])
@pytest.mark.parametrize(
    "location", ["../secret.bin", "a/../../secret.bin", "/etc/hostname", "..\\secret.bin", "secret.bin\0x"]
)
def test_path_that_leads_out(tmp_path: Path, build: object, location: str) -> None:
    assert callable(build)
    file = models.write(tmp_path / "m", build(location))
    (tmp_path / "m" / "secret.bin").write_bytes(WEIGHTS)
    with pytest.raises(ModelError) as caught:
        load(file)
    assert "by a path that leads out of the version directory" in str(caught.value)
    assert "m/1/model.onnx refers to external data" in str(caught.value) and str(tmp_path) not in str(caught.value)


def test_link_that_leads_out(tmp_path: Path) -> None:
    file = models.write(tmp_path / "m", with_initializer("weights.bin"))
    (tmp_path / "secret.bin").write_bytes(WEIGHTS)
    (file.parent / "weights.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match="through a link that leads out"):
        load(file)


@pytest.mark.parametrize("location", ["weights.bin", "", "*/_ORT_MEM_ADDR_/*"])
def test_absent_data(tmp_path: Path, location: str) -> None:
    file = models.write(tmp_path / "m", with_initializer(location))
    with pytest.raises(ModelError, match="which is not in the version directory"):
        load(file)


@given(st.data())
def test_any_bytes_end_in_an_answer(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    whole = in_subgraph("../secret.bin").SerializeToString()
    at = data.draw(st.integers(0, len(whole) - 1))
    broken = whole[:at] + data.draw(st.binary(max_size=8)) + whole[data.draw(st.integers(at, len(whole))) :]
    file = tmp_path_factory.getbasetemp() / f"broken-{os.getpid()}.onnx"
    file.write_bytes(broken)
    with suppress(ModelError):  # any other exception is a failure
        check_external_data(file, "m/1/model.onnx")
