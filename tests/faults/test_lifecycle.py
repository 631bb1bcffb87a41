# SPDX-License-Identifier: Apache-2.0
"""Rows 50, 53 and 54: models that can not be loaded, and the end of the server under load."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity
from contract.http.raw import Raw, post
from faults import h2raw as h2
from faults.client import LIVE, Grpc, check_text, document, http, message, refused, tensor
from faults.guard import Guard, counter
from faults.h2raw import H2
from faults.models import SLOW
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

FIXED = document(tensor((1, 4), [1, 2, 3, 4]))


def onnx_bytes(outputs: int = 1) -> bytes:
    """A model that adds its input to itself."""
    shape = ["batch", 4]
    nodes = [helper.make_node("Add", ["INPUT0", "INPUT0"], [f"OUTPUT{n}"]) for n in range(outputs)]
    given = [helper.make_tensor_value_info("INPUT0", TensorProto.FLOAT, shape)]
    made = [helper.make_tensor_value_info(f"OUTPUT{n}", TensorProto.FLOAT, shape) for n in range(outputs)]
    graph = helper.make_graph(nodes, "graph", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    data: bytes = model.SerializeToString()
    return data


def onnx_config(**changes: str) -> str:
    fields = {"backend": '"onnxruntime"', "max_batch_size": "8"} | changes
    return " ".join(f"{key}: {value}" for key, value in fields.items())


def unknown_operator() -> bytes:
    model = onnx.ModelProto.FromString(onnx_bytes())
    model.graph.node[0].op_type = "NoSuchOperator"
    data: bytes = model.SerializeToString()
    return data


def changed(change: Callable[[onnx.ModelProto], None]) -> bytes:
    """The good model, after ``change``."""
    model = onnx.ModelProto.FromString(onnx_bytes())
    change(model)
    data: bytes = model.SerializeToString()
    return data


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[1] = "b"
    model.graph.node.append(helper.make_node("Relu", ["OUTPUT0"], ["b"]))


def huge_initializer(model: onnx.ModelProto) -> None:
    """Says that it has 2^62 elements, and has none."""
    weight = TensorProto(name="W", dims=[1 << 31, 1 << 31], data_type=TensorProto.FLOAT, raw_data=b"")
    model.graph.initializer.append(weight)
    model.graph.node[0].input[1] = "W"


def outside(location: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        weight = TensorProto(name="W", dims=[4], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", "0"), ("length", "16")):
            entry = weight.external_data.add()
            entry.key, entry.value = key, value
        model.graph.initializer.append(weight)
        model.graph.node[0].input[1] = "W"

    return change


def unknown_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 999


PYTHON = identity("TYPE_FP32", "4").replace('"identity"', '"python"')
ENSEMBLE = (
    'platform: "ensemble" ensemble_scheduling { step [ { model_name: "good" model_version: -1 '
    'input_map { key: "INPUT0" value: "a" } output_map { key: "OUTPUT0" value: "a" } } ] }'
)
# configuration, files of version 1, and what the reason must name
BROKEN: dict[str, tuple[str, dict[str, bytes], str]] = {
    "not a configuration": ("{{{", {}, "config.pbtxt"),
    "unknown field": (identity("TYPE_FP32", "4") + " no_such_field: 1", {}, "no_such_field"),
    "wrong type": (identity("TYPE_FP32", "4") + ' max_batch_size: "x"', {}, "max_batch_size"),
    "unknown data type": (identity("TYPE_FLOAT", "4"), {}, "TYPE_FLOAT"),
    "binary": ("\0\1\2" * 1000, {}, "config.pbtxt"),
    "10^4 levels": ("a { " * 10_000, {}, "config.pbtxt"),
    "dimension 0": (identity("TYPE_FP32", "0"), {}, "INPUT0"),
    "dimension -2": (identity("TYPE_FP32", "-2"), {}, "INPUT0"),
    "negative batch": (identity("TYPE_FP32", "4", batch=-1), {}, "max_batch_size"),
    "unknown backend": (identity("TYPE_FP32", "4").replace("identity", "no_such_backend"), {}, "no_such_backend"),
    "backend that is a path": (identity("TYPE_FP32", "4").replace("identity", "../../x"), {}, ""),
    "other name": ('name: "other" ' + identity("TYPE_FP32", "4"), {}, "other"),
    "ensemble around itself": (ENSEMBLE, {}, ""),
    "no model.py": (PYTHON, {}, "model.py"),
    "model.py with a syntax error": (PYTHON, {"model.py": b"def ("}, "SyntaxError"),
    "model.py that raises": (PYTHON, {"model.py": b"raise ValueError('at import')"}, "at import"),
    "model.py that exits": (PYTHON, {"model.py": b"import sys; sys.exit(1)"}, "SystemExit"),
    "model.py without a model": (PYTHON, {"model.py": b""}, "TritonPythonModel"),
    "initialize that raises": (
        PYTHON,
        {
            "model.py": SLOW.encode()
            + b"""
    def initialize(self, args):
        raise ValueError("can not start, see " + __file__)
"""
        },
        "can not start",
    ),
    "no model.onnx": (onnx_config(), {}, "model.onnx"),
    "empty model.onnx": (onnx_config(), {"model.onnx": b""}, ""),
    "truncated model.onnx": (onnx_config(), {"model.onnx": onnx_bytes()[:-20]}, ""),
    "text as model.onnx": (onnx_config(), {"model.onnx": b"hello" * 100}, ""),
    "unknown operator": (onnx_config(), {"model.onnx": unknown_operator()}, ""),
    "opset 999": (onnx_config(), {"model.onnx": changed(unknown_opset)}, ""),
    "circle in the graph": (onnx_config(), {"model.onnx": changed(cycle)}, ""),
    "2^62 elements that are not there": (onnx_config(), {"model.onnx": changed(huge_initializer)}, ""),
    **{
        f"weights in {location}": (
            onnx_config(),
            {"model.onnx": changed(outside(location))},
            "external data",
        )
        for location in ("../../good/config.pbtxt", "/etc/passwd", "absent.bin", "../1/model.onnx")
    },
    "output that the model has not": (
        onnx_config() + ' output [ { name: "OTHER" data_type: TYPE_FP32 dims: [ 4 ] } ]',
        {"model.onnx": onnx_bytes()},
        "OTHER",
    ),
    "shape that the model has not": (
        onnx_config() + ' input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 5 ] } ]',
        {"model.onnx": onnx_bytes()},
        "INPUT0",
    ),
}


def write(repository: Path, name: str, config: str, files: dict[str, bytes]) -> None:
    (repository / name / "1").mkdir(parents=True, exist_ok=True)
    (repository / name / "config.pbtxt").write_text(config)
    for old in (repository / name / "1").iterdir():
        old.unlink()
    for file, data in files.items():
        (repository / name / "1" / file).write_bytes(data)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("lifecycle")
    for name in ("control", "good"):
        add_model(made, name, identity("TYPE_FP32", "4"))
    add_model(made, "flat", identity("TYPE_FP32", "-1", batch=0))
    return made


@pytest.fixture(scope="module")
def loading(repository: Path) -> Iterator[tuple[RunningServer, Guard]]:
    names = ("control", "good", "flat")
    flags = ("--model-control-mode=explicit", "--strict-readiness=false", *(f"--load-model={name}" for name in names))
    with run_server(repository, *flags) as server:
        # what a broken model needs to say that it is broken is imported once, and stays
        write(repository, "warm", onnx_config(), {"model.onnx": onnx_bytes()})
        assert http(server, "/v2/repository/models/warm/load", b"").status == 200
        with Guard(server) as guard:
            yield server, guard
        assert server.stop() == 0


def state(server: RunningServer, name: str) -> dict[str, str]:
    entries = http(server, "/v2/repository/index", b"").document
    found = [entry for entry in entries if entry["name"] == name]
    assert len(found) == 1, found
    entry: dict[str, str] = found[0]
    return entry


@pytest.mark.parametrize("case", BROKEN)
def test_row_50_broken_models(loading: tuple[RunningServer, Guard], repository: Path, case: str) -> None:
    server, guard = loading
    config, files, named = BROKEN[case]
    write(repository, "broken", config, files)
    with contextlib.closing(Grpc(server)) as rpc:
        response = http(server, "/v2/repository/models/broken/load", b"")
        assert response.status in (400, 500), response
        assert "broken" in response.document["error"]
        assert named in response.document["error"]
        entry = state(server, "broken")
        assert entry["state"] == "UNAVAILABLE"
        assert named in check_text(entry["reason"])
        request = pb.RepositoryModelLoadRequest(model_name="broken").SerializeToString()
        rpc.refused(
            request, "INVALID_ARGUMENT" if response.status == 400 else "INTERNAL", named, name="RepositoryModelLoad"
        )
        infer = message("broken", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)])
        with pytest.raises(grpc.RpcError) as caught:
            rpc.infer(infer)
        assert caught.value.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE)
    assert http(server, "/v2/models/broken/infer", FIXED).status in (404, 503)
    guard.check()


@pytest.mark.parametrize("case", [*BROKEN])
def test_row_50_old_version_stays(loading: tuple[RunningServer, Guard], repository: Path, case: str) -> None:
    server, _ = loading
    config, files, _ = BROKEN[case]
    write(repository, "reloaded", identity("TYPE_FP32", "4"), {})
    assert http(server, "/v2/repository/models/reloaded/load", b"").status == 200
    write(repository, "reloaded", config, files)
    assert http(server, "/v2/repository/models/reloaded/load", b"").status in (400, 500)
    response = http(server, "/v2/models/reloaded/infer", FIXED)
    assert (response.status, response.document["outputs"][0]["data"]) == (200, [1, 2, 3, 4])
    assert http(server, "/v2/repository/models/reloaded/unload", b"").status == 200


def test_row_50_repaired_model_loads(loading: tuple[RunningServer, Guard], repository: Path) -> None:
    server, guard = loading
    write(repository, "repaired", onnx_config(), {"model.onnx": b"no"})
    assert http(server, "/v2/repository/models/repaired/load", b"").status in (400, 500)
    write(repository, "repaired", onnx_config(), {"model.onnx": onnx_bytes()})
    assert http(server, "/v2/repository/models/repaired/load", b"").status == 200
    assert state(server, "repaired")["state"] == "READY"
    response = http(server, "/v2/models/repaired/infer", FIXED)
    assert response.document["outputs"][0]["data"] == [2, 4, 6, 8]
    assert http(server, "/v2/repository/models/repaired/unload", b"").status == 200
    guard.check()


def test_row_50_broken_parameters_of_a_load(loading: tuple[RunningServer, Guard]) -> None:
    server, guard = loading
    load = "/v2/repository/models/good/load"
    escaping = {"config": "{}", "file:../../x": "aGk="}
    for parameters, status in (
        ({"config": "{"}, 400),
        ({"config": 7}, 400),
        ({"config": json.dumps({"backend": "none"})}, 400),
        ({"config": json.dumps({"no_such_field": 1})}, 400),
        ({"file:1/model.onnx": "aGk="}, 400),
        (escaping, 400),
        ({"config": "{}", "file:1/model.onnx": "not base64"}, 400),
        ({"other": "x"}, 400),
    ):
        refused(server, load, json.dumps({"parameters": parameters}).encode(), status=status)
    assert http(server, "/v2/models/good/infer", FIXED).status == 200
    guard.check()


def test_row_54_end_under_load(models: Path, gate: Path) -> None:
    """100 idle connections, 10 busy over HTTP and 10 calls over gRPC: what was accepted is answered."""
    with run_server(models) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Raw(server.http_port, timeout_s=60)) for _ in range(100)]
        assert all(raw.send(LIVE).receive().status == 200 for raw in idle)
        quiet = [stack.enter_context(H2(server.grpc_port)) for _ in range(20)]
        busy = [stack.enter_context(Raw(server.http_port, timeout_s=60)) for _ in range(10)]
        rpc = stack.enter_context(contextlib.closing(Grpc(server)))
        data = np.float32(7).tobytes()
        request = message("gate", ("INPUT0", "FP32", (1, 1)), raw=[data]).SerializeToString()
        for raw in busy:
            raw.send(post("/v2/models/gate/infer", document(tensor((1, 1), [7]))))
        calls = [rpc.method().future(request, timeout=60) for _ in range(10)]
        eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 19, "never queued")
        server.process.send_signal(signal.SIGTERM)
        for raw in idle:
            assert raw.ended()
        for connection in quiet:
            assert connection.ending() == ("goaway", 0)
        assert server.process.poll() is None  # there are still all 20 to answer
        with pytest.raises(ConnectionRefusedError):
            Raw(server.http_port)
        (gate / "open").touch()
        answers = [raw.receive() for raw in busy]
        assert [answer.document["outputs"][0]["data"] for answer in answers] == [[7]] * 10
        assert all(raw.ended() for raw in busy)
        for call in calls:
            assert pb.ModelInferResponse.FromString(call.result()).raw_output_contents[0] == data
        assert server.process.wait(60) == 0
        assert "All requests are answered, all models are stopped." in server.log
        assert "Traceback" not in server.log


def test_row_54_storm_while_ending(models: Path) -> None:
    """Clients that go on asking: each request is answered rightly or refused, and none is left without an end."""
    outcomes: list[int] = []
    failures: list[str] = []

    def ask(port: int) -> None:
        try:
            with Raw(port, timeout_s=60) as raw:
                while True:
                    raw.send(post("/v2/models/fixed/infer", FIXED))
                    answer = raw.receive()
                    outcomes.append(answer.status)
                    if answer.status == 200 and answer.document["outputs"][0]["data"] != [1, 2, 3, 4]:
                        failures.append(repr(answer))
                    if answer.headers.get("connection") == "close":
                        return
        except (OSError, AssertionError):
            return  # closed between two requests, as a server may at any time

    with run_server(models) as server:
        clients = [threading.Thread(target=ask, args=(server.http_port,)) for _ in range(4)]
        for client in clients:
            client.start()
        eventually(lambda: len(outcomes) > 200, "the storm never began")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
        for client in clients:
            client.join(60)
            assert not client.is_alive()
        assert not failures
        assert set(outcomes) <= {200, 503}
        assert "Traceback" not in server.log


def test_row_54_half_received_requests_do_not_hold_it_up(models: Path) -> None:
    """Requests are waited for, up to --exit-timeout-secs: these, which may never come, are not."""
    with run_server(models, "--exit-timeout-secs=600") as server, contextlib.ExitStack() as stack:
        halves = [stack.enter_context(Raw(server.http_port)) for _ in range(10)]
        for raw in halves:
            raw.send(post("/v2/models/fixed/infer", FIXED)[:-3])
        calls = [stack.enter_context(H2(server.grpc_port)) for _ in range(10)]
        for connection in calls:
            connection.headers(1, h2.grpc_headers("ModelInfer"), end=False)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0
