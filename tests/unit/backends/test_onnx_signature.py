# SPDX-License-Identifier: Apache-2.0
"""What an ONNX model says of itself against what the configuration says of it."""

from __future__ import annotations

from typing import Any

import pytest

from pyinfer.backends.onnxruntime.signature import (
    Signature,
    TensorInfo,
    check,
    complete,
    model_inputs,
    model_outputs,
)
from pyinfer.errors import ConfigError, ModelError

BATCHING = Signature(
    inputs=(TensorInfo("A", "TYPE_FP32", (-1, 3)), TensorInfo("S", "TYPE_INT64", (-1,))),
    outputs=(TensorInfo("B", "TYPE_FP32", (-1, -1)),),
    optional_inputs=(TensorInfo("O", "TYPE_FP32", (3,)),),
)
FIXED = Signature((TensorInfo("A", "TYPE_FP32", (1, 3)),), (TensorInfo("B", "TYPE_FP32", (1, 3)),))
MAPS = Signature(
    (TensorInfo("A", "TYPE_FP32", (-1, 3)),),
    (TensorInfo("L", "TYPE_INT64", (-1,)), TensorInfo("P", "seq(map(int64,tensor(float)))", (-1,))),
)
INPUT_A = {"name": "A", "data_type": "TYPE_FP32", "dims": [3]}
INPUT_S = {"name": "S", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}}
OUTPUT_B = {"name": "B", "data_type": "TYPE_FP32", "dims": [-1]}


def completed(config: dict[str, Any], signature: Signature = BATCHING) -> dict[str, Any]:
    return complete(config, signature, "m", 4)


def test_batching_model() -> None:
    assert completed({}) == {
        "max_batch_size": 4,
        "dynamic_batching": {},
        "input": [INPUT_A, INPUT_S],
        "output": [OUTPUT_B],
    }


def test_what_the_user_wrote_stays() -> None:
    config = {"max_batch_size": 16, "sequence_batching": {}, "output": [{"name": "B", "label_filename": "x"}]}
    result = completed(config)
    assert result["max_batch_size"] == 16 and "dynamic_batching" not in result
    assert result["output"] == [{"name": "B", "label_filename": "x", "data_type": "TYPE_FP32", "dims": [-1]}]
    assert config["output"] == [{"name": "B", "label_filename": "x"}]


def test_complete_configuration_is_left_alone() -> None:
    config = {"input": [{**INPUT_A, "dims": [-1, 3]}], "output": [{**OUTPUT_B, "dims": [-1, -1]}]}
    assert completed(config) == config


def test_full_rank_means_no_batching() -> None:
    result = completed({"input": [{**INPUT_A, "dims": [2, 3]}]})
    assert result.get("max_batch_size", 0) == 0 and "dynamic_batching" not in result
    assert result["output"] == [{**OUTPUT_B, "dims": [-1, -1]}]


def test_fixed_model() -> None:
    assert completed({}, FIXED) == {
        "input": [{**INPUT_A, "dims": [1, 3]}],
        "output": [{**OUTPUT_B, "dims": [1, 3]}],
    }
    with pytest.raises(ConfigError) as caught:
        completed({"max_batch_size": 2}, FIXED)
    assert str(caught.value) == (
        "autofill failed for model 'm': model does not support batching while non-zero max_batch_size is specified"
    )


def test_output_that_is_no_tensor() -> None:
    with pytest.raises(ModelError, match=r"output 'P' of model 'm' has the type seq\(map"):
        completed({}, MAPS)
    assert completed({"output": [{"name": "L"}]}, MAPS)["output"][0]["data_type"] == "TYPE_INT64"


def test_own_completion_passes_the_check() -> None:
    for signature in (BATCHING, FIXED):
        check(completed({}, signature), signature, "m")


GOOD = {"max_batch_size": 4, "input": [INPUT_A, INPUT_S], "output": [OUTPUT_B]}


@pytest.mark.parametrize(
    "change",
    [
        {"input": [{**INPUT_A, "dims": [-1]}, INPUT_S]},
        {"output": [{**OUTPUT_B, "dims": [7]}]},
        {"input": [INPUT_A, INPUT_S], "output": []},
        {"input": [{**INPUT_A, "dims": [1, 3], "reshape": {"shape": [3]}}, INPUT_S]},
    ],
)
def test_agreeing_configurations(change: dict[str, Any]) -> None:
    check({**GOOD, **change}, BATCHING, "m")


def test_optional_input_is_known_by_its_whole_shape() -> None:
    optional = {"name": "O", "data_type": "TYPE_FP32", "dims": [3]}
    whole = [{**INPUT_A, "dims": [-1, 3]}, {"name": "S", "data_type": "TYPE_INT64", "dims": [-1]}, optional]
    check({"max_batch_size": 0, "input": whole, "output": []}, BATCHING, "m")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"input": [INPUT_A, {**INPUT_S, "name": "X"}]}, "unexpected inference input 'X', allowed inputs are: A, S, O"),
        ({"output": [{**OUTPUT_B, "name": "X"}]}, "unexpected inference output 'X', allowed outputs are: B"),
        (
            {"input": [INPUT_A]},
            "unable to load model 'm', configuration expects 1 inputs, model provides 2; missing: S",
        ),
        (
            {"input": [{**INPUT_A, "data_type": "TYPE_FP16"}, INPUT_S]},
            (
                "unable to load model 'm', configuration expects datatype TYPE_FP16 for input 'A', model provides "
                "TYPE_FP32"
            ),
        ),
        (
            {"input": [{**INPUT_A, "dims": [4]}, INPUT_S]},
            (
                "model 'm', tensor 'A': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
                "specifies 2 dimensions (an initial batch dimension because max_batch_size > 0 followed by the "
                "explicit tensor shape, making complete shape [-1,4])"
            ),
        ),
        (
            {"max_batch_size": 0},
            (
                "model 'm', tensor 'A': the model expects 2 dimensions (shape [-1,3]) but the model configuration "
                "specifies 1 dimensions (shape [3])"
            ),
        ),
    ],
)
def test_contradictions_name_both_sides(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check({**GOOD, **change}, BATCHING, "m")
    assert expected in str(caught.value)


def test_batching_needs_a_variable_first_dimension() -> None:
    with pytest.raises(ConfigError, match=r"first dimension must be -1; but shape expected by the model is \[1,3\]"):
        check({"max_batch_size": 4, "input": [INPUT_A]}, FIXED, "m")


RECURRENT = Signature(
    inputs=(
        TensorInfo("X", "TYPE_FP32", (-1, 3)),
        TensorInfo("STATE", "TYPE_FP32", (-1, 2)),
        TensorInfo("START", "TYPE_INT32", (-1, 1)),
        TensorInfo("ID", "TYPE_UINT64", (-1, 1)),
    ),
    outputs=(TensorInfo("Y", "TYPE_FP32", (-1, 3)), TensorInfo("NEXT", "TYPE_FP32", (-1, 2))),
)
STATE = {"input_name": "STATE", "output_name": "NEXT", "data_type": "TYPE_FP32", "dims": [2]}
CONTROLS = [
    {"name": "START", "control": [{"kind": "CONTROL_SEQUENCE_START", "int32_false_true": [0, 1]}]},
    {"name": "ID", "control": [{"kind": "CONTROL_SEQUENCE_CORRID", "data_type": "TYPE_UINT64"}]},
]
SEQUENCES = {"sequence_batching": {"control_input": CONTROLS, "state": [STATE]}}


def test_what_the_scheduler_adds_is_none_of_the_clients() -> None:
    result = completed(SEQUENCES, RECURRENT)
    assert [tensor["name"] for tensor in result["input"]] == ["X"]
    assert [tensor["name"] for tensor in result["output"]] == ["Y"]
    check(result, RECURRENT, "m")
    assert [tensor["name"] for tensor in model_inputs(result)] == ["X", "START", "ID", "STATE"]
    assert [tensor["name"] for tensor in model_outputs(result)] == ["Y", "NEXT"]
    shown = {**result, "output": [*result["output"], {"name": "NEXT", "data_type": "TYPE_FP32", "dims": [2]}]}
    check(shown, RECURRENT, "m")
    assert [tensor["name"] for tensor in model_outputs(shown)] == ["Y", "NEXT"]


@pytest.mark.parametrize(
    ("batcher", "text"),
    [
        (
            {"control_input": [{**CONTROLS[0], "name": "NONE"}]},
            "configuration specified sequence control 'NONE', but model does not provide that input",
        ),
        (
            {"control_input": [{**CONTROLS[0], "name": "X"}]},
            "unable to load model 'm', sequence control 'X' in model has dims [3] but dims [1] is expected",
        ),
        (
            {"control_input": CONTROLS, "state": [{**STATE, "output_name": "NONE"}]},
            "unexpected inference output 'NONE'",
        ),
        (
            {"control_input": CONTROLS, "state": [{**STATE, "dims": [3]}]},
            "the model expects 2 dimensions (shape [-1,2])",
        ),
        (
            {"control_input": CONTROLS, "state": [{**STATE, "data_type": "TYPE_FP16"}]},
            "configuration expects datatype TYPE_FP16 for input 'STATE', model provides TYPE_FP32",
        ),
        ({"control_input": CONTROLS}, "missing: STATE"),
    ],
)
def test_what_the_scheduler_adds_must_fit_the_model(batcher: dict[str, Any], text: str) -> None:
    result = completed(SEQUENCES, RECURRENT)
    with pytest.raises(ConfigError) as caught:
        check({**result, "sequence_batching": batcher}, RECURRENT, "m")
    assert text in str(caught.value)


def test_ragged_inputs_and_batch_inputs() -> None:
    flat = Signature(
        (TensorInfo("X", "TYPE_FP32", (-1,)), TensorInfo("BOUNDS", "TYPE_INT32", (-1,))),
        (TensorInfo("Y", "TYPE_FP32", (-1,)),),
    )
    ragged = {"name": "X", "data_type": "TYPE_FP32", "dims": [-1, 2], "allow_ragged_batch": True}
    config = {
        "max_batch_size": 4,
        "input": [ragged],
        "output": [{"name": "Y", "data_type": "TYPE_FP32", "dims": [-1, 2]}],
        "batch_input": [{"target_name": ["BOUNDS"], "data_type": "TYPE_INT32"}],
        "batch_output": [{"target_name": ["Y"]}],
    }
    check(config, flat, "m")
    with pytest.raises(ConfigError, match="unexpected inference input 'OTHER'"):
        check({**config, "batch_input": [{"target_name": ["OTHER"], "data_type": "TYPE_INT32"}]}, flat, "m")
    two = Signature((TensorInfo("X", "TYPE_FP32", (-1, 2)), flat.inputs[1]), flat.outputs)
    with pytest.raises(ConfigError) as caught:
        check(config, two, "m")
    assert str(caught.value) == (
        "unable to load model 'm', configuration expects model provides input with shape [-1]  for ragged input 'X', "
        "model provides [-1,2]"
    )
    with pytest.raises(ConfigError, match="not supported for optional input"):
        check({**config, "input": [{**ragged, "optional": True}]}, flat, "m")
