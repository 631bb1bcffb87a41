# SPDX-License-Identifier: Apache-2.0
"""The life of the process: start errors, the metrics port, and how it stops."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from contract.conftest import GATE, add_model, gate_config, identity
from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [4]}]}).encode()
LIVE = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"


def serve(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A server that is expected to end by itself."""
    command = [sys.executable, "-m", "pyinfer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "gate", gate_config(), {"model.py": GATE})
    return tmp_path / "models" / "gate"


def test_accepted_request_is_answered_before_the_end(gate: Path) -> None:
    with run_server(gate.parent) as server, Raw(server.http_port) as busy, Raw(server.http_port) as idle:
        assert idle.send(LIVE).receive().status == 200
        busy.send(post("/v2/models/gate/infer", BODY))
        eventually((gate / "began").exists, "the model never began")
        server.process.send_signal(signal.SIGTERM)
        assert idle.ended()
        with pytest.raises(ConnectionRefusedError):
            Raw(server.http_port)
        assert server.process.poll() is None
        (gate / "open").touch()
        response = busy.receive()
        assert (response.status, response.document["outputs"][0]["data"]) == (200, [4])
        assert busy.ended()
        assert server.process.wait(60) == 0, server.log


def test_request_of_a_stopping_server_is_refused(gate: Path) -> None:
    with run_server(gate.parent) as server, Raw(server.http_port) as busy:
        busy.send(post("/v2/models/gate/infer", BODY))
        eventually((gate / "began").exists, "the model never began")
        with Raw(server.http_port) as late:
            late.send(post("/v2/models/gate/infer", BODY)[:-1])
            assert server.is_ready()
            server.process.send_signal(signal.SIGTERM)
            eventually(lambda: "Waiting for in-flight requests" in server.log, "not stopping")
            assert late.send(BODY[-1:]).receive().status == 503
            assert late.ended()
        (gate / "open").touch()
        assert busy.receive().status == 200
        assert server.process.wait(60) == 0, server.log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal_ends_at_once(gate: Path, number: signal.Signals) -> None:
    with run_server(gate.parent) as server, Raw(server.http_port) as busy:
        busy.send(post("/v2/models/gate/infer", BODY))
        eventually((gate / "began").exists, "the model never began")
        server.process.send_signal(number)
        eventually(lambda: "Waiting for in-flight requests" in server.log, "not stopping")
        server.process.send_signal(number)
        assert server.process.wait(20) == 0, server.log


def test_exit_timeout(gate: Path) -> None:
    with run_server(gate.parent, "--exit-timeout-secs=1") as server, Raw(server.http_port) as busy:
        busy.send(post("/v2/models/gate/infer", BODY))
        eventually((gate / "began").exists, "the model never began")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0, server.log


def test_hang_up_is_survived(models: Path) -> None:
    with run_server(models) as server:
        server.process.send_signal(signal.SIGHUP)
        assert server.is_ready()


@pytest.mark.parametrize("service", ["http", "grpc", "metrics"])
def test_port_in_use(models: Path, service: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = {"http": 0, "grpc": 0, "metrics": 0, service: port}
        flags = [f"--{name}-port={number}" for name, number in ports.items()]
        done = serve("serve", f"--model-repository={models}", *flags)
    assert done.returncode == 1
    assert f"Socket '127.0.0.1:{port}' already in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("service", ["http", "grpc"])
def test_port_that_is_shared(models: Path, service: str) -> None:
    share = f"--reuse-{service}-port=true"
    with run_server(models, share) as first:
        port = getattr(first, f"{service}_port")
        with run_server(models, share, f"--{service}-port={port}") as second:
            assert getattr(second, f"{service}_port") == port
            for _ in range(20):
                socket.create_connection(("127.0.0.1", port)).close()
        refused = serve("serve", f"--model-repository={models}", f"--{service}-port={port}")
        assert f"Socket '127.0.0.1:{port}' already in use" in refused.stderr


def test_model_that_does_not_load(tmp_path: Path) -> None:
    add_model(tmp_path, "good", identity("TYPE_FP32", "4"))
    add_model(tmp_path, "bad", gate_config())
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    done = serve("serve", f"--model-repository={tmp_path}", *ports)
    assert done.returncode == 1
    assert "bad" in done.stderr
    assert "Traceback" not in done.stderr
    with run_server(tmp_path, "--exit-on-error=false") as server:
        assert not server.is_ready()
        assert "| good" in server.log
        index = httpx.post(f"http://{server.http}/v2/repository/index").json()
        assert {entry["name"]: entry["state"] for entry in index} == {"good": "READY", "bad": "UNAVAILABLE"}
    with run_server(tmp_path, "--exit-on-error=false", "--strict-readiness=false") as server:
        assert server.is_ready()


def test_command_line() -> None:
    version = serve("--version")
    assert (version.returncode, version.stdout.split()[0]) == (0, "pyinfer")
    assert serve("help").stdout.startswith("usage: pyinfer")
    assert "--model-repository" in serve("serve", "--help").stdout
    unknown = serve("serve", "--model-repositry=x")
    assert unknown.returncode == 2
    assert "did you mean '--model-repository'" in unknown.stderr
    assert serve("sing").returncode == 2
    missing = serve("serve", "--model-repository=/nowhere", "--http-port=0", "--grpc-port=0", "--metrics-port=0")
    assert missing.returncode == 1
    assert "Traceback" not in missing.stderr


def test_metrics(server: RunningServer) -> None:
    with httpx.Client(base_url=f"http://{server.metrics}") as client:
        for path in ("/metrics", "/metrics/", "/metrics?x=1"):
            page = client.get(path)
            assert (page.status_code, page.headers["content-type"]) == (200, "text/plain; charset=utf-8")
            assert 'nv_inference_request_success{model="fp32",version="1"}' in page.text
        other = client.get("/other")
        assert (other.status_code, other.content) == (200, b"")
        refused = client.post("/metrics")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET")


@pytest.mark.parametrize("service", ["http", "grpc", "metrics"])
def test_switching_a_service_off(models: Path, service: str) -> None:
    with run_server(models, f"--allow-{service}=false") as server:
        ports = {"http": server.http_port, "grpc": server.grpc_port, "metrics": server.metrics_port}
        assert [name for name, port in ports.items() if not port] == [service]
