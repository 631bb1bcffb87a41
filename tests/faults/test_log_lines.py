# SPDX-License-Identifier: Apache-2.0
"""Rows 16 and 57: one record for an event, whatever a client sends, and a log that can not be written stops nobody.

The strings are those that forged lines or formats in other servers (CVE-2024-0095 in Triton, for one).
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
from pathlib import Path
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity
from contract.http.raw import HOST, Raw, post
from faults.client import Grpc, document, is_live, message, tensor
from pyinfer.testing import RunningServer, run_server

FORGED = 'x\nE0101 00:00:00.000000 1 forged.cc:1] "forged"\r\n{"level": "error", "message": "forged"}'
HOSTILE = [
    FORGED,
    "a\rb",
    "\x1b[2J\x1b]0;title\x07",
    "a\u2028b\u2029c\u0085d",
    "%n%s%d%x%999999d",
    "{} {0} {a.__class__} %(message)s",
    'quote " backslash \\ end',
    "nul\x00nul",
    "\x7f\x9b31m",
]
#: logs what it is sent, three ways
LOGGER = """
import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            text = json.loads(request.parameters())["text"]
            pb_utils.Logger.log_warn(text)
            raise ValueError(text)
"""
FORMS: dict[str, re.Pattern[str]] = {
    "default": re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d{6} \d+ \w+\.py:\d+\] (\".*\")"),
    "ISO8601": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ [IWE] \d+ \w+\.py:\d+\] (\".*\")"),
}


def check_lines(log: str, form: str) -> list[str]:
    """The messages of a log; every line of it is a record, or of the table of models at the start."""
    messages = []
    # what a terminal, an editor or a shipper may take for the end of a line counts as one
    for line in log.splitlines():
        if form == "json":
            fields = json.loads(line)
            assert set(fields) - {"exception"} == {"time", "level", "pid", "file", "line", "message"}
            messages.append(fields["message"] + fields.get("exception", ""))
            continue
        match = FORMS[form].fullmatch(line)
        if match:
            messages.append(json.loads(match[1]))
        else:
            assert re.fullmatch(r"|\+-.*-\+|\| .* \||[IWE].* server\.py:\d+\] ", line) or line.endswith("] "), line
    return messages


def over_http(server: RunningServer, text: str) -> None:
    segment = quote(text, safe="")
    header = re.sub(r"[\x00-\x1f\x7f]", " ", text).encode("utf-8").decode("latin-1")
    bodies = [
        document(tensor([1], [1.0], name=text)),
        document(tensor([1], [1.0], datatype=text)),
        document(tensor([1], [1.0]), id=text),
        document(tensor([1], [1.0]), outputs=[{"name": text}]),
        document(tensor([1], [1.0]), parameters={text: text}),
        document(tensor([1], [1.0]), parameters={"text": text}),
    ]
    requests = [
        b"GET /v2/models/%s HTTP/1.1\r\n%s\r\n" % (segment.encode(), HOST),
        b"GET /v2/%s HTTP/1.1\r\n%s\r\n" % (segment.encode(), HOST),
        post(f"/v2/models/{segment}/infer", bodies[0]),
        post(f"/v2/repository/models/{segment}/load", b"{}"),
        post(f"/v2/repository/models/{segment}/unload", json.dumps({"parameters": {text: text}}).encode()),
        *(
            post("/v2/repository/models/logger/load", json.dumps({"parameters": parameters}).encode())
            for parameters in (
                {text: text},
                {"config": text},
                {"config": json.dumps({"backend": text})},
                {"config": json.dumps({"name": text, "backend": "python", "input": [{"name": text}]})},
                {"config": "{}", f"file:1/{text}": "AAAA"},
            )
        ),
        post("/v2/logging", json.dumps({"log_format": text, text: text}).encode()),
        *(post("/v2/models/logger/infer", body) for body in bodies),
    ]
    for request in requests:
        with Raw(server.http_port, timeout_s=60) as raw:
            raw.send(request).receive()
    with Raw(server.http_port, timeout_s=60) as raw:
        raw.send(post("/v2/models/logger/infer", bodies[-1], f"User-Agent: {header}", f"X-Y: {header}")).receive()


def over_grpc(rpc: Grpc, text: str) -> None:
    def attempt(name: str, request: Any) -> None:
        with contextlib.suppress(grpc.RpcError):
            rpc.call(request.SerializeToString(), name)

    attempt("ModelMetadata", pb.ModelMetadataRequest(name=text, version=text))
    attempt("ModelStatistics", pb.ModelStatisticsRequest(name=text))
    attempt("RepositoryIndex", pb.RepositoryIndexRequest(repository_name=text))
    load = pb.RepositoryModelLoadRequest(repository_name="", model_name=text)
    attempt("RepositoryModelLoad", load)
    load.parameters["config"].string_param = json.dumps({"backend": text})
    attempt("RepositoryModelLoad", load)
    settings = pb.LogSettingsRequest()
    settings.settings["log_format"].string_param = text
    attempt("LogSettings", settings)
    tensor_ = ("INPUT0", "FP32", [1])
    raised = message("logger", tensor_, raw=[b"\0\0\0\0"])
    raised.parameters["text"].string_param = text
    for request in (
        message(text, tensor_, raw=[b"\0\0\0\0"], version=text),
        message("logger", (text, text, [1]), raw=[b"\0\0\0\0"]),
        message("logger", tensor_, raw=[b"\0\0\0\0"], request_id=text, outputs=[text]),
        raised,
    ):
        attempt("ModelInfer", request)


@pytest.mark.parametrize("form", ["default", "ISO8601", "json"])
def test_row_16_nothing_that_a_client_sends_makes_a_second_record(tmp_path: Path, form: str) -> None:
    add_model(
        tmp_path / "models",
        "logger",
        identity("TYPE_FP32", "-1", batch=0).replace('"identity"', '"python"'),
        {"model.py": LOGGER},
    )
    flags = (f"--log-file={tmp_path / 'log'}", f"--log-format={form}", "--log-verbose=9")
    with run_server(tmp_path / "models", *flags, "--model-control-mode=explicit", "--load-model=*") as server:
        rpc = Grpc(server)
        for text in HOSTILE:
            over_http(server, text)
            over_grpc(rpc, text)
        rpc.close()
    messages = check_lines((tmp_path / "log").read_bytes().decode(), form)
    for text in HOSTILE:
        assert any(text == each for each in messages), "what the model logged is there, whole"
        assert any(f"ValueError: {text}" in each for each in messages)
    assert not any(each.startswith("forged") for each in messages)


def test_row_57_a_log_that_can_not_be_written_stops_nobody(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "fp32", identity("TYPE_FP32", "-1"))
    log = tmp_path / "logs" / "log"
    log.parent.mkdir()
    with run_server(tmp_path / "models", f"--log-file={log}", "--log-verbose=1") as server:
        with Raw(server.http_port, timeout_s=60) as raw:
            metadata = b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n"
            rotated = log.rename(log.with_suffix(".1"))
            assert raw.send(metadata).receive().status == 200
            assert log.read_text().count("GET /v2") == 1
            assert rotated.read_text().count("All services are started.") == 1
            log.unlink()
            rotated.unlink()
            log.parent.rmdir()
            for _ in range(50):
                assert raw.send(metadata).receive().status == 200
            infer = post("/v2/models/fp32/infer", document(tensor((1, 2), [1.0, 2.0])))
            assert raw.send(infer).receive().document["outputs"][0]["data"] == [1.0, 2.0]
            log.parent.mkdir()
            assert raw.send(metadata).receive().status == 200
        assert is_live(server)
        messages = check_lines(log.read_text(), "default")
        assert "50 lines of the log could not be written" in messages


def test_row_57_a_full_disk_stops_nobody(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "fp32", identity("TYPE_FP32", "-1"))
    log = tmp_path / "log"
    metadata = b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n"
    with (
        run_server(tmp_path / "models", f"--log-file={log}", "--log-verbose=1") as server,
        Raw(server.http_port, timeout_s=60) as raw,
    ):
        limit = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        # half a line still fits, as on a disk
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 30, limit[1]))
        for _ in range(50):
            assert raw.send(metadata).receive().status == 200
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limit)
        assert raw.send(metadata).receive().status == 200
        lines = log.read_text().splitlines()
    assert len(lines[-3]) == 30, "what did not fit is cut"
    assert [json.loads(line.partition("] ")[2]) for line in lines[-2:]] == [
        "HTTP request: GET /v2",
        "50 lines of the log could not be written",
    ]
