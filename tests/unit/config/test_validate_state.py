# SPDX-License-Identifier: Apache-2.0
"""The rules of implicit state and of warm-up, by the exact text that an operator sees."""

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.validate import validate
from pyinfer.errors import ConfigError

BASE = 'name: "m" backend: "b" max_batch_size: 8 '
STATE = BASE + "sequence_batching { state { input_name: 's' output_name: 't' data_type: TYPE_FP32 dims: [2, -1] "
INITIAL = STATE + "initial_state { name: 'n' data_type: TYPE_FP32 "
WARMUP = BASE + "input { name: 'x' data_type: TYPE_FP32 dims: 4 } model_warmup { name: 'w' "

RULES = [
    # implicit state
    (BASE + "sequence_batching { state {} }", "sequence batching state must specify 'input_name'"),
    (
        BASE + "sequence_batching { state { input_name: 's' output_name: 't' } }",
        "sequence batching state 's' must specify 'data_type'",
    ),
    (
        BASE + "sequence_batching { state { input_name: 's' output_name: 't' data_type: TYPE_FP32 } }",
        "sequence batching state 's' must specify 'dims'",
    ),
    (
        STATE + "} state { input_name: 's' output_name: 'u' data_type: TYPE_FP32 dims: 1 } }",
        "State input name 's' specified more than once.",
    ),
    (
        STATE + "} state { input_name: 'r' output_name: 't' data_type: TYPE_FP32 dims: 1 } }",
        "State output name 't' specified more than once.",
    ),
    (
        STATE + "} } input { name: 's' data_type: TYPE_FP32 dims: 1 }",
        "state input 's' can not be an input that clients send as well",
    ),
    (
        INITIAL + "dims: [2, 3] zero_data: true } initial_state { } } }",
        "initial_state field for state input 's' must contain exactly one or zero element. Found '2' elements.",
    ),
    (
        STATE + "initial_state { name: 'n' data_type: TYPE_FP16 dims: [2, 3] zero_data: true } } }",
        "The data type used for 'initial_state' field of state 's' does not match the state data type.",
    ),
    (
        STATE + "initial_state { data_type: TYPE_FP32 dims: [2, 3] zero_data: true } } }",
        "Field 'name' must be set when using initial_state for state input 's'.",
    ),
    (
        INITIAL + "dims: 2 zero_data: true } } }",
        (
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input 's'. "
            "1 != 2"
        ),
    ),
    (
        INITIAL + "dims: [2, -1] zero_data: true } } }",
        "'initial_state' field for state input name 's' contains variable dimensions.",
    ),
    (
        INITIAL + "dims: [3, 1] zero_data: true } } }",
        "'initial_state' dim for input name 's' doesn't match 'state' dim description. 3 != 2",
    ),
    (INITIAL + "dims: [2, 1] } } }", "initial_state setting expects state's' to have state_data set"),
    (
        INITIAL + "dims: [2, 1] data_file: '../x' } } }",
        "'data_file' must name a file within the model directory for m",
    ),
    (
        STATE + "use_growable_memory: true } }",
        "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input name 's'.",
    ),
    (
        STATE + "use_growable_memory: true use_same_buffer_for_input_output: true } }",
        (
            "'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change the "
            "instance type to KIND_GPU or set 'use_growable_memory' to false for state input 's'."
        ),
    ),
    (
        STATE + "} } model_transaction_policy { decoupled: true }",
        "a model with implicit state can not be decoupled: which response has the next request's state?",
    ),
    # warm-up
    (
        WARMUP + "inputs { key: 'x' value { data_type: TYPE_FP32 dims: -1 zero_data: true } } }",
        "warmup setting expects all variable-size dimensions are specified for input 'x'",
    ),
    (
        WARMUP + "inputs { key: 'x' value { dims: 4 zero_data: true } } }",
        "warmup setting expects input 'x' to have data_type set",
    ),
    (
        WARMUP + "inputs { key: 'x' value { data_type: TYPE_FP32 dims: 4 } } }",
        "warmup setting expects input 'x' to have input_data_type set",
    ),
    (WARMUP + "batch_size: 9 }", "warmup sample 'w' has batch_size 9, the most is 8 for m"),
    (WARMUP + "count: 100001 }", "warmup sample 'w' has count 100001, the most is 100000 for m"),
    (
        'name: "m" platform: "ensemble" ensemble_scheduling {} model_warmup {}',
        "model_warmup can not be specified for ensemble 'm'",
    ),
]


@pytest.mark.parametrize(("text", "message"), RULES)
def test_rule(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(normalize(to_json(parse(text))))
    assert str(caught.value) == message


def test_what_is_right_is_accepted() -> None:
    validate(normalize(to_json(parse(INITIAL + "dims: [2, 5] data_file: 'x' } } }"))))
    validate(
        normalize(to_json(parse(WARMUP + "inputs { key: 'x' value { data_type: TYPE_FP32 random_data: true } } }")))
    )
