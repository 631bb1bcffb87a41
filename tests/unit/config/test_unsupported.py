# SPDX-License-Identifier: Apache-2.0
"""What this version does not implement is named; what it implements, and hints, are accepted."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.validate import faults, require_supported, unsupported
from pyinfer.errors import ConfigError, Unsupported

BASE = 'name: "m" backend: "b" max_batch_size: 8 '


def _normal(text, **keywords):
    return normalize(to_json(parse(text)), **keywords)


UNSUPPORTED = [
    ("model_repository_agents { agents { name: 'a' } }", ["model_repository_agents.agents"]),
    ("model_operations { op_library_filename: 'a.so' }", ["model_operations.op_library_filename"]),
    ("runtime: 'other.so'", ["runtime"]),
    ("input {} input { is_shape_tensor: true }", ["input[1].is_shape_tensor"]),
    ("input { is_shape_tensor: true }", ["input[0].is_shape_tensor"]),
    ("output { is_shape_tensor: true }", ["output[0].is_shape_tensor"]),
    ("output { is_non_linear_format_io: true }", ["output[0].is_non_linear_format_io"]),
    ("instance_group { secondary_devices {} }", ["instance_group[0].secondary_devices"]),
    ("instance_group { profile: '1' }", ["instance_group[0].profile"]),
    (
        "parameters { key: 'TRITON_BATCH_STRATEGY_PATH' value { string_value: '/x.so' } } dynamic_batching {}",
        ["parameters: TRITON_BATCH_STRATEGY_PATH"],
    ),
]


@pytest.mark.parametrize(("text", "fields"), UNSUPPORTED)
def test_unsupported_fields_are_named(text, fields):
    config = _normal(BASE + text)
    assert unsupported(config) == fields
    with pytest.raises(Unsupported) as caught:
        require_supported(config)
    assert str(caught.value) == (
        f"model 'm' uses configuration that this version does not support: {', '.join(fields)}"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dynamic_batching { default_queue_policy { max_queue_size: 5 } max_queue_delay_microseconds: 3 }",
        "dynamic_batching { priority_queue_policy { key: 1 value { timeout_action: DELAY } } priority_levels: 2 }",
        "optimization { priority: PRIORITY_MAX graph { level: 1 } cuda { graphs: true } eager_batching: true }",
        "sequence_batching { state { input_name: 'a' } oldest { preserve_ordering: true } } model_warmup { name: 'w' }",
        "input { allow_ragged_batch: true } batch_input {} batch_output {}",
        "dynamic_batching { preserve_ordering: true } model_transaction_policy { decoupled: true }",
        "sequence_batching { oldest { preserve_ordering: true } } model_transaction_policy { decoupled: true }",
        "sequence_batching { iterative_sequence: true }",
        (
            "model_transaction_policy { decoupled: true } "
            "sequence_batching { iterative_sequence: true oldest { preserve_ordering: true } }"
        ),
        "metric_tags { key: 'a' value: 'b' } version_policy { specific { versions: 3 } }",
        "output { label_filename: 'l' } input { optional: true format: FORMAT_NCHW reshape {} }",
        "response_cache { enable: true } dynamic_batching { preserve_ordering: true }",
        "instance_group { passive: true } instance_group {}",
        "model_transaction_policy {} response_cache {} runtime: 'libtriton_b.so'",
        "instance_group { count: 2 kind: KIND_MODEL host_policy: 'p' rate_limiter {} }",
    ],
)
def test_hints_and_supported_fields_are_accepted(text):
    config = _normal(BASE + text)
    assert unsupported(config) == []
    require_supported(config)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([text for text, _ in UNSUPPORTED]), min_size=1, max_size=3))
def test_any_mixture_is_judged_without_an_accident(parts):
    try:
        config = _normal(BASE + " ".join(parts))
    except ConfigError:  # two members of one oneof
        return
    assert all(fault.message and fault.path for fault in faults(config, directory_name="m", gpus=[0]))
    assert unsupported(config)
