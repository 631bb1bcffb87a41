# SPDX-License-Identifier: Apache-2.0
"""grpc.health.v1: Check and Watch, also while models come and go and while the server stops."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from pyinfer.config.messages import message
from pyinfer.testing import RunningServer, run_server

HEALTH = "/grpc.health.v1.Health"
SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """``good``, and ``bad``, which does not load."""
    add_model(tmp_path, "good", identity("TYPE_FP32", "-1"))
    add_model(tmp_path, "bad", identity("TYPE_FP32", "-1").replace('"identity"', '"python"'), {"model.py": "1 / 0"})
    return tmp_path


@pytest.fixture
def own(repository: Path) -> Iterator[RunningServer]:
    """For what changes it."""
    with run_server(repository, "--model-control-mode=explicit", "--load-model=good") as running:
        yield running


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as made:
        yield made


def request(service: str = "") -> bytes:
    made: bytes = message("grpc.health.v1.HealthCheckRequest")(service=service).SerializeToString()
    return made


def status(response: bytes) -> int:
    parsed: Any = message("grpc.health.v1.HealthCheckResponse").FromString(response)
    return int(parsed.status)


def watch(channel: grpc.Channel, service: str = "", **options: Any) -> Any:
    return channel.unary_stream(f"{HEALTH}/Watch")(request(service), timeout=60, **options)


def test_check_ignores_the_service(channel: grpc.Channel) -> None:
    for service in ("", "inference.GRPCInferenceService", "no.such.Service"):
        assert status(channel.unary_unary(f"{HEALTH}/Check")(request(service), timeout=60)) == SERVING


def test_watch_tells_each_change(own: RunningServer, repository: Path) -> None:
    with grpc.insecure_channel(own.grpc) as channel, triton.InferenceServerClient(own.grpc) as client:
        calls = [watch(channel, name) for name in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health")]

        def told() -> list[int]:
            return [status(next(call)) for call in calls]

        assert told() == [SERVING] * 3
        with pytest.raises(InferenceServerException):
            client.load_model("bad")
        assert told() == [NOT_SERVING] * 3
        (repository / "bad" / "1" / "model.py").write_text(
            "class TritonPythonModel:\n    def execute(self, requests): ...\n"
        )
        client.load_model("bad")
        assert told() == [SERVING] * 3


def test_watch_of_an_unknown_service(channel: grpc.Channel) -> None:
    call = watch(channel, "no.such.Service")
    assert status(next(call)) == SERVICE_UNKNOWN
    call.cancel()


def test_watchers_come_and_go(channel: grpc.Channel) -> None:
    calls = [watch(channel) for _ in range(50)]
    for call in calls:
        assert status(next(call)) == SERVING
    for call in calls:
        call.cancel()
    told: list[int] = []
    for timeout_s in (0.2, 2, 20):  # longer where the machine did not answer in time
        late = channel.unary_stream(f"{HEALTH}/Watch")(request(), timeout=timeout_s)
        with pytest.raises(grpc.RpcError) as caught:
            told.extend(map(status, late))
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        if told:
            break
    assert told == [SERVING]
    assert status(channel.unary_unary(f"{HEALTH}/Check")(request(), timeout=60)) == SERVING


@pytest.mark.parametrize("requests", [[], [b"", b""], [b"\x0a\x05a"]], ids=["none", "two", "malformed"])
def test_watch_takes_one_request(channel: grpc.Channel, requests: list[bytes]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        for _ in channel.stream_stream(f"{HEALTH}/Watch")(iter(requests), timeout=60):
            pass
    assert caught.value.code().name in ("INTERNAL", "INVALID_ARGUMENT")


def test_watchers_are_told_that_the_server_stops(own: RunningServer) -> None:
    with grpc.insecure_channel(own.grpc) as channel:
        call = watch(channel)
        assert status(next(call)) == SERVING
        own.process.send_signal(signal.SIGTERM)
        assert status(next(call)) == NOT_SERVING
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert own.process.wait(60) == 0
