# SPDX-License-Identifier: Apache-2.0
"""Every rule of the configuration, by the exact text that a client sees."""

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.source import Source
from pyinfer.config.validate import faults, validate
from pyinfer.errors import ConfigError

BASE = 'name: "m" backend: "b" max_batch_size: 8 '
IO = BASE + "input { name: 'x' data_type: TYPE_FP32 dims: 4 "
OUT = BASE + "output { name: 'y' data_type: TYPE_FP32 dims: 4 "
CONTROL = BASE + "sequence_batching { control_input { name: 'c' control { kind: CONTROL_SEQUENCE_"
KINDS = "'int32_false_true', 'fp32_false_true' or 'bool_false_true'"
ENSEMBLE = 'name: "m" platform: "ensemble" '
STEP = "step { model_name: 'a' input_map { key: 'i' value: '%s' } output_map { key: 'o' value: '%s' } }"
METRIC = BASE + "model_metrics { metric_control { "


def _normal(text, **keywords):
    return normalize(to_json(parse(text)), **keywords)


RULES = [
    # identity
    ('backend: "b"', "model configuration must specify 'name'"),
    ('name: "m"', "unexpected platform type '' for m"),
    ('name: "m" platform: "p"', "unexpected platform type 'p' for m"),
    (
        'name: "m" platform: "ensemble" backend: "b"',
        "Ensemble model 'm' must have platform type 'ensemble' and empty backend type",
    ),
    ('name: "m" backend: "onnxruntime"', "unexpected 'platform' and 'backend' pair, got:, onnxruntime"),
    (
        'name: "m" backend: "pytorch" platform: "tensorrt_plan"',
        "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, pytorch",
    ),
    ('name: "m" backend: "b" max_batch_size: -1', "'max_batch_size' must be non-negative value for m"),
    (BASE + "version_policy {}", "must specify 'version policy' for m"),
    # tensors
    (BASE + "input {}", "model input must specify 'name' for m"),
    (BASE + "output {}", "model output must specify 'name' for m"),
    (BASE + "input { name: 'x' }", "model input 'x' must specify 'data_type' for m"),
    (BASE + "output { name: 'x' }", "model output 'x' must specify 'data_type' for m"),
    (BASE + "input { name: 'x' data_type: TYPE_FP32 }", "model input 'x' must specify 'dims' for m"),
    (
        IO + "dims: 0 }",
        "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ),
    (
        OUT + "dims: -2 }",
        "model output 'y' dimension must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ),
    (
        IO + "reshape { shape: [0] } }",
        "model input 'x' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension for m",
    ),
    (IO + "reshape { shape: [2, 3] } }", "model input 'x' has different size for dims and reshape for m"),
    (IO + "reshape { shape: [] } }", "model input 'x' has different size for dims and reshape for m"),
    (IO + "reshape { shape: [-1] } }", "model input 'x' has different size for dims and reshape for m"),
    (IO + "dims: -1 reshape { shape: [4] } }", "model input 'x' has different size for dims and reshape for m"),
    (
        IO + "dims: [-1, -1] reshape { shape: [4, -1] } }",
        "model input 'x' has different number of variable-size dimensions for dims and reshape for m",
    ),
    (
        IO + "dims: [-1, 6] reshape { shape: [2, -1, 12] } }",
        "model input 'x' has different size for dims and reshape for m",
    ),
    (
        "name: 'm' backend: 'b' output { name: 'y' data_type: TYPE_FP32 dims: 1 reshape { } }",
        "model output 'y' cannot have empty reshape for non-batching model as scalar tensors are not supported for m",
    ),
    (IO + "format: FORMAT_NHWC }", "model input NHWC/NCHW require 3 dims for m"),
    (IO + "format: FORMAT_NCHW dims: [1, 2, 3] }", "model input NHWC/NCHW require 3 dims for m"),
    (IO + "is_shape_tensor: true }", "shape tensors are only supported for TensorRT platform for m"),
    (OUT + "is_shape_tensor: true }", "shape tensors are only supported for TensorRT platform for m"),
    (IO + "is_non_linear_format_io: true }", "Non-linear IO format is only supported for the TensorRT platform for m"),
    (
        OUT.replace("'b'", "'b'").replace('backend: "b"', 'backend: "tensorrt" platform: "tensorrt_plan"')
        + "is_non_linear_format_io: true }",
        "Non-linear IO format output requires 3 dims for m",
    ),
    (IO + "} input { name: 'x' data_type: TYPE_FP32 dims: 4 }", "model input 'x' is specified more than once for m"),
    (IO + "dims: [4294967296, 4294967296] }", "model input 'x' has more than 9223372036854775807 elements for m"),
    # batch inputs and outputs
    (
        BASE + "batch_input { data_type: TYPE_FP32 }",
        "batch input kind 'BATCH_ELEMENT_COUNT' expects 1 source input, got 0 for m",
    ),
    (
        BASE + "batch_input { kind: BATCH_ITEM_SHAPE source_input: ['a', 'b'] }",
        "batch input kind 'BATCH_ITEM_SHAPE' expects 1 source input, got 2 for m",
    ),
    (
        IO + "} batch_input { data_type: TYPE_INT64 source_input: 'x' }",
        "batch input data type must be TYPE_INT32 or TYPE_FP32 for m",
    ),
    (IO + "} batch_input { data_type: TYPE_INT32 source_input: 'z' }", "unknown source input name 'z' for m"),
    (
        BASE + "batch_output { }",
        "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE' expects 1 source input, got 0 for m",
    ),
    (BASE + "batch_output { source_input: 'z' }", "unknown source input name 'z' for m"),
    (IO + "} batch_output { source_input: 'x' target_name: 'z' }", "unknown target output name 'z' for m"),
    (
        OUT + "} input { name: 'x' data_type: TYPE_FP32 dims: 4 }"
        "batch_output { source_input: 'x' target_name: ['y', 'y'] }",
        "target output name 'y' can only be specified once for m",
    ),
    # dynamic batching
    (BASE + "dynamic_batching { preferred_batch_size: 0 }", "dynamic batching preferred size must be positive for m"),
    (
        BASE + "dynamic_batching { preferred_batch_size: 9 }",
        "dynamic batching preferred size must be <= max batch size for m",
    ),
    (BASE + "dynamic_batching { priority_levels: 2 }", "default priority level must be in range [1, 2] for m"),
    (
        BASE + "dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
        "default priority level must be in range [1, 2] for m",
    ),
    (
        BASE
        + "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} } }",
        "priority queue policy must have priority level in range [1, 2] for m",
    ),
    (
        BASE + "dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }",
        "Only one priority level is allowed when 'preserve_ordering' is true for m",
    ),
    (
        BASE + "dynamic_batching { preserve_ordering: true"
        " default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 1 } }",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ),
    (
        BASE + "dynamic_batching { preserve_ordering: true"
        " priority_queue_policy { key: 1 value { timeout_action: DELAY default_timeout_microseconds: 1 } } }",
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m",
    ),
    # sequence batching
    (
        BASE + "sequence_batching {} response_cache { enable: true }",
        (
            "Response Cache does not currently support model m with sequence batching scheduler. Please disable the "
            "response cache."
        ),
    ),
    (BASE + "sequence_batching { control_input {} }", "sequence batching control tensor must have a name for m"),
    (
        BASE + "sequence_batching { control_input { name: 'c' } control_input { name: 'c' } }",
        "sequence batching control tensor 'c' is specified for multiple control kinds for m",
    ),
    (
        CONTROL + "START fp32_false_true: [0, 1] } control { fp32_false_true: [0, 1] } } }",
        "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for m",
    ),
    (CONTROL + "END } } }", f"sequence batching must specify either {KINDS} for CONTROL_SEQUENCE_END for m"),
    (
        CONTROL + "READY int32_false_true: [0, 1] bool_false_true: [false, true] } } }",
        (
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            "'bool_false_true' for CONTROL_SEQUENCE_READY for m"
        ),
    ),
    *(
        (
            f"{CONTROL}START {kind}: 0 }} }} }}",
            f"sequence batching control '{kind}' must have exactly 2 entries for CONTROL_SEQUENCE_START for m",
        )
        for kind in ("int32_false_true", "fp32_false_true")
    ),
    (
        CONTROL + "CORRID int32_false_true: [0, 1] data_type: TYPE_INT32 } } }",
        f"sequence batching must not specify either {KINDS} for CONTROL_SEQUENCE_CORRID for m",
    ),
    (
        CONTROL + "CORRID data_type: TYPE_FP32 } } }",
        (
            "unexpected data type for control CONTROL_SEQUENCE_CORRID for m. Allowed data types are TYPE_UINT64, "
            "TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING"
        ),
    ),
    (
        BASE + "sequence_batching { oldest { preferred_batch_size: -1 } }",
        "sequence batching preferred batch size must be positive for m",
    ),
    (
        BASE + "sequence_batching { oldest { preferred_batch_size: 9 } }",
        "sequence batching preferred batch size must be <= max batch size for m",
    ),
    *(
        (
            f"{BASE}sequence_batching {{ direct {{ minimum_slot_utilization: {value} }} }}",
            "sequence batching minimum slot utilization must be in range (0.0, 1.0] for m",
        )
        for value in ("1.5", "-0.1", "nan", "inf")
    ),
    # ensembles
    (ENSEMBLE, "ensemble scheduling must be set for ensemble m whose platform is ensemble"),
    (BASE + "ensemble_scheduling {}", "ensemble scheduling cannot be set for model 'm' whose platform is not ensemble"),
    (ENSEMBLE + "ensemble_scheduling {} instance_group {}", "instance group should not be specified for ensemble 'm'"),
    (ENSEMBLE + "ensemble_scheduling {} optimization {}", "optimization should not be specified for ensemble 'm'"),
    (ENSEMBLE + "ensemble_scheduling {} model_warmup {}", "model_warmup can not be specified for ensemble 'm'"),
    (
        BASE + "model_warmup { name: 'w' batch_size: 9 }",
        "warmup sample 'w' has batch_size 9, the most is 8 for m",
    ),
    (ENSEMBLE + "ensemble_scheduling {}", "must specify 'step' for ensemble 'm'"),
    (ENSEMBLE + "ensemble_scheduling { step {} }", "must specify 'model_name' in step 0 of ensemble 'm'"),
    (
        ENSEMBLE + "ensemble_scheduling { step { model_name: 'a' } }",
        "must specify 'input_map' in step 0 of ensemble 'm'",
    ),
    (
        ENSEMBLE + "ensemble_scheduling { step { model_name: 'a' input_map { key: 'i' value: 'j' } } }",
        "must specify 'output_map' in step 0 of ensemble 'm'",
    ),
    (
        f"{ENSEMBLE} ensemble_scheduling {{ {STEP % ('x', 'y')} {STEP % ('x', 'y')} }}",
        "ensemble tensor 'y' can appear in an output map only once for ensemble 'm' step 1",
    ),
    (
        f"{ENSEMBLE} input {{ name: 'z' }} ensemble_scheduling {{ {STEP % ('x', 'y')} }}",
        "ensemble input 'z' for ensemble m' is not used",
    ),
    (
        f"{ENSEMBLE} input {{ name: 'x' }} output {{ name: 'z' }} ensemble_scheduling {{ {STEP % ('x', 'y')} }}",
        "ensemble output 'z' for ensemble m' is not used",
    ),
    (
        f"{ENSEMBLE} output {{ name: 'z' }} ensemble_scheduling {{ {STEP % ('x', 'y')} {STEP % ('y', 'z')} }}",
        "output 'z' for ensemble 'm' is not written: at least one of its depending tensors, 'x', is not connected",
    ),
    (
        f"{ENSEMBLE} output {{ name: 'y' }} ensemble_scheduling {{ {STEP % ('z', 'y')} {STEP % ('y', 'z')} }}",
        "output 'y' for ensemble 'm' is not written",
    ),
    (
        f"{ENSEMBLE} input {{ name: 'x' }} ensemble_scheduling {{ {STEP % ('x', 'y')} }}",
        "ensemble tensor 'y' is unused in ensemble 'm'",
    ),
    # cache and metrics
    (
        BASE + "model_transaction_policy { decoupled: true } response_cache { enable: true }",
        (
            "Response Cache does not currently support model m with 'decoupled' transaction policy. Please disable the "
            "response cache."
        ),
    ),
    (METRIC + "} }", "metric control must specify 'metric_identifier'"),
    (METRIC + "metric_identifier {} } }", "metric identifier must specify non-empty 'family'"),
    (METRIC + "metric_identifier { family: 'f' } } }", "metric control must specify 'histogram_options'"),
    (
        METRIC + "metric_identifier { family: 'f' } histogram_options {} } }",
        "histogram options must specify non-empty 'buckets'",
    ),
    *(
        (
            METRIC + f"metric_identifier {{ family: 'f' }} histogram_options {{ buckets: [ {buckets} ] }} }} }}",
            "histogram options must specify 'buckets' that are finite numbers in ascending order",
        )
        for buckets in ("1, 1", "2, 1", "1, inf", "nan")
    ),
    # instances
    (
        BASE + "instance_group { kind: KIND_MODEL gpus: 0 }",
        "instance group m_0 of model m has kind KIND_MODEL but specifies one or more GPUs",
    ),
    (
        BASE + "instance_group { name: 'g' kind: KIND_CPU gpus: 0 }",
        "instance group g of model m has kind KIND_CPU but specifies one or more GPUs",
    ),
    (
        BASE + "instance_group { kind: KIND_GPU }",
        "instance group m_0 of model m has kind KIND_GPU but its backend does not support GPUs",
    ),
    (
        BASE + "platform: 'p' instance_group { profile: '1' }",
        (
            "instance group m_0 of model m and platform pspecifies profile field which is only supported for "
            "TensorRT models"
        ),
    ),
    (
        BASE + "instance_group { passive: true } instance_group { passive: true }",
        "must specify an instance group that is not passive for m: nobody would execute its requests",
    ),
    (
        BASE + "sequence_batching {} parameters { key: 'TRITON_BATCH_STRATEGY_PATH' value { string_value: '/x.so' } }",
        "TRITON_BATCH_STRATEGY_PATH cannot be specified with sequence batcher, using default batching strategy",
    ),
    (BASE + "instance_group { count: 1025 }", "instance group m_0 of model m has count 1025, the most is 1024"),
    # files
    *(
        (
            f"{BASE}default_model_filename: '{file}'",
            "'default_model_filename' must name a file within the model directory for m",
        )
        for file in ("/etc/passwd", "../other/model.onnx", "a/../../b", "a\\000b")
    ),
    (OUT + "label_filename: '../x' }", "'label_filename' must name a file within the model directory for m"),
    (
        BASE + "cc_model_filenames { key: '8.0' value: '/x' }",
        "'cc_model_filenames' must name a file within the model directory for m",
    ),
    (
        BASE + "model_warmup { inputs { key: 'x' value { input_data_file: '../x' } } }",
        "'input_data_file' must name a file within the model directory for m",
    ),
    (
        BASE + "sequence_batching { state { initial_state { data_file: '../x' } } }",
        "'data_file' must name a file within the model directory for m",
    ),
]


@pytest.mark.parametrize(("text", "message"), RULES)
def test_rule(text, message):
    with pytest.raises(ConfigError) as caught:
        validate(_normal(text))
    assert str(caught.value) == message


def test_directory_name():
    with pytest.raises(ConfigError) as caught:
        validate(_normal(BASE), directory_name="d")
    assert str(caught.value) == "unexpected directory name 'd' for model 'm', directory name must equal model name"
    validate(_normal(BASE), directory_name="m")


@pytest.mark.parametrize(
    ("group", "gpus", "reason"),
    [
        ("kind: KIND_GPU", [], "has kind KIND_GPU but no GPUs are available"),
        (
            "kind: KIND_GPU gpus: 7",
            [0, 1],
            "specifies invalid or unsupported gpu id 7. GPUs that can be used are: 0, 1",
        ),
    ],
)
def test_gpu_groups(group, gpus, reason):
    with pytest.raises(ConfigError) as caught:
        validate(_normal(f"{BASE}instance_group {{ {group} }}", gpus=gpus), gpus=gpus)
    assert str(caught.value) == f"instance group m_0 of model m {reason}"


def test_no_instance_group():
    with pytest.raises(ConfigError, match=r"^must specify one or more 'instance group's for m$"):
        validate(_normal(BASE) | {"instance_group": []})


@pytest.mark.parametrize(
    "text",
    [
        BASE,
        'name: "m" backend: "onnxruntime" platform: "onnxruntime_onnx"',
        IO + "reshape { shape: [2, 2] } }",
        BASE + "input { name: 'x' data_type: TYPE_FP32 dims: 1 reshape { shape: [] } }",
        BASE + "input { name: 'x' data_type: TYPE_FP32 dims: [2, 4, -1, 6] reshape { shape: [8, -1, 1, 6] } }",
        BASE + "input { name: 'x' data_type: TYPE_FP32 format: FORMAT_NCHW dims: [3, -1, -1] }",
        IO + "} output { name: 'x' data_type: TYPE_FP32 dims: 4 label_filename: 'a/b..txt' }",
        CONTROL
        + "START bool_false_true: [false, true] } control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } } }",
        BASE + "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY } }",
        (
            f"{ENSEMBLE} input {{ name: 'x' data_type: TYPE_FP32 dims: 1 }} "
            f"output {{ name: 'z' data_type: TYPE_FP32 dims: 1 }}"
            f"ensemble_scheduling {{ {STEP % ('y', 'z')} {STEP % ('x', 'y')} }}"
        ),
        METRIC + "metric_identifier { family: 'f' } histogram_options { buckets: [ -1, 0, 2.5 ] } } }",
    ],
)
def test_good_configurations(text):
    assert list(faults(_normal(text), directory_name="m")) == []


def test_errors_have_a_place():
    text = 'name: "m"\nbackend: "b"\ninput {\n  name: "x"\n  data_type: TYPE_FP32\n  dims: [ 0 ]\n}\n'
    with pytest.raises(ConfigError) as caught:
        validate(_normal(text), source=Source("m/config.pbtxt", text))
    assert str(caught.value).startswith("m/config.pbtxt:6:3: model input 'x' dimension must be")
    assert (caught.value.file, caught.value.line, caught.value.column) == ("m/config.pbtxt", 6, 3)
