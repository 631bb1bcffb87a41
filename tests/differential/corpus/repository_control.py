# SPDX-License-Identifier: Apache-2.0
"""Loading, unloading and listing models, over both protocols. Each section leaves only ``first`` loaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator

from differential.case import Answer, Call, Case, Http
from differential.corpus.build import call, get, grpc_infer, json_infer, post, tensor
from pyinfer.config.messages import message

__all__ = [
    "completed",
    "grpc_control",
    "grpc_parameters",
    "http_bodies",
    "http_control",
    "http_parameters",
    "no_version",
]

_INPUT = [tensor("INPUT0", "FP32", [1, 1], [1])]
_CONFIG = {
    "name": "second",
    "backend": "identity",
    "max_batch_size": 3,
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
    "instance_group": [{"kind": "KIND_CPU"}],
}


def _do(action: str, model: str, body: object = b"") -> Http:
    return post(f"/v2/repository/models/{model}/{action}", body)


def _look(when: str, model: str) -> Iterator[Case]:
    """All that can be asked about a model whose state has changed."""
    yield Case(f"{when}: index", post("/v2/repository/index"))
    yield Case(f"{when}: index of ready models", post("/v2/repository/index", {"ready": True}))
    for tail in (
        "",
        "/ready",
        "/config",
        "/stats",
        "/versions/1",
        "/versions/1/ready",
        "/versions/3/ready",
        "/versions/9/ready",
    ):
        yield Case(f"{when}: {model}{tail}", get(f"/v2/models/{model}{tail}"))
    yield Case(f"{when}: infer", json_infer(model, _INPUT))
    yield Case(f"{when}: server ready", get("/v2/health/ready"), _ready if model != "no_version" else None)


def _ready(answer: Answer) -> bool:
    """Whether the server is ready: Triton is not as long as a version is being unloaded."""
    return answer["status"] == 200 or bool(answer.get("message", {}).get("ready"))


def http_control() -> Iterable[Case]:
    yield from _look("at start", "second")
    yield Case("load second", _do("load", "second"))
    yield from _look("loaded", "second")
    yield Case("load it again", _do("load", "second"))
    yield Case("load it with a repository", post("/v2/repository/x/models/second/load"))
    yield Case("unload it with a repository", post("/v2/repository/x/models/second/unload"))
    yield Case("index of a repository", post("/v2/repository/x/index"))
    yield Case("unload second", _do("unload", "second"))
    yield from _look("unloaded", "second")
    yield Case("unload it again", _do("unload", "second"))
    for model in ("broken", "unknown", "misnamed", "no_backend"):
        yield Case(f"load {model}", _do("load", model))
        yield from _look(f"{model} failed", model)
        yield Case(f"unload {model}", _do("unload", model))
        yield from _look(f"{model} unloaded", model)
    yield Case("load first", _do("load", "first"))


def completed() -> Iterable[Case]:
    """A model without a configuration, which its program completes."""
    for tail in ("", "/config", "/versions/1/config"):
        yield Case(f"completes{tail}", get(f"/v2/models/completes{tail}"))
    yield Case("metadata over gRPC", call("ModelMetadata", name="completes"))
    yield Case("configuration over gRPC", call("ModelConfig", name="completes"))
    rows = [tensor("INPUT", "FP32", [4, 2], [1, 2, 3, 4, 5, 6, 7, 8])]
    yield Case("infer", json_infer("completes", rows))
    yield Case(
        "infer with the optional input", json_infer("completes", [*rows, tensor("EXTRA", "FP32", [4, 1], [0] * 4)])
    )
    yield Case("infer beyond its batch size", json_infer("completes", [tensor("INPUT", "FP32", [5, 1], [0] * 5)]))
    yield Case("infer over gRPC", grpc_infer("completes", [("INPUT", "FP32", [1, 1])], [bytes(4)]))


def no_version() -> Iterable[Case]:
    """A model without a version, by servers of their own: Triton is not ready any more."""
    yield Case("load no_version", _do("load", "no_version"))
    yield from _look("no_version failed", "no_version")
    yield Case("unload no_version", _do("unload", "no_version"))
    yield from _look("no_version unloaded", "no_version")
    yield Case("load no_version over gRPC", _load("no_version"))
    yield from _look_over_grpc("no_version failed over gRPC", "no_version")
    yield from _names()


def _names() -> Iterator[Case]:
    """Names that no model can have. Triton takes some of them for models without a version."""
    for name in ("..", ".", "%2e%2e", "a%2Fb", "fir%73t", "x" * 300, "a%00", "%ff", "a%0a"):
        yield Case(f"load {name[:20]}", _do("load", name))
        yield Case(f"unload {name[:20]}", _do("unload", name))
    for name in ("", "..", ".", "a/b", "../x", "/x", "x" * 300, "a\0", "é", "a\n", "first "):
        yield Case(f"load over gRPC {name[:20]!r}", _load(name))
        yield Case(f"unload over gRPC {name[:20]!r}", _unload(name))


def http_bodies() -> Iterable[Case]:
    """Bodies of control requests."""
    bodies = (
        "",
        " ",
        "{}",
        "[]",
        "null",
        "1",
        '"x"',
        "{",
        "}",
        "{}{}",
        '{"ready":true',
        '{"ready":true}',
        '{"ready":false}',
        '{"ready":1}',
        '{"ready":"true"}',
        '{"ready":null}',
        '{"ready":[]}',
        '{"x":1}',
        '{"ready":true,"ready":false}',
        '{"parameters":{}}',
        '{"parameters":null}',
        '{"parameters":[]}',
        '{"parameters":1}',
        '{"parameters":"x"}',
        '{"repository_name":"x"}',
    )
    for body in bodies:
        yield Case(f"index {body}", post("/v2/repository/index", body))
        yield Case(f"load {body}", _do("load", "first", body))
        yield Case(f"unload {body}", _do("unload", "unknown", body))


def http_parameters() -> Iterable[Case]:
    """Parameters of loading and unloading: override of the configuration, files, others."""
    for value in ("true", "false", "1", '"true"', "null", "[]"):
        yield Case(
            f"unload_dependents {value}", _do("unload", "unknown", f'{{"parameters":{{"unload_dependents":{value}}}}}')
        )
        yield Case(
            f"unload with another parameter {value}", _do("unload", "unknown", f'{{"parameters":{{"other":{value}}}}}')
        )
        yield Case(
            f"load with another parameter {value}", _do("load", "first", f'{{"parameters":{{"other":{value}}}}}')
        )
        yield Case(f"load with config {value}", _do("load", "second", f'{{"parameters":{{"config":{value}}}}}'))
        yield Case(f"load with file {value}", _do("load", "second", f'{{"parameters":{{"file:1/x":{value}}}}}'))
    for name, config in _configs():
        yield Case(f"override {name}", _do("load", "second", {"parameters": {"config": config}}))
        yield Case(f"override {name}: config", get("/v2/models/second/config"))
        yield Case(f"override {name}: index", post("/v2/repository/index"))
    yield Case("override again", _do("load", "second", {"parameters": {"config": json.dumps(_CONFIG)}}))
    yield Case("no override any more", _do("load", "second"))
    yield Case("no override any more: config", get("/v2/models/second/config"))
    for name, config, files in _files():
        encoded = {f"file:{path}": base64.b64encode(data).decode() for path, data in files.items()}
        yield Case(f"files {name}", _do("load", "second", {"parameters": {**config, **encoded}}))
    for name, text in (("no base64", "!!!"), ("short base64", "dGV4d"), ("base64 with blanks", "dGV4 dA==")):
        parameters = {"config": json.dumps(_CONFIG), "file:1/x": text}
        yield Case(f"files {name}", _do("load", "second", {"parameters": parameters}))
    yield Case("unload second", _do("unload", "second"))
    yield Case("index", post("/v2/repository/index"))


def _configs() -> Iterator[tuple[str, str]]:
    good = json.dumps(_CONFIG)
    yield "good", good
    yield "without name", json.dumps({k: v for k, v in _CONFIG.items() if k != "name"})
    yield "another name", json.dumps({**_CONFIG, "name": "other"})
    yield "empty", "{}"
    yield "empty text", ""
    yield "no JSON", "x"
    yield "cut", good[:-1]
    yield "list", "[]"
    yield "unknown field", json.dumps({**_CONFIG, "unknown": 1})
    yield "wrong type", json.dumps({**_CONFIG, "max_batch_size": "x"})
    yield "negative batch", json.dumps({**_CONFIG, "max_batch_size": -1})
    yield "unknown backend", json.dumps({**_CONFIG, "backend": "unknown"})
    yield "no backend", json.dumps({k: v for k, v in _CONFIG.items() if k != "backend"})
    yield "proto names", json.dumps({**_CONFIG, "max_batch_size": 5, "versionPolicy": {"all": {}}})
    yield "all versions", json.dumps({**_CONFIG, "version_policy": {"all": {}}})
    yield "a version that is not there", json.dumps({**_CONFIG, "version_policy": {"specific": {"versions": [7]}}})
    yield "bad dimension", json.dumps({**_CONFIG, "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [0]}]})
    yield "no dimensions", json.dumps({**_CONFIG, "input": [{"name": "INPUT0", "data_type": "TYPE_FP32"}]})
    yield "no data type", json.dumps({**_CONFIG, "input": [{"name": "INPUT0", "dims": [1]}]})
    yield (
        "unknown data type",
        json.dumps({**_CONFIG, "input": [{"name": "INPUT0", "data_type": "TYPE_X", "dims": [1]}]}),
    )
    yield "preferred beyond batch", json.dumps({**_CONFIG, "dynamic_batching": {"preferred_batch_size": [9]}})
    yield "good again", good


def _files() -> Iterator[tuple[str, dict[str, str], dict[str, bytes]]]:
    """(name, configuration, files by path)."""
    config = {"config": json.dumps({**_CONFIG, "version_policy": {"latest": {}}})}
    yield "without config", {}, {"1/x": b"text"}
    yield "one", config, {"1/x": b"text"}
    yield "two", config, {"1/x": b"text", "1/y": b""}
    yield "of another version", config, {"7/x": b"text"}
    yield "of no version", config, {"x": b"text"}
    yield "empty name", config, {"": b"text"}
    yield "only a folder", config, {"1/": b"text"}
    for path in ("../x", "/x", "1/../../x", "a/../../x", "1//x", "./1/x", "1/./x", "..", "1/..", "1/x/../y"):
        yield f"path {path}", config, {path: b"text"}


# gRPC


def _index(ready: bool = False, repository: str = "") -> Call:
    return call("RepositoryIndex", ready=ready, repository_name=repository)


def _load(model: str, repository: str = "", **parameters: object) -> Call:
    return _control("RepositoryModelLoad", model, repository, parameters)


def _unload(model: str, repository: str = "", **parameters: object) -> Call:
    return _control("RepositoryModelUnload", model, repository, parameters)


def _control(rpc: str, model: str, repository: str, parameters: dict[str, object]) -> Call:
    request = message(f"{rpc}Request")(model_name=model, repository_name=repository)
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", bytes: "bytes_param"}
    for key, value in parameters.items():
        name = key.replace("file_", "file:", 1)
        if value is None:
            request.parameters[name].SetInParent()  # type: ignore[attr-defined]
        else:
            setattr(request.parameters[name], kinds[type(value)], value)  # type: ignore[attr-defined]
    return Call(rpc, request.SerializeToString())


def _look_over_grpc(when: str, model: str) -> Iterator[Case]:
    yield Case(f"{when}: index", _index())
    yield Case(f"{when}: index of ready models", _index(True))
    for rpc in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"):
        for version in ("", "1", "3", "9"):
            yield Case(f"{when}: {rpc} {version!r}", call(rpc, name=model, version=version))
    yield Case(f"{when}: infer", grpc_infer(model, [("INPUT0", "FP32", [1, 1])], [bytes(4)]))
    yield Case(f"{when}: server ready", call("ServerReady"), _ready if model != "no_version" else None)


def grpc_control() -> Iterable[Case]:
    yield from _look_over_grpc("at start", "third")
    yield Case("load third", _load("third"))
    yield from _look_over_grpc("loaded", "third")
    yield Case("load it with a repository", _load("third", "x"))
    yield Case("unload it with a repository", _unload("third", "x"))
    yield Case("index of a repository", _index(repository="x"))
    yield Case("unload third", _unload("third"))
    yield from _look_over_grpc("unloaded", "third")
    for model in ("broken", "unknown", "misnamed", "no_backend"):
        yield Case(f"load {model}", _load(model))
        yield from _look_over_grpc(f"{model} failed", model)
        yield Case(f"unload {model}", _unload(model))


def grpc_parameters() -> Iterable[Case]:
    values: tuple[object, ...] = (True, 1, "x", b"x", None)
    for value in values:
        yield Case(f"unload_dependents {value!r}", _unload("unknown", unload_dependents=value))
        yield Case(f"unload with another parameter {value!r}", _unload("unknown", other=value))
        yield Case(f"load with another parameter {value!r}", _load("first", other=value))
        yield Case(f"load with config {value!r}", _load("second", config=value))
        yield Case(f"load with file {value!r}", _load("second", **{"file_1/x": value}))
    for name, config in _configs():
        yield Case(f"override {name}", _load("second", config=config))
        yield Case(f"override {name}: config", call("ModelConfig", name="second"))
        yield Case(f"override {name}: index", _index())
    for name, override, files in _files():
        given = {f"file_{path}": data for path, data in files.items()}
        yield Case(f"files {name}", _load("second", **override, **given))
    yield Case("no override any more", _load("second"))
    yield Case("no override any more: config", call("ModelConfig", name="second"))
    yield Case("unload second", _unload("second"))
    yield Case("index", _index())
