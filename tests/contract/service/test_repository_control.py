# SPDX-License-Identifier: Apache-2.0
"""Index, load and unload with real models; what fails leaves its reason, and no request fails in a reload."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest

from contract.service.conftest import IDENTITY, PYTHON_MODEL, Askers, Bench, Client
from pyinfer.errors import InvalidArgument, ModelError, PyinferError, Unavailable
from pyinfer.repository.overrides import bare_repository

PYTHON = IDENTITY.replace('"identity"', '"python"')


def _text(call: Callable[[], object], kind: type[Exception] = InvalidArgument) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def _python(initialize: str = "pass") -> str:
    return PYTHON_MODEL.format(initialize=initialize)


def test_index(bench: Bench) -> None:
    bench.write("a")
    bench.write("b")
    service = bench.start(managing={"startup_models": ("a",)})
    assert service.repository_index() == [{"name": "a", "version": "1", "state": "READY"}, {"name": "b"}]
    assert service.repository_index(ready_only=True) == [{"name": "a", "version": "1", "state": "READY"}]
    service.unload_model("a")
    assert service.repository_index() == [
        {"name": "a", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "b"},
    ]


def test_mode_none_refuses_control(bench: Bench) -> None:
    bench.write("m")
    service = bench.start("none")
    for call in (service.load_model, service.unload_model):
        text = _text(lambda call=call: call("m"), Unavailable)  # type: ignore[misc]
        assert text == "explicit model load / unload is not allowed if polling is enabled"
    assert service.model_ready("m")


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"priority": "1"}, "unrecognized load parameter 'priority'."),
        ({"config": 1}, "invalid value type for load parameter 'config', expected string_param."),
        ({"config": b"{}"}, "invalid value type for load parameter 'config', expected string_param."),
        # over gRPC a parameter may come without a value
        ({"config": None}, "invalid value type for load parameter 'config', expected string_param."),
        ({"priority": None}, "unrecognized load parameter 'priority'."),
        ({"file:1/m": 1}, "invalid value type for load parameter 'file:1/m', expected bytes_param."),
        ({"file:1/m": "***", "config": "{}"}, "load parameter 'file:1/m' is not valid base64"),
        ({"file:1/m": b""}, "Load parameter 'config' must be specified for model file override"),
        ({"file:../m": b"", "config": "{}"}, "Invalid file parameter 'file:../m' must stay within model directory."),
        ({"config": "{"}, "Invalid config override: "),
        ({"config": "[]"}, "Invalid config override: "),
        ({"config": '{"no_such_field": 1}'}, "Invalid config override: "),
        ({"config": '{"name": "other", "backend": "identity"}'}, "unexpected directory name 'm' for model 'other'"),
    ],
)
def test_bad_load_parameters(bench: Bench, parameters: dict[str, Any], text: str) -> None:
    bench.write("m")
    service = bench.start()
    assert _text(lambda: service.load_model("m", parameters)).startswith(text)
    assert service.model_ready("m")


def test_config_and_file_overrides(bench: Bench, client: Client) -> None:
    bench.write("m")
    service = bench.start()
    config = service.model_config("m")
    plain = {key: value for key, value in config.items() if key != "dynamic_batching"}
    service.load_model("m", {"config": json.dumps({**plain, "max_batch_size": 0})})
    assert service.model_metadata("m")["inputs"][0]["shape"] == [-1]
    source = base64.b64encode(_python().encode()).decode()
    override = {"config": json.dumps({**config, "backend": "python"}), "file:5/model.py": source}
    service.load_model("m", override)
    assert service.model_metadata("m")["versions"] == ["5"]
    assert client.infer("m", [7.0])[1]["outputs"][0]["data"] == [7.0]
    service.load_model("m")
    assert service.model_metadata("m") == {**service.model_metadata("m", "1"), "platform": "identity"}


@pytest.mark.parametrize(
    ("config", "model", "reason"),
    [
        ("nonsense: 1", None, "m/config.pbtxt:1:1"),
        (IDENTITY.replace("identity", "no_such_backend"), None, "unable to find backend 'no_such_backend'"),
        (IDENTITY.replace("TYPE_FP32 dims: [ -1 ] } ] output", "TYPE_FP32 dims: [ 0 ] } ] output"), None, "dimension"),
        (IDENTITY + " sequence_batching { }", None, ""),
        ('name: "other" ' + IDENTITY, None, "unexpected directory name 'm' for model 'other'"),
        (PYTHON, "raise ValueError('no weights')", "no weights"),
        (PYTHON, "raise SystemExit(3)", ""),
        (PYTHON, "open('/no/such/place/weights.bin')", "weights.bin"),
        (PYTHON, None, ""),
    ],
)
def test_failures_leave_a_reason(bench: Bench, config: str, model: str | None, reason: str) -> None:
    bench.write("m", config, **({} if model is None else {"model": _python(model)}))
    service = bench.make()
    (failure,) = service.start()
    (entry,) = service.repository_index()
    assert entry["state"] == "UNAVAILABLE"
    assert reason in entry["reason"]
    assert reason in failure
    for text in (entry["reason"], failure):
        assert str(bench.repository) not in text
        assert "/no/such" not in text
        assert "Traceback" not in text
    with pytest.raises(PyinferError):
        service.load_model("m")
    bench.write("m", IDENTITY)
    service.load_model("m")
    assert service.repository_index() == [{"name": "m", "version": "1", "state": "READY"}]


def test_one_failing_instance_takes_all_down(bench: Bench) -> None:
    model = _python("assert not args['model_instance_name'].endswith('_1'), 'the second one'")
    bench.write("m", PYTHON, model=model)
    service = bench.make()
    (failure,) = service.start()
    assert "the second one" in failure
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("m_0_")]


def test_a_failed_reload_keeps_serving(bench: Bench, client: Client) -> None:
    directory = bench.write("m", PYTHON, model=_python())
    service = bench.start()
    (directory / "1" / "model.py").write_text("syntax error (")
    assert _text(lambda: service.load_model("m")).startswith(
        "load failed for model 'm': version 1 is at UNAVAILABLE state: "
    )
    assert client.infer("m", [2.0])[0] == 200
    (entry,) = service.repository_index()
    assert entry["state"] == "READY"
    assert entry["reason"].startswith("version 1: ")
    assert service.ready()


def test_no_request_fails_while_a_model_is_reloaded(bench: Bench) -> None:
    directory = bench.write("m", PYTHON, model=_python())
    service = bench.start()
    with Askers(bench.engine, 2) as askers:
        for round_number in range(10):
            (directory / "1" / "model.py").write_text(_python() + f"# {'x' * round_number}\n")
            service.load_model("m")
            askers.wait(10)
    assert set(askers.answers) == {200}


def test_unload_answers_what_it_has_accepted(bench: Bench, client: Client) -> None:
    bench.write("m")
    service = bench.start()
    assert client.infer("m", [1.0])[0] == 200
    service.unload_model("m")
    status, body = client.infer("m", [1.0])
    assert (status, body) == (404, {"error": "Request for unknown model: 'm' has no available versions"})
    assert client.infer("m", [1.0], "1")[0] == 503
    service.unload_model("m")
    service.unload_model("never heard of")


def test_unknown_model(bench: Bench) -> None:
    text = _text(lambda: bench.start().load_model("x"), ModelError)
    assert text == "failed to load 'x', failed to poll from model repository"


def test_only_a_model_file(bench: Bench, client: Client) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N, 2] INPUT0) => (float[N, 2] OUTPUT0) '
        "{ OUTPUT0 = Add(INPUT0, INPUT0) }"
    )
    (bench.repository / "double" / "1").mkdir(parents=True)
    onnx.save(graph, bench.repository / "double" / "1" / "model.onnx")
    service = bench.start()
    config = service.model_config("double")
    assert (config["backend"], config["max_batch_size"], "dynamic_batching" in config) == ("onnxruntime", 4, True)
    assert client.infer("double", [1.0, 2.0])[1]["outputs"][0]["data"] == [2.0, 4.0]

    bare = bench.repository.parent / "net.onnx"
    shutil.copy(bench.repository / "double" / "1" / "model.onnx", bare)
    root = bare_repository(bare)
    try:
        alone = bench.start("none", managing={"repositories": (root,)})
        assert alone.model_metadata("net")["platform"] == "onnxruntime_onnx"
        assert client.infer("net", [1.5, 2.0])[1]["outputs"][0]["data"] == [3.0, 4.0]
    finally:
        shutil.rmtree(root)


def test_without_auto_complete_a_configuration_is_needed(bench: Bench) -> None:
    (bench.repository / "m" / "1").mkdir(parents=True)
    service = bench.make(loading={"auto_complete": False})
    (failure,) = service.start()
    assert "Could not determine backend for model 'm'" in failure


def test_another_configuration_by_name(bench: Bench) -> None:
    directory = bench.write("m")
    (directory / "configs").mkdir()
    (directory / "configs" / "small.pbtxt").write_text(IDENTITY.replace("max_batch_size: 8", "max_batch_size: 2"))
    bench.write("n")
    service = bench.start(loading={"model_config_name": "small"})
    assert service.model_config("m")["max_batch_size"] == 2
    assert service.model_config("n")["max_batch_size"] == 8
