# SPDX-License-Identifier: Apache-2.0
"""What the files of a model tell, and the defaults that are filled afterwards."""

from copy import deepcopy

import pytest

from pyinfer.config.complete import backend_of_file, complete, fill_backend, version_files
from pyinfer.config.normalize import instances, normalize
from pyinfer.config.pbtxt import canonical
from pyinfer.errors import ConfigError

# files (name -> is directory), what the user wrote, and (backend, platform, default_model_filename)
FILLED = [
    ({"model.savedmodel": True}, {}, ("tensorflow", "tensorflow_savedmodel", "model.savedmodel")),
    ({"model.graphdef": False}, {}, ("tensorflow", "tensorflow_graphdef", "model.graphdef")),
    ({"model.plan": False}, {}, ("tensorrt", "tensorrt_plan", "model.plan")),
    ({"model.onnx": False}, {}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({"model.onnx": True}, {}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({"model.xml": False, "model.bin": False}, {}, ("openvino", "", "model.xml")),
    ({"model.pt": False}, {}, ("pytorch", "pytorch_libtorch", "model.pt")),
    ({"model.pt2": False}, {}, ("pytorch", "torch_aoti", "model.pt2")),
    ({"model.py": False}, {}, ("python", "", "model.py")),
    ({"model.py": False, "model.onnx": False}, {}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({"model.pt": True, "model.py": False}, {}, ("python", "", "model.py")),
    ({}, {"backend": "onnxruntime"}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({}, {"platform": "onnxruntime_onnx"}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({}, {"default_model_filename": "model.onnx"}, ("onnxruntime", "onnxruntime_onnx", "model.onnx")),
    ({}, {"backend": "onnxruntime", "default_model_filename": "a.onnx"}, ("onnxruntime", "onnxruntime_onnx", "a.onnx")),
    ({}, {"backend": "python"}, ("python", "", "model.py")),
    ({}, {"backend": "pytorch"}, ("pytorch", "pytorch_libtorch", "model.pt")),
    ({}, {"platform": "libtorch"}, ("pytorch", "libtorch", "model.pt")),
    ({}, {"platform": "torch_aoti"}, ("pytorch", "torch_aoti", "model.pt2")),
    ({}, {"backend": "pytorch", "platform": "torch_aoti"}, ("pytorch", "torch_aoti", "model.pt2")),
    ({"model.graphdef": False}, {"backend": "tensorflow"}, ("tensorflow", "tensorflow_graphdef", "model.graphdef")),
    ({}, {"backend": "tensorflow"}, ("tensorflow", "", "")),
    ({}, {"backend": "tensorflow", "default_model_filename": "f"}, ("tensorflow", "", "f")),
    ({}, {"backend": "identity"}, ("identity", "", "")),
    ({"model.onnx": False}, {"backend": "identity"}, ("identity", "", "")),
    ({}, {"backend": "onnxruntime", "platform": "other"}, ("onnxruntime", "other", "model.onnx")),
    ({}, {"platform": "ensemble"}, ("", "ensemble", "")),
    ({"model.onnx": False}, {"default_model_filename": "a.onnx"}, ("", "", "a.onnx")),
]


@pytest.mark.parametrize(("files", "config", "filled"), FILLED)
def test_backend_platform_and_file(files, config, filled):
    result = complete("m", files, canonical(config))
    assert (result["backend"], result["platform"], result["default_model_filename"]) == filled
    assert result["name"] == "m"


def test_backend_from_the_name():
    result = fill_backend("x.my.backend", {"unknown.bin": False}, {})
    assert (result["backend"], result["default_model_filename"]) == ("my.backend", "model.my.backend")
    assert fill_backend("x.identity", {"model.onnx": False}, {})["backend"] == "onnxruntime"


def test_no_backend_at_all():
    with pytest.raises(ConfigError) as caught:
        complete("m", {"weights.bin": False}, canonical({}))
    assert str(caught.value) == (
        "Invalid model name: Could not determine backend for model 'm' with no backend in model configuration. "
        "Expected model name of the form 'model.<backend_name>'."
    )


def test_the_name_in_the_configuration_stays():
    assert fill_backend("directory", {"model.py": False}, {"name": "other"})["name"] == "other"


def test_the_backend_adds_to_the_completed_form_and_the_result_is_complete():
    seen = {}

    def add(config):
        seen.update(config)
        return {**config, "maxBatchSize": 4, "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [3]}]}

    given = canonical({"parameters": {"k": {"string_value": "v"}}})
    before = deepcopy(given)
    result = complete("m", {"model.onnx": False}, given, lambda config: _without(add(config), "max_batch_size"))
    assert seen == canonical(seen)
    assert seen["backend"] == "onnxruntime"
    assert result["max_batch_size"] == 4
    assert result["input"][0]["optional"] is False
    assert result["parameters"] == {"k": {"string_value": "v"}}
    assert given == before


def _without(config, name):
    return {key: value for key, value in config.items() if key != name}


def test_a_backend_that_returns_nonsense_is_refused():
    with pytest.raises(ConfigError, match="ModelConfig has no field 'inputs'; did you mean 'input'"):
        complete("m", {"model.onnx": False}, canonical({}), lambda config: {**config, "inputs": []})


def test_version_files_are_those_of_the_lowest_version(tmp_path):
    for name in ("10/model.py", "2/model.onnx", "configs/a.pbtxt", "01/model.pt", "1a/model.xml", "٣/model.plan"):
        file = tmp_path / name
        file.parent.mkdir()
        file.write_bytes(b"")
    (tmp_path / "2" / "extra").mkdir()
    (tmp_path / "1").write_bytes(b"a file is no version")
    assert version_files(tmp_path) == {"model.onnx": False, "extra": True}


def test_a_directory_without_versions(tmp_path):
    (tmp_path / "config.pbtxt").write_text("")
    assert version_files(tmp_path) == {}


@pytest.mark.parametrize(
    ("file", "backend"),
    [("a.onnx", "onnxruntime"), ("dir/b.py", "python"), ("c.pt", "pytorch"), ("d", None), ("e.txt", None), ("", None)],
)
def test_backend_of_a_bare_file(file, backend):
    assert backend_of_file(file) == backend


# ---- normalization


def _normal(config, **keywords):
    return normalize({"name": "m"} | config, **keywords)


def test_version_policy():
    assert _normal({})["version_policy"] == {"latest": {"num_versions": 1}}
    assert _normal({"version_policy": {"all": {}}})["version_policy"] == {"all": {}}


@pytest.mark.parametrize(
    ("batcher", "size", "preferred"),
    [({}, 8, [8]), ({}, 0, []), ({"preferred_batch_size": [4]}, 8, [4])],
)
def test_preferred_batch_size(batcher, size, preferred):
    normal = _normal({"max_batch_size": size, "dynamic_batching": batcher})
    assert normal["dynamic_batching"]["preferred_batch_size"] == preferred
    normal = _normal({"max_batch_size": size, "sequence_batching": {"oldest": batcher}})
    assert normal["sequence_batching"]["oldest"]["preferred_batch_size"] == preferred


def test_no_batcher_is_added():
    assert "dynamic_batching" not in _normal({"max_batch_size": 8})


def test_sequence_idle_time():
    assert _normal({"sequence_batching": {}})["sequence_batching"]["max_sequence_idle_microseconds"] == 1_000_000
    given = {"sequence_batching": {"max_sequence_idle_microseconds": 5}}
    assert _normal(given)["sequence_batching"]["max_sequence_idle_microseconds"] == 5


def test_pinned_memory():
    optimization = _normal({"optimization": {"input_pinned_memory": {"enable": False}}})["optimization"]
    assert optimization["input_pinned_memory"] == {"enable": False}
    assert optimization["output_pinned_memory"] == {"enable": True}


# groups as given, cpu_instances, gpus -> (name, kind, count, gpus) of each
GROUPS = [
    ([], 1, [], [("m", "KIND_CPU", 1, [])]),
    ([], 2, [], [("m", "KIND_CPU", 2, [])]),
    ([], 2, [0, 1], [("m", "KIND_GPU", 1, [0, 1])]),
    ([{}], 2, [], [("m_0", "KIND_CPU", 2, [])]),
    ([{"count": 3}, {"name": "g"}], 1, [], [("m_0", "KIND_CPU", 3, []), ("g", "KIND_CPU", 1, [])]),
    ([{"count": -1, "kind": "KIND_CPU"}], 2, [], [("m_0", "KIND_CPU", 2, [])]),
    ([{"kind": "KIND_MODEL"}], 2, [0], [("m_0", "KIND_MODEL", 1, [])]),
    ([{"kind": "KIND_GPU"}], 2, [1, 0], [("m_0", "KIND_GPU", 1, [0, 1])]),
    ([{"kind": "KIND_GPU"}], 2, [], [("m_0", "KIND_GPU", 1, [])]),
    ([{"gpus": [1]}], 2, [0, 1], [("m_0", "KIND_GPU", 1, [1])]),
    ([{"gpus": [7]}], 2, [0, 1], [("m_0", "KIND_CPU", 2, [7])]),
]


@pytest.mark.parametrize(("groups", "cpu_instances", "gpus", "expected"), GROUPS)
def test_instance_groups(groups, cpu_instances, gpus, expected):
    normal = _normal({"instance_group": groups}, cpu_instances=cpu_instances, gpus=gpus)
    assert [(one["name"], one["kind"], one["count"], one["gpus"]) for one in normal["instance_group"]] == expected
    assert canonical(normal) == normal
    assert normalize(normal, cpu_instances=9, gpus=gpus) == normal


def test_instance_names():
    assert instances(_normal({}, cpu_instances=2)) == [
        ("m_0", "CPU", 0, (0, ()), False),
        ("m_1", "CPU", 0, (0, ()), False),
    ]
    assert instances(_normal({"instance_group": [{}]})) == [("m_0_0", "CPU", 0, (0, ()), False)]
    two = _normal({"instance_group": [{"name": "a", "kind": "KIND_MODEL"}, {"count": 2, "gpus": [1]}]}, gpus=[0, 1])
    none = (0, ())
    assert instances(two) == [
        ("a_0", "MODEL", 0, none, False),
        ("m_1_0", "GPU", 1, none, False),
        ("m_1_1", "GPU", 1, none, False),
    ]
    resources = [{"name": "R1", "count": 4}, {"name": "R2", "global": True, "count": 2}]
    limited = _normal({"instance_group": [{"count": 2, "rate_limiter": {"resources": resources, "priority": 3}}]})
    limits = (3, (("R1", False, 4), ("R2", True, 2)))
    assert instances(limited) == [("m_0_0", "CPU", 0, limits, False), ("m_0_1", "CPU", 0, limits, False)]


def test_an_ensemble_gets_neither_instances_nor_optimization():
    normal = _normal({"platform": "ensemble", "ensemble_scheduling": {"step": []}})
    assert normal["instance_group"] == []
    assert "optimization" not in normal


def test_the_input_is_not_changed():
    given = {"name": "m", "max_batch_size": 4, "dynamic_batching": {}, "instance_group": [{}]}
    normalize(given)
    assert given == {"name": "m", "max_batch_size": 4, "dynamic_batching": {}, "instance_group": [{}]}
