# SPDX-License-Identifier: Apache-2.0
"""Tracing of a whole server: the extension over both protocols, the file, and spans at a real OTLP receiver."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity, isolated
from contract.http.raw import HOST, Raw, Response, post
from pyinfer.testing import RunningServer, run_server

GLOBAL, MODEL = "/v2/trace/setting", "/v2/models/fp32/trace/setting"
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-00"
#: in the order in which they happen; those of the protocol have its name before them
STAGES = ["REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END"]
STAGES += ["INFER_RESPONSE_COMPLETE", "REQUEST_END"]


def config(*settings: str) -> list[str]:
    return [f"--trace-config={setting}" for setting in settings]


def infer(server: RunningServer, over: str, request_id: str = "", headers: dict[str, str] | None = None) -> None:
    module: Any = triton_http if over == "http" else triton_grpc
    with module.InferenceServerClient(server.http if over == "http" else server.grpc) as client:
        tensor = module.InferInput("INPUT0", [1, 2], "FP32")
        tensor.set_data_from_numpy(np.array([[1.5, 2]], np.float32))
        client.infer("fp32", [tensor], request_id=request_id, headers=headers)


def entries(file: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found


def names(trace: list[dict[str, Any]]) -> list[str]:
    return [entry["timestamps"][0]["name"] for entry in trace if "timestamps" in entry]


# The extension


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    file = tmp_path_factory.mktemp("trace") / "t"
    with run_server(models, *config(f"triton,file={file}", "rate=7", "level=TIMESTAMPS")) as running:
        yield running


def http(server: RunningServer, path: str, settings: object = None) -> Response:
    get = f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n"
    with Raw(server.http_port) as raw:
        return raw.send(get if settings is None else post(path, json.dumps(settings).encode())).receive()


def test_both_protocols_show_the_same(server: RunningServer) -> None:
    shown = http(server, GLOBAL).document
    assert list(shown) == ["trace_level", "trace_rate", "trace_count", "log_frequency", "trace_file", "trace_mode"]
    assert (shown["trace_level"], shown["trace_rate"], shown["trace_mode"]) == (["TIMESTAMPS"], "7", "triton")
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        rpc = client.get_trace_settings(as_json=True)["settings"]
        assert {name: value["value"] for name, value in rpc.items()} == {
            name: value if isinstance(value, list) else [value] for name, value in shown.items()
        }
        assert "trace" in client.get_server_metadata().extensions


def test_settings_of_a_model_are_set_and_taken_back_over_either_protocol(server: RunningServer) -> None:
    assert http(server, MODEL, {"trace_rate": "3"}).document["trace_rate"] == "3"
    assert http(server, GLOBAL).document["trace_rate"] == "7"
    with triton_grpc.InferenceServerClient(server.grpc) as client:
        shown = client.update_trace_settings("fp32", {"trace_rate": None, "trace_level": ["TENSORS"]}, as_json=True)
        assert shown["settings"]["trace_rate"]["value"] == ["7"]
    assert http(server, MODEL).document["trace_level"] == ["TENSORS"]
    assert http(server, MODEL, {"trace_level": None}).document == http(server, GLOBAL).document


@pytest.mark.parametrize(
    ("settings", "status", "code", "text"),
    [
        ({"trace_file": "x"}, 501, "UNIMPLEMENTED", "trace file location can not be updated through network protocol"),
        (
            {"trace_level": ["OFF", "TENSORS"]},
            400,
            "INVALID_ARGUMENT",
            "Expect only one trace level 'OFF' is specified",
        ),
        ({"trace_rate": "x"}, 400, "INVALID_ARGUMENT", "Unable to parse 'trace_rate', got: x"),
    ],
)
def test_refusals(server: RunningServer, settings: dict[str, Any], status: int, code: str, text: str) -> None:
    response = http(server, GLOBAL, settings)
    assert (response.status, response.document) == (status, {"error": text})
    with triton_grpc.InferenceServerClient(server.grpc) as client, pytest.raises(InferenceServerException) as caught:
        client.update_trace_settings(settings=settings)
    assert (caught.value.status(), caught.value.message()) == (f"StatusCode.{code}", text)


@pytest.mark.parametrize("name", ["trace_rate", "trace_count", "log_frequency"])
def test_only_levels_are_a_list_over_http(server: RunningServer, name: str) -> None:
    response = http(server, GLOBAL, {name: ["5"]})
    assert (response.status, response.document) == (400, {"error": f"expect string for '{name}'"})


def test_unknown_model(server: RunningServer) -> None:
    response = http(server, "/v2/models/nope/trace/setting")
    assert (response.status, response.document) == (400, {"error": "Request for unknown model : nope"})
    assert http(server, "/v2/models/fp32/versions/1/trace/setting").status == 404
    with triton_grpc.InferenceServerClient(server.grpc) as client, pytest.raises(InferenceServerException) as caught:
        client.get_trace_settings("nope")
    assert caught.value.status() == f"StatusCode.{grpc.StatusCode.INVALID_ARGUMENT.name}"


# The file


def test_the_file_has_a_trace_of_each_request(models: Path, tmp_path: Path) -> None:
    file = tmp_path / "t"
    settings = config(f"triton,file={file}", "rate=1", "level=TIMESTAMPS", "level=TENSORS")
    with run_server(models, *settings) as running:
        infer(running, "http", "over http")
        infer(running, "grpc", "over grpc")
        assert running.stop() == 0
    found = entries(file)
    for number, protocol in ((1, "HTTP"), (2, "GRPC")):
        trace = [entry for entry in found if entry["id"] == number]
        receive = "HTTP_RECV" if protocol == "HTTP" else "GRPC_WAITREAD"
        ends = [f"{protocol}_SEND_START", f"{protocol}_SEND_END"]
        assert names(trace) == [f"{receive}_START", f"{receive}_END", *STAGES, *ends]
        times = [entry["timestamps"][0]["ns"] for entry in trace if "timestamps" in entry]
        assert times == sorted(times)
        (model,) = (entry for entry in trace if "model_name" in entry)
        assert model == {
            "id": number,
            "model_name": "fp32",
            "model_version": 1,
            "request_id": f"over {protocol.lower()}",
        }
        tensors = [(entry["activity"], entry["tensor"]) for entry in trace if "tensor" in entry]
        data = {"data": "1.5,2", "shape": "1,2", "dtype": "FP32"}
        assert tensors == [
            ("TENSOR_QUEUE_INPUT", {"name": "INPUT0", **data}),
            ("TENSOR_BACKEND_OUTPUT", {"name": "OUTPUT0", **data}),
        ]


def test_count_and_log_frequency(models: Path, tmp_path: Path) -> None:
    settings = config(
        f"triton,file={tmp_path / 't'}", "rate=1", "level=TIMESTAMPS", "triton,log-frequency=2", "count=3"
    )
    with run_server(models, *settings) as running:
        for _ in range(5):
            infer(running, "http")
        assert http(running, GLOBAL).document["trace_count"] == "0"
        assert running.stop() == 0
    assert sorted(file.name for file in tmp_path.iterdir()) == ["t.0", "t.1"]
    assert {entry["id"] for entry in entries(tmp_path / "t.1")} == {3}


def test_a_file_that_can_not_be_written_does_not_hurt_requests(models: Path, tmp_path: Path) -> None:
    settings = config(f"triton,file={tmp_path / 'none' / 't'}", "rate=1", "level=TIMESTAMPS", "triton,log-frequency=1")
    with run_server(models, *settings) as running:
        for over in ("http", "grpc", "http"):
            infer(running, over)
        assert running.stop() == 0
        assert "No such file or directory" in running.log
        assert "3 requests were traced; 3 of these traces were dropped" in running.log


# OpenTelemetry


class Receiver(ThreadingHTTPServer):
    """Takes OTLP over HTTP and keeps the spans by name."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1/traces"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
        for group in request.resource_spans:
            self.server.resources.append({one.key: one.value.string_value for one in group.resource.attributes})
            for scope in group.scope_spans:
                assert scope.scope.name == "triton-server"
                self.server.spans.extend(scope.spans)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            yield running
        finally:
            running.shutdown()
            thread.join()


def otel(receiver: Receiver, *more: str) -> list[str]:
    given = ("mode=opentelemetry", f"opentelemetry,url={receiver.url}", "opentelemetry,resource=a.b=c")
    return config(*given, "level=TIMESTAMPS", *more)


def test_spans_are_tritons(models: Path) -> None:
    with receiver() as collector:
        with run_server(models, *otel(collector, "rate=1")) as running:
            infer(running, "grpc", "an id")
            assert running.stop() == 0
        compute, model, root = collector.spans
        assert collector.resources[0]["service.name"] == "triton-inference-server"
        assert collector.resources[0]["a.b"] == "c"
    assert [span.name for span in (root, model, compute)] == ["InferRequest", "fp32", "compute"]
    assert (root.parent_span_id, model.parent_span_id, compute.parent_span_id) == (b"", root.span_id, model.span_id)
    assert {span.trace_id for span in (root, model, compute)} == {root.trace_id}
    transport = ["GRPC_WAITREAD_START", "GRPC_WAITREAD_END", STAGES[6], "GRPC_SEND_START", "GRPC_SEND_END"]
    assert [event.name for event in root.events] == transport
    assert [event.name for event in model.events] == [STAGES[0], STAGES[1], STAGES[7]]
    assert [event.name for event in compute.events] == STAGES[2:6]
    assert root.start_time_unix_nano <= model.start_time_unix_nano <= compute.start_time_unix_nano
    assert compute.end_time_unix_nano <= model.end_time_unix_nano <= root.end_time_unix_nano
    attributes = {one.key: one.value.string_value or one.value.int_value for one in model.attributes}
    assert attributes == {
        "triton.model_name": "fp32",
        "triton.model_version": 1,
        "triton.trace_id": 1,
        "triton.trace_parent_id": 0,
        "triton.request_id": "an id",
    }


TELLS_ITS_TRACE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            text = np.array([request.trace().get_context() or ""], np.object_)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)]), flags=1)
"""


def test_a_python_model_can_go_on_with_the_trace(tmp_path: Path, isolation: str) -> None:
    configuration = identity("TYPE_STRING", "-1", batch=0).replace('"identity"', '"python"')
    add_model(tmp_path, "tells", configuration, {"model.py": TELLS_ITS_TRACE})

    def told(server: RunningServer, over: str, headers: dict[str, str]) -> object:
        library = triton_http if over == "http" else triton_grpc
        given = library.InferInput("INPUT0", [1], "BYTES")
        given.set_data_from_numpy(np.array([b"x"], np.object_))
        with library.InferenceServerClient(getattr(server, over)) as client:
            return json.loads(client.infer("tells", [given], headers=headers).as_numpy("OUTPUT0")[0] or b"null")

    with receiver() as collector:
        with run_server(tmp_path, isolated(isolation), *otel(collector, "rate=0")) as running:
            contexts = []
            for over in ("http", "grpc"):
                contexts.append(told(running, over, {"traceparent": PARENT, "tracestate": "k=v"}))
                assert told(running, over, {}) is None
            assert running.stop() == 0
        spans = sorted(
            (span for span in collector.spans if span.name == "tells"), key=lambda one: one.end_time_unix_nano
        )
    assert contexts == [
        {"traceparent": f"00-{TRACE_ID}-{model.span_id.hex()}-01", "tracestate": "k=v"} for model in spans
    ]


def test_the_clients_trace_is_always_traced(models: Path) -> None:
    with receiver() as collector:
        with run_server(models, *otel(collector, "rate=0")) as running:
            for over in ("http", "grpc"):
                infer(running, over)
                infer(running, over, "nonsense", {"traceparent": "nonsense"})
                infer(running, over, "traced", {"traceparent": PARENT, "tracestate": "k=v"})
            shown = http(running, GLOBAL).document
            assert running.stop() == 0
        roots = [span for span in collector.spans if span.name == "InferRequest"]
    told = [(root.trace_id.hex(), root.parent_span_id.hex(), root.trace_state) for root in roots]
    assert told == [(TRACE_ID, "b7ad6b7169203331", "k=v")] * 2
    assert "trace_file" not in shown
    assert "log_frequency" not in shown
    assert (shown["url"], shown["resource"], shown["bsp_max_queue_size"]) == (collector.url, "a.b=c", "2048")


RAISES = """
class TritonPythonModel:
    def execute(self, requests):
        raise ValueError("not today")
"""


def test_a_failed_request_is_a_failed_span(tmp_path: Path) -> None:
    configuration = identity("TYPE_FP32", "-1").replace('"identity"', '"python"')
    add_model(tmp_path, "fp32", configuration, {"model.py": RAISES})
    with receiver() as collector:
        with run_server(tmp_path, *otel(collector, "rate=1")) as running:
            for over in ("http", "grpc"):
                with pytest.raises(InferenceServerException, match="not today"):
                    infer(running, over)
            assert running.stop() == 0
        states = {span.name: span.status for span in collector.spans}
    assert states["InferRequest"].code == Status.STATUS_CODE_ERROR
    assert "not today" in states["InferRequest"].message
    assert states["fp32"].code == Status.STATUS_CODE_UNSET


def test_a_receiver_that_is_away_does_not_hurt_requests(models: Path) -> None:
    settings = config(
        "mode=opentelemetry", "rate=1", "level=TIMESTAMPS", "opentelemetry,url=http://127.0.0.1:9/v1/traces"
    )
    with run_server(models, *settings) as running:
        for over in ("http", "grpc"):
            infer(running, over)
        assert running.stop() == 0
