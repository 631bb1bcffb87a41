# SPDX-License-Identifier: Apache-2.0
"""Pings of either side and the age of connections, over sockets. What is decided when is tested in the core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from contract.conftest import GATE, add_model, gate_config
from faults import h2raw as h2
from faults.h2raw import ACK, H2, Frame, frame, grpc_headers
from pyinfer.testing import RunningServer, run_server

PING = frame(h2.PING, 0, 0, b"12345678")
LIVE = b"\0\0\0\0\0"


def goaway(found: Frame) -> tuple[int, bytes]:
    """Error code and reason."""
    assert found.kind == h2.GOAWAY, found
    return int.from_bytes(found.payload[4:8], "big"), found.payload[8:]


def test_a_client_that_pings_too_often_is_sent_away(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        connection.send(PING * 3)
        frames = connection.frames()
        for _ in range(3):
            assert next(found for found in frames if found.kind in (h2.PING, h2.GOAWAY)).kind == h2.PING
        connection.send(PING)
        rest = list(frames)
        assert goaway(rest[-1]) == (11, b"too_many_pings")


def test_pings_between_calls_are_no_offence(server: RunningServer) -> None:
    with H2(server.grpc_port) as connection:
        for stream in range(1, 41, 2):
            connection.send(PING)
            assert connection.call(stream, LIVE).status == 0


def test_strikes_can_be_switched_off(models: Path) -> None:
    with run_server(models, "--grpc-http2-max-ping-strikes=0") as server, H2(server.grpc_port) as connection:
        connection.send(PING * 100)
        assert connection.call(1, LIVE).status == 0


def test_clients_may_ping_as_often_as_they_are_allowed(models: Path) -> None:
    flags = ("--grpc-http2-min-recv-ping-interval-without-data=0", "--grpc-keepalive-permit-without-calls=true")
    with run_server(models, *flags) as server, H2(server.grpc_port) as connection:
        connection.send(PING * 100)
        assert connection.call(1, LIVE).status == 0


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A repository with one model whose answers wait until its file ``open`` is there."""
    yield add_model(tmp_path, "gate", gate_config(), {"model.py": GATE})
    (tmp_path / "gate" / "open").touch()


def infer() -> bytes:
    made = pb.ModelInferRequest(model_name="gate")
    made.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
    made.raw_input_contents.append(bytes(4))
    data: bytes = made.SerializeToString()
    return b"\0" + len(data).to_bytes(4, "big") + data


def test_a_client_that_has_calls_and_answers_pings_is_kept(gate: Path) -> None:
    flags = ("--grpc-keepalive-time=100", "--grpc-keepalive-timeout=60000")
    with run_server(gate.parent, *flags) as server, H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers("ModelInfer"), end=False)
        connection.send(frame(h2.DATA, h2.END_STREAM, 1, infer()))
        pings = 0
        for found in connection.frames():  # answers the pings
            if found.kind == h2.PING and not found.flags & ACK:
                pings += 1
                if pings == 2:  # as many as there may be while nothing else is sent
                    break
        (gate / "open").touch()
        assert connection.reply(1).status == 0


def test_a_silent_client_that_has_calls_is_pinged_and_given_up(gate: Path) -> None:
    flags = ("--grpc-keepalive-time=100", "--grpc-keepalive-timeout=100")
    with run_server(gate.parent, *flags) as server, H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers("ModelInfer"), end=False)
        connection.send(frame(h2.DATA, h2.END_STREAM, 1, infer()))
        connection.send = lambda data: connection  # type: ignore[method-assign]  # says nothing from now on
        kinds = [found.kind for found in connection.frames()]
        assert kinds[-1] == h2.PING
        (gate / "open").touch()


def test_a_silent_client_without_calls_is_left_alone(models: Path) -> None:
    with (
        run_server(models, "--grpc-keepalive-time=20", "--grpc-keepalive-timeout=20") as server,
        H2(server.grpc_port, timeout_s=0.5) as connection,
        pytest.raises(TimeoutError),
    ):
        list(connection.frames())


def test_an_old_connection_takes_no_more_calls_and_finishes_those_it_has(gate: Path) -> None:
    with run_server(gate.parent, "--grpc-max-connection-age=1500") as server, H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers("ModelInfer"), end=False)
        connection.send(frame(h2.DATA, h2.END_STREAM, 1, infer()))
        found = next(found for found in connection.frames() if found.kind == h2.GOAWAY)
        assert goaway(found) == (0, b"max_age")
        (gate / "open").touch()
        assert connection.reply(1).status == 0
        assert list(connection.frames()) == []


def test_the_grace_of_an_old_connection_ends(gate: Path) -> None:
    flags = ("--grpc-max-connection-age=200", "--grpc-max-connection-age-grace=200")
    with run_server(gate.parent, *flags) as server, H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers("ModelInfer"), end=False)
        connection.send(frame(h2.DATA, h2.END_STREAM, 1, infer()))
        assert h2.GOAWAY in [found.kind for found in connection.frames()]
        (gate / "open").touch()


def test_clients_of_old_connections_notice_nothing(models: Path) -> None:
    """grpcio makes a new connection for each that is to go; every call is answered."""
    with (
        run_server(models, "--grpc-max-connection-age=50") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(1000):
            assert stub.ServerLive(pb.ServerLiveRequest(), timeout=60).live
