# SPDX-License-Identifier: Apache-2.0
"""The logging extension over both protocols: what Triton answers, and that the log follows at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.grpc import service_pb2 as pb

from contract.http.raw import HOST, Raw, Response, post
from pyinfer.testing import RunningServer, run_server

DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}
GET = b"GET /v2/logging HTTP/1.1\r\n" + HOST + b"\r\n"
TYPES = {bool: "bool_param", int: "uint32_param", str: "string_param"}


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--model-control-mode=explicit") as running:
        yield running


@pytest.fixture(autouse=True)
def _restore(server: RunningServer) -> Iterator[None]:
    yield
    put(server, {key: value for key, value in DEFAULTS.items() if key != "log_file"})


def http(server: RunningServer, request: bytes) -> Response:
    with Raw(server.http_port) as raw:
        return raw.send(request).receive()


def put(server: RunningServer, settings: object) -> Response:
    return http(server, post("/v2/logging", settings if isinstance(settings, bytes) else json.dumps(settings).encode()))


def rpc(server: RunningServer, settings: dict[str, Any]) -> dict[str, Any]:
    """LogSettings; a value of None is a setting without a value."""
    request = pb.LogSettingsRequest()
    for name, value in settings.items():
        request.settings[name].SetInParent()
        if value is not None:
            setattr(request.settings[name], TYPES[type(value)], value)
    with grpc.insecure_channel(server.grpc) as channel:
        answer = channel.unary_unary("/inference.GRPCInferenceService/LogSettings")(request.SerializeToString())
    response = pb.LogSettingsResponse.FromString(answer)
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in response.settings.items()}


def test_all_settings_are_shown(server: RunningServer) -> None:
    response = http(server, GET)
    # the very bytes of Triton
    expected = b'{"log_file":"","log_info":true,"log_warning":true,"log_error":true,'
    expected += b'"log_verbose_level":0,"log_format":"default"}'
    assert (response.status, response.headers["content-type"], response.body) == (200, "application/json", expected)
    assert rpc(server, {}) == DEFAULTS
    assert put(server, {}).body == expected


@pytest.mark.parametrize(
    "change",
    [
        {"log_info": False},
        {"log_warning": False, "log_error": False},
        {"log_verbose_level": 3},
        {"log_verbose_level": 2**31 - 1},
        {"log_format": "ISO8601"},
        {"log_format": "json"},
        {"log_info": False, "no_such_setting": 7},
    ],
)
def test_a_change_is_answered_with_all_settings(server: RunningServer, change: dict[str, Any]) -> None:
    expected = {**DEFAULTS, **{name: value for name, value in change.items() if name in DEFAULTS}}
    assert rpc(server, change) == expected
    assert http(server, GET).document == expected
    put(server, {key: value for key, value in DEFAULTS.items() if key != "log_file"})
    assert put(server, change).document == expected


def test_null_changes_nothing(server: RunningServer) -> None:
    put(server, {"log_info": False})
    assert put(server, dict.fromkeys(DEFAULTS)).document == {**DEFAULTS, "log_info": False}


FILE_TEXT = "log file location can not be updated through network protocol"


@pytest.mark.parametrize(
    ("change", "status", "code", "text"),
    [
        ({"log_info": "x"}, 400, "INVALID_ARGUMENT", "expect boolean for 'log_info'"),
        ({"log_warning": 1}, 400, "INVALID_ARGUMENT", "expect boolean for 'log_warning'"),
        ({"log_error": "true"}, 400, "INVALID_ARGUMENT", "expect boolean for 'log_error'"),
        ({"log_verbose_level": True}, 400, "INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'"),
        ({"log_verbose_level": "1"}, 400, "INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'"),
        ({"log_verbose_level": 2**32 - 1}, 400, "INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'"),
        ({"log_format": False}, 400, "INVALID_ARGUMENT", "expect string for 'log_format'"),
        ({"log_format": "xml"}, 503, "INVALID_ARGUMENT", "invalid argument for log_format, got: xml"),
        ({"log_info": False, "log_format": ""}, 503, "INVALID_ARGUMENT", "invalid argument for log_format, got: "),
        ({"log_file": "/etc/passwd"}, 501, "UNIMPLEMENTED", FILE_TEXT),
        ({"log_file": ""}, 501, "UNIMPLEMENTED", FILE_TEXT),
        ({"log_file": 1, "log_info": False}, 501, "UNIMPLEMENTED", FILE_TEXT),
    ],
)
def test_refusals(server: RunningServer, change: dict[str, Any], status: int, code: str, text: str) -> None:
    response = put(server, change)
    assert (response.status, response.document) == (status, {"error": text})
    with pytest.raises(grpc.RpcError) as caught:
        rpc(server, change)
    assert (caught.value.code().name, caught.value.details()) == (code, text)
    assert http(server, GET).document == DEFAULTS, "all or nothing"


def test_a_setting_without_value_over_grpc(server: RunningServer) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        rpc(server, {"log_info": None})
    assert (caught.value.code().name, caught.value.details()) == ("INVALID_ARGUMENT", "expect boolean for 'log_info'")


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"nojson", b'{"log_info":true', b'{"log_verbose_level":-1}', b'{"log_verbose_level":1.5}']
)
def test_bodies_that_are_no_settings(server: RunningServer, body: bytes) -> None:
    response = put(server, body)
    assert (response.status, set(response.document)) == (400, {"error"})


@pytest.mark.parametrize("verb", [b"PUT", b"DELETE", b"PATCH"])
def test_other_verbs(server: RunningServer, verb: bytes) -> None:
    response = http(server, GET.replace(b"GET", verb))
    assert (response.status, response.headers["allow"]) == (405, "GET, POST")


def test_tritonclient(server: RunningServer) -> None:
    over_http = triton_http.InferenceServerClient(server.http)
    assert over_http.update_log_settings({"log_verbose_level": 1})["log_verbose_level"] == 1
    assert over_http.get_log_settings() == {**DEFAULTS, "log_verbose_level": 1}
    over_http.close()
    with triton_grpc.InferenceServerClient(server.grpc) as over_grpc:
        over_grpc.update_log_settings({"log_verbose_level": 2})
        shown = over_grpc.get_log_settings(as_json=True)["settings"]
        assert shown["log_verbose_level"] == {"uint32_param": 2}
        assert "logging" in over_grpc.get_server_metadata().extensions


def test_the_log_follows_at_once(server: RunningServer) -> None:
    before = len(server.log)
    http(server, GET)  # says nothing
    put(server, {"log_verbose_level": 1})
    http(server, GET)
    http(server, post("/v2/models/none/infer", b"{}"))  # of inferences there is none
    rpc(server, {})
    put(server, {"log_verbose_level": 0, "log_format": "json"})
    http(server, GET)
    lines = server.log[before:].splitlines()
    assert [line.partition("] ")[2] for line in lines] == [
        '"HTTP request: GET /v2/logging"',
        '"gRPC request: LogSettings"',
        '"HTTP request: POST /v2/logging"',
    ]
