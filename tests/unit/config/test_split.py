# SPDX-License-Identifier: Apache-2.0
"""The model parameter ``split_large``: what it means, and what it can not be used with."""

from __future__ import annotations

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.split import split_large
from pyinfer.config.validate import validate
from pyinfer.errors import ConfigError

BASE = (
    'name: "m" backend: "b" max_batch_size: 4 '
    'input { name: "I" data_type: TYPE_FP32 dims: 1 } output { name: "O" data_type: TYPE_FP32 dims: 1 } '
)


def normal(text: str, value: str = "true") -> dict[str, object]:
    parameter = f'parameters {{ key: "split_large" value {{ string_value: "{value}" }} }}'
    return normalize(to_json(parse(text + parameter)))


def test_off_unless_asked_for() -> None:
    assert not split_large(normalize(to_json(parse(BASE))))
    assert not split_large(normal(BASE, "false"))
    assert split_large(normal(BASE))
    validate(normal(BASE + "dynamic_batching { preserve_ordering: true } response_cache { enable: true }"))


REFUSED = [
    (BASE.replace("max_batch_size: 4", ""), "parameter 'split_large' needs a max_batch_size above 0 for m"),
    (BASE + "sequence_batching { }", "parameter 'split_large' can not be used with sequence_batching for m"),
    (
        BASE + "model_transaction_policy { decoupled: true }",
        "parameter 'split_large' can not be used with model_transaction_policy.decoupled for m",
    ),
    (
        BASE.replace("dims: 1 } output", "dims: 1 allow_ragged_batch: true } output"),
        "parameter 'split_large' can not be used with allow_ragged_batch for m",
    ),
    (
        BASE + 'batch_input { kind: BATCH_ITEM_SHAPE target_name: "S" data_type: TYPE_INT32 source_input: "I" }',
        "parameter 'split_large' can not be used with batch_input for m",
    ),
    (
        BASE + 'batch_output { target_name: "O" kind: BATCH_SCATTER_WITH_INPUT_SHAPE source_input: "I" }',
        "parameter 'split_large' can not be used with batch_output for m",
    ),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_what_can_not_be_executed_in_parts(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(normal(text))
    assert caught.value.reason == message
    assert caught.value.field == "parameters.split_large"


def test_a_value_that_means_nothing() -> None:
    with pytest.raises(ConfigError) as caught:
        validate(normal(BASE, "yes"))
    assert caught.value.reason == "parameter 'split_large' must be 'true' or 'false' for m, got 'yes'"
