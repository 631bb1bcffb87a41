# SPDX-License-Identifier: Apache-2.0
"""Rows 50 and 70 with 10^4 models, some broken and some ensembles: each is looked at no more often than needed."""

from __future__ import annotations

import contextlib
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity
from contract.http.raw import HOST, Raw, Response, post
from faults import h2raw as h2
from faults.client import Grpc, document, http, message, tensor
from faults.guard import Control
from faults.h2raw import END_STREAM, H2, frame, grpc_headers
from perf.procs import cpu_seconds
from pyinfer.testing import RunningServer, run_server

pytestmark = pytest.mark.timeout(600)  # of which the start of ten thousand models is the most

#: each is a thread; a sanitizer has no more than 8192 of these, and is slow
MANY, FEW = (1_000 if "PYINFER_SANITIZER" in os.environ else 10_000), 100
#: of each hundred models
BROKEN, ENSEMBLE = 0, 1
CANCEL = (8).to_bytes(4, "big")
PYTHON = identity("TYPE_FP32", "4").replace("identity", "python")


def ensemble(*steps: str) -> str:
    step = 'step [ {{ model_name: "{}" model_version: -1 {} }} ] '
    maps = [
        f'input_map {{ key: "INPUT0" value: "{"INPUT0" if index == 0 else f"T{index}"}" }} '
        f'output_map {{ key: "OUTPUT0" value: "{"OUTPUT0" if index == len(steps) - 1 else f"T{index + 1}"}" }}'
        for index in range(len(steps))
    ]
    tensors = identity("TYPE_FP32", "4").partition("instance_group")[0].replace('backend: "identity"', "")
    return (
        f'platform: "ensemble" {tensors} ensemble_scheduling {{ '
        + "".join(step.format(name, places) for name, places in zip(steps, maps, strict=True))
        + "}"
    )


def make_repository(repository: Path, count: int) -> Path:
    for number in range(count):
        kind = number % 100
        config = identity("TYPE_FP32", "4")
        if kind == ENSEMBLE:
            config = ensemble(f"m{number + 1}", f"m{number + 2}")
        add_model(repository, f"m{number}", PYTHON if kind == BROKEN else config)
    add_model(repository, "control", identity("TYPE_FP32", "4"))
    patient = "dynamic_batching { max_queue_delay_microseconds: 60000000 }"
    add_model(repository, "waits", identity("TYPE_FP32", "4").replace("dynamic_batching { }", patient))
    return repository


@contextlib.contextmanager
def serving(repository: Path) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=*", "--exit-on-error=false", "--exit-timeout-secs=600")
    with run_server(repository, *flags, timeout_s=600) as server:
        control = Control(server)
        try:
            yield server
        finally:
            control.stop()
        assert not control.errors
        assert control.answers
        assert server.stop(600) == 0
        assert "All requests are answered, all models are stopped." in server.log
        assert "Traceback" not in server.log


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(make_repository(tmp_path_factory.mktemp("many"), MANY)) as server:
        yield server


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(make_repository(tmp_path_factory.mktemp("few"), FEW)) as server:
        yield server


def get(server: RunningServer, path: str) -> Response:
    with Raw(server.http_port, timeout_s=60) as raw:
        return raw.send(b"GET %s HTTP/1.1\r\n%s\r\n" % (path.encode(), HOST)).receive()


@pytest.fixture(scope="module")
def rpc(many: RunningServer) -> Iterator[Grpc]:
    with contextlib.closing(Grpc(many)) as made:
        yield made


def test_row_50_all_but_the_broken_serve(many: RunningServer, rpc: Grpc) -> None:
    entries = {entry["name"]: entry for entry in http(many, "/v2/repository/index", b"").document}
    assert len(entries) == MANY + 2
    for number in range(MANY):
        assert entries[f"m{number}"]["state"] == ("UNAVAILABLE" if number % 100 == BROKEN else "READY")
    assert "model.py" in entries["m0"]["reason"]
    assert get(many, "/v2/health/ready").status == 400  # strict, as in Triton
    body = document(tensor((1, 4), [1, 2, 3, 4]))
    for number in range(1, MANY, MANY // 20):
        if number % 100 != BROKEN:
            answer = http(many, f"/v2/models/m{number}/infer", body)
            assert answer.document["outputs"][0]["data"] == [1, 2, 3, 4]
    assert http(many, "/v2/models/m0/infer", body).status in (404, 503)
    listed = pb.RepositoryIndexResponse.FromString(rpc.method("RepositoryIndex")(b""))
    assert {entry.name: (entry.state, entry.reason) for entry in listed.models} == {
        name: (entry["state"], entry.get("reason", "")) for name, entry in entries.items()
    }


def test_row_50_others_load_meanwhile(many: RunningServer, few: RunningServer) -> None:
    """What a load, a reload and an unload take of the CPU does not depend on the other models."""

    def turn(server: RunningServer, name: str) -> None:
        for action in ("unload", "load", "load"):
            assert http(server, f"/v2/repository/models/{name}/{action}", b"").status == 200

    def cost(server: RunningServer) -> float:
        before = cpu_seconds(server.pid)
        for _ in range(5):
            for name in ("m5", "m2", "m1"):  # of its own, a step of an ensemble, an ensemble
                turn(server, name)
        return cpu_seconds(server.pid) - before

    pairs = [(cost(many), cost(few)) for _ in range(3)]
    assert min(one / other for one, other in pairs) < 10, pairs
    body = document(tensor((1, 4), [1, 2, 3, 4]))
    for name in ("m1", "m2", "m5"):
        assert http(many, f"/v2/models/{name}/infer", body).status == 200


def test_row_50_questions_about_the_server_cost_the_same(many: RunningServer, few: RunningServer) -> None:
    """Who asks whether it is ready, or cancels a request, takes no more CPU than beside a few models."""

    def ready(server: RunningServer) -> None:
        with Raw(server.http_port, timeout_s=60) as raw:
            for _ in range(20):
                raw.send(b"GET /v2/health/ready HTTP/1.1\r\n%s\r\n" % HOST * 10)
                for _ in range(10):
                    assert raw.receive().status == 400

    def cancelled(server: RunningServer) -> None:
        request = message("waits", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)]).SerializeToString()
        body = b"\0" + len(request).to_bytes(4, "big") + request
        with H2(server.grpc_port) as connection:
            for stream in range(1, 800, 4):
                connection.headers(stream, grpc_headers("ModelInfer"), end=False)
                connection.send(frame(h2.DATA, END_STREAM, stream, body))
                connection.send(frame(h2.RST_STREAM, 0, stream, CANCEL))
                connection.headers(stream + 2, grpc_headers(), end=False)
                connection.send(frame(h2.DATA, END_STREAM, stream + 2, bytes(5)))
                assert connection.reply(stream + 2).status == 0

    def cost(server: RunningServer, ask: Callable[[RunningServer], None]) -> float:
        before = cpu_seconds(server.pid)
        ask(server)
        return cpu_seconds(server.pid) - before

    for ask in (ready, cancelled):
        pairs = [(cost(many, ask), cost(few, ask)) for _ in range(3)]
        assert min(one / other for one, other in pairs) < 5, (ask.__name__, pairs)


def test_row_70_pages_of_all_models(many: RunningServer, rpc: Grpc) -> None:
    """Metrics and statistics of all models, over both protocols."""
    with urllib.request.urlopen(f"http://{many.metrics}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    serving = {f"m{number}" for number in range(MANY) if number % 100 != BROKEN} | {"control", "waits"}
    assert set(re.findall(r'^nv_inference_count\{model="(\w+)",version="1"\} \d+$', page, re.MULTILINE)) == serving
    told = {entry["name"] for entry in get(many, "/v2/models/stats").document["model_stats"]}
    assert told == serving
    statistics = pb.ModelStatisticsResponse.FromString(rpc.method("ModelStatistics")(b""))
    assert {entry.name for entry in statistics.model_stats} == serving


def test_row_70_many_who_ask_for_all_models_hold_up_nobody(many: RunningServer) -> None:
    """They ask for 4 MB each: another client, who begins after them, is answered before the last of them."""
    asking = [Raw(many.http_port, timeout_s=300) for _ in range(10)]
    with contextlib.ExitStack() as stack:
        for raw in asking:
            stack.enter_context(raw)
            raw.send(b"GET /v2/models/stats HTTP/1.1\r\n%s\r\n" % HOST)
        with Raw(many.http_port, timeout_s=300) as other:
            for number in range(10):
                body = document(tensor((1, 4), [number] * 4))
                assert other.send(post("/v2/models/m7/infer", body)).receive().status == 200
        asking[-1].socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            asking[-1].socket.recv(1)
        asking[-1].socket.settimeout(300)
        for raw in asking:
            assert raw.receive().body.count(b'"inference_stats"') > MANY * 0.98
