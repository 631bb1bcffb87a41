# SPDX-License-Identifier: Apache-2.0
"""ONNX models are opened, checked, completed and run; batches are fakes, models and ONNX Runtime are real."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pyinfer.backends.base import InstanceContext, ModelContext
from pyinfer.backends.onnxruntime import OnnxRuntimeBackend
from pyinfer.backends.onnxruntime.options import execution_providers, session_options
from pyinfer.errors import ConfigError, ModelError
from unit.backends import models
from unit.backends.fake_batch import FakeBatch


def tensor(name: str, data_type: str = "TYPE_FP32", dims: Sequence[int] = (2,), **more: Any) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims), **more}


def config(
    inputs: Sequence[Any] = (), outputs: Sequence[Any] = (), max_batch_size: int = 8, **more: Any
) -> dict[str, Any]:
    return {"max_batch_size": max_batch_size, "input": list(inputs), "output": list(outputs), **more}


def context(directory: Path, settings: dict[str, Any], **options: str) -> ModelContext:
    return ModelContext("m", 1, directory, settings, options)


def run(directory: Path, settings: dict[str, Any], batch: FakeBatch) -> dict[int, Any]:
    backend = OnnxRuntimeBackend(context(directory, settings))
    instance = backend.make_instance(InstanceContext("m_0"))
    instance.execute(batch)
    instance.close()
    backend.close()
    return batch.answers


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "m"


def test_runs_a_batch_for_the_configured_outputs(directory: Path) -> None:
    models.write(directory, models.mlp())
    settings = config([tensor("A", dims=[3])], [tensor("C")])
    rows = [{"A": np.array([[1, 2, 3]], np.float32)}, {"A": np.array([[0, 0, 1], [1, 0, 0]], np.float32)}]
    answers = run(directory, settings, FakeBatch(*rows))
    assert {index: list(answer) for index, answer in answers.items()} == {0: ["C"], 1: ["C"]}
    assert answers[0]["C"][1].tolist() == [[7, 1]]
    assert answers[1]["C"][1].tolist() == [[2, 0], [1, 0]]


def test_strings(directory: Path) -> None:
    models.write(directory, models.identity_model(TensorProto.STRING))
    settings = config([tensor("A", "TYPE_STRING")], [tensor("B", "TYPE_STRING")])
    texts = [b"caf\xc3\xa9", b"", b"a\0b", b"long" * 50]
    rows = [{"A": np.array([texts[:2]], dtype=object)}, {"A": np.array([texts[2:]], dtype=object)}]
    answers = run(directory, settings, FakeBatch(*rows))
    assert [answers[index]["B"][1].tolist() for index in (0, 1)] == [[texts[:2]], [texts[2:]]]


def test_text_that_is_not_utf8_fails_its_request_only(directory: Path) -> None:
    models.write(directory, models.identity_model(TensorProto.STRING))
    settings = config([tensor("A", "TYPE_STRING")], [tensor("B", "TYPE_STRING")])
    rows = [{"A": np.array([[b"ok", text]], dtype=object)} for text in (b"1", b"\xff", b"3")]
    answers = run(directory, settings, FakeBatch(*rows))
    assert answers[0]["B"][1].tolist() == [[b"ok", b"1"]] and answers[2]["B"][1].tolist() == [[b"ok", b"3"]]
    assert answers[1][0] == "INVALID_ARG" and "UTF-8 only" in answers[1][1]


def test_fp16(directory: Path) -> None:
    models.write(directory, models.identity_model(TensorProto.FLOAT16))
    settings = config([tensor("A", "TYPE_FP16")], [tensor("B", "TYPE_FP16")])
    answers = run(directory, settings, FakeBatch({"A": np.array([[1, 2]], np.float16)}))
    assert answers[0]["B"][0] == "FP16" and answers[0]["B"][1].tolist() == [[1, 2]]


def test_bf16_as_raw_bits(directory: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["A"], ["a"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "F"], ["b"]),
        helper.make_node("Cast", ["b"], ["B"], to=TensorProto.BFLOAT16),
    ]
    bf16, dims = TensorProto.BFLOAT16, ["n", 2]
    models.write(
        directory, models.graph_model(nodes, [("A", bf16, dims), ("F", models.FP32, dims)], [("B", bf16, dims)])
    )
    settings = config([tensor("A", "TYPE_BF16"), tensor("F")], [tensor("B", "TYPE_BF16")])
    row = {"A": np.array([[0x3F80, 0x4000]], np.uint16), "F": np.array([[1, 2]], np.float32)}
    answers = run(directory, settings, FakeBatch(row))
    assert answers[0]["B"][0] == "BF16" and answers[0]["B"][1].tolist() == [[0x4000, 0x4080]]


def test_optional_input_may_be_absent(directory: Path) -> None:
    default = helper.make_tensor("D", models.FP32, [1], [10.0])
    nodes = [helper.make_node("Add", ["A", "D"], ["B"])]
    inputs = [("A", models.FP32, ["n", 2]), ("D", models.FP32, [1])]
    models.write(directory, models.graph_model(nodes, inputs, [("B", models.FP32, ["n", 2])], [default]))
    settings = config([tensor("A", dims=[1, 2]), tensor("D", dims=[1], optional=True)], [tensor("B", dims=[1, 2])], 0)
    given = {"A": np.array([[1, 2]], np.float32)}
    assert run(directory, settings, FakeBatch(given))[0]["B"][1].tolist() == [[11, 12]]
    given = {**given, "D": np.array([5], np.float32)}
    assert run(directory, settings, FakeBatch(given))[0]["B"][1].tolist() == [[6, 7]]


def test_error_of_a_run_is_worded_as_by_triton(directory: Path) -> None:
    models.write(directory, models.mlp())
    settings = config([tensor("A", dims=[-1])], [tensor("B")])
    with pytest.raises(ModelError, match="^onnx runtime error 2: Got invalid dimensions for input: A"):
        run(directory, settings, FakeBatch({"A": np.zeros((1, 4), np.float32)}))


def test_model_file_may_be_a_directory(directory: Path) -> None:
    models.write(directory, models.identity_model(), name="model.onnx/model.onnx")
    answers = run(directory, config([tensor("A")], [tensor("B")]), FakeBatch({"A": np.ones((1, 2), np.float32)}))
    assert answers[0]["B"][1].tolist() == [[1, 1]]


UNKNOWN_OP = models.graph_model(
    [helper.make_node("Frobnicate", ["A"], ["B"])], [("A", models.FP32, ["n"])], [("B", models.FP32, ["n"])]
)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "there is no file m/1/model.onnx"),
        (b"", "m/1/model.onnx is empty"),
        (b"no model", "onnx runtime error 7: Load model from m/1/model.onnx failed"),
        (models.mlp().SerializeToString()[:-20], "onnx runtime error 7: Load model from m/1/model.onnx failed"),
        (UNKNOWN_OP.SerializeToString(), "Frobnicate"),
    ],
)
def test_broken_files(directory: Path, content: bytes | None, expected: str) -> None:
    directory.mkdir()
    (directory / "1").mkdir()
    if content is not None:
        models.write(directory, content)
    for load in (lambda: OnnxRuntimeBackend(context(directory, config())), lambda: complete(directory, {})):
        with pytest.raises(ModelError) as caught:
            load()
        assert expected in str(caught.value)
        assert str(directory.parent) not in str(caught.value)


def complete(directory: Path, settings: dict[str, Any], **options: str) -> dict[str, Any]:
    return OnnxRuntimeBackend.auto_complete(directory, settings, options)


def test_auto_complete_from_nothing(directory: Path) -> None:
    models.write(directory, models.mlp(), 3)
    models.write(directory, b"must not be opened", 20)
    assert complete(directory, {"name": "m"}) == {
        "name": "m",
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [tensor("A", dims=[3])],
        "output": [tensor("B"), tensor("C")],
    }


def test_auto_complete_takes_the_default_size(directory: Path) -> None:
    models.write(directory, models.mlp())
    sized = complete(directory, {}, **{"default-max-batch-size": "1"})
    assert sized["max_batch_size"] == 1 and "dynamic_batching" not in sized
    whole = complete(directory, {}, **{"default-max-batch-size": "0"})
    assert whole["max_batch_size"] == 0 and whole["input"] == [tensor("A", dims=[-1, 3])]
    with pytest.raises(ConfigError, match="default-max-batch-size must be a whole number"):
        complete(directory, {}, **{"default-max-batch-size": "x"})


def test_instances_and_kind() -> None:
    assert OnnxRuntimeBackend.default_cpu_instances == 2


def parameters(**values: str) -> dict[str, Any]:
    return {"parameters": {key.replace("__", "."): {"string_value": value} for key, value in values.items()}}


def test_default_threads_share_the_cores_and_do_not_spin(directory: Path) -> None:
    cores = len(os.sched_getaffinity(0))
    for count in (1, 2, 1000):
        options = session_options(context(directory, {"instance_group": [{"count": count}]}))
        assert options.intra_op_num_threads == max(1, cores // count)
        assert options.inter_op_num_threads == 1
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_settings_reach_the_session(directory: Path) -> None:
    settings = {
        **parameters(
            intra_op_thread_count="3",
            execution_mode="1",
            enable_mem_arena="0",
            enable_mem_pattern="false",
            session__intra_op__allow_spinning="1",
        ),
        "optimization": {"graph": {"level": -1}},
    }
    options = session_options(
        context(directory, settings, **{"inter-op-thread-count": "2", "intra_op_thread_count": "9"})
    )
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)
    assert options.execution_mode == onnxruntime.ExecutionMode.ORT_PARALLEL
    assert not options.enable_cpu_mem_arena and not options.enable_mem_pattern
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (parameters(intra_op_thread_count="many"), "intra_op_thread_count of model 'm' must be a whole number"),
        (parameters(execution_mode="2"), "execution_mode of model 'm' must be one of 0, 1, got '2'"),
        (parameters(enable_mem_arena="x"), "enable_mem_arena"),
        ({"optimization": {"graph": {"level": 3}}}, "graph level 3 of model 'm' must be -1, 0, 1 or 2"),
    ],
)
def test_settings_that_are_not_understood(directory: Path, settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        session_options(context(directory, settings))


def accelerated(name: str) -> dict[str, Any]:
    accelerators = [{"name": name, "parameters": {"k": "v"}}]
    return {"optimization": {"execution_accelerators": {"cpu_execution_accelerator": accelerators}}}


def test_execution_providers(directory: Path) -> None:
    assert execution_providers(context(directory, {})) == [("CPUExecutionProvider", {})]
    assert execution_providers(context(directory, accelerated("cpu")))[0] == ("CPUExecutionProvider", {"k": "v"})
    with pytest.raises(
        ConfigError, match="accelerator 'imaginary' is not in the installed ONNX Runtime, which has: .*cpu"
    ):
        execution_providers(context(directory, accelerated("imaginary")))


def test_arena_shrinkage_and_custom_operators(directory: Path) -> None:
    models.write(directory, models.identity_model())
    settings = config([tensor("A")], [tensor("B")], **parameters(memory__enable_memory_arena_shrinkage="cpu:0"))
    answers = run(directory, settings, FakeBatch({"A": np.ones((1, 2), np.float32)}))
    assert answers[0]["B"][1].tolist() == [[1, 1]]
    with pytest.raises(ModelError, match="custom operator libraries"):
        OnnxRuntimeBackend(context(directory, {"model_operations": {"op_library_filename": ["x.so"]}}))
