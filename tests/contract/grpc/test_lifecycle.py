# SPDX-License-Identifier: Apache-2.0
"""How gRPC connections end: with the server, with their client, and at limits."""

from __future__ import annotations

import contextlib
import signal
import socket
import struct
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from contract.conftest import GATE, add_model, gate_config
from pyinfer.testing import FaultProxy, RunningServer, run_server
from waiting import eventually

LIVE = "/inference.GRPCInferenceService/ServerLive"


def tensor(array: np.ndarray) -> triton.InferInput:
    made = triton.InferInput("INPUT0", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    add_model(tmp_path / "models", "gate", gate_config(), {"model.py": GATE})
    return tmp_path / "models" / "gate"


def test_accepted_call_is_answered_before_the_end(gate: Path) -> None:
    with run_server(gate.parent) as server, grpc.insecure_channel(server.grpc) as channel:
        request = triton.service_pb2.ModelInferRequest(model_name="gate")
        request.inputs.add(name="INPUT0", datatype="FP32", shape=[1, 1])
        request.raw_input_contents.append(struct.pack("<f", 4))
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            triton.service_pb2.ModelInferRequest.SerializeToString,
            triton.service_pb2.ModelInferResponse.FromString,
        )
        answer = infer.future(request, timeout=60)
        eventually((gate / "began").exists, "the model never began")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: "Waiting for in-flight requests" in server.log, "not stopping")
        # GOAWAY was sent: a new call needs a new connection, which is refused
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(LIVE)(b"", timeout=60)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        (gate / "open").touch()
        assert answer.result().raw_output_contents[0] == struct.pack("<f", 4)
        assert server.process.wait(60) == 0, server.log


def test_idle_connections_do_not_delay_the_end(models: Path) -> None:
    patient = run_server(models, "--exit-timeout-secs=600")
    with patient as server, socket.create_connection(("127.0.0.1", server.grpc_port)) as silent:
        with grpc.insecure_channel(server.grpc) as channel:
            assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0, server.log
        silent.settimeout(60)
        while silent.recv(1000):
            pass


def test_deadline_of_a_held_call(gate: Path) -> None:
    with run_server(gate.parent) as server, triton.InferenceServerClient(server.grpc) as client:
        array = np.zeros((1, 1), np.float32)
        with pytest.raises(InferenceServerException, match="Deadline") as caught:
            client.infer("gate", [tensor(array)], client_timeout=0.3)
        assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
        (gate / "open").touch()
        np.testing.assert_array_equal(client.infer("gate", [tensor(array)]).as_numpy("OUTPUT0"), array)


def test_lost_connections_disturb_nobody(server: RunningServer) -> None:
    array = np.zeros((1, 1000), np.float32)
    with triton.InferenceServerClient(server.grpc) as steady:
        for cut in range(0, 4000, 300):
            with (
                FaultProxy(server.grpc_port, cut_after=cut) as proxy,
                triton.InferenceServerClient(f"127.0.0.1:{proxy.port}") as client,
                pytest.raises(InferenceServerException, match="UNAVAILABLE|INTERNAL"),
            ):
                client.infer("fp32", [tensor(array)], client_timeout=20)
            np.testing.assert_array_equal(steady.infer("fp32", [tensor(array)]).as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"\x16\x03\x01" + bytes(50), bytes(9) * 100])
def test_noise_ends_its_connection(server: RunningServer, noise: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), 20) as raw:
        raw.sendall(noise)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(1000):
                pass
    with grpc.insecure_channel(server.grpc) as channel:
        assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"
