# SPDX-License-Identifier: Apache-2.0
"""--grpc-infer-response-compression-level: what clients get, by what they accept."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from faults.h2raw import H2, Reply, grpc_headers
from pyinfer.testing import RunningServer, run_server

#: accepted encodings -> what the levels low, medium and high choose
CHOICES = {
    "identity,deflate,gzip": ("gzip", "deflate", "deflate"),
    "gzip, deflate": ("gzip", "deflate", "deflate"),
    "gzip": ("gzip", "gzip", "gzip"),
    "identity, deflate": ("deflate", "deflate", "deflate"),
    "identity": (None, None, None),
    "br,GZIP": (None, None, None),
    None: (None, None, None),
}
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}
LEVELS = ("low", "medium", "high")


def request(numbers: int, model: str = "fp32") -> bytes:
    made = pb.ModelInferRequest(model_name=model)
    made.inputs.add(name="INPUT0", datatype="FP32", shape=[1, numbers])
    made.raw_input_contents.append(np.ones(numbers, "<f4").tobytes())
    return bytes(made.SerializeToString())


def framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


def call(server: RunningServer, rpc: str, message: bytes, accepts: str | None) -> Reply:
    extra = [] if accepts is None else [("grpc-accept-encoding", accepts)]
    with H2(server.grpc_port, pairs=[(4, 1 << 24)]) as connection:
        return connection.call(1, framed(message), grpc_headers(rpc, *extra))


@pytest.fixture(scope="module", params=LEVELS)
def server(request: Any, models: Path) -> Iterator[tuple[RunningServer, int]]:
    with run_server(models, f"--grpc-infer-response-compression-level={request.param}") as running:
        yield running, LEVELS.index(request.param)


@pytest.mark.parametrize("accepts", CHOICES)
@pytest.mark.parametrize("rpc", ["ModelInfer", "ModelStreamInfer"])
def test_a_response_is_compressed_as_the_client_accepts(
    server: tuple[RunningServer, int], rpc: str, accepts: str | None
) -> None:
    running, level = server
    plain = call(running, rpc, request(1000), None)
    assert plain.status == 0
    encoding = CHOICES[accepts][level]
    reply = call(running, rpc, request(1000), accepts)
    assert reply.headers.get("grpc-encoding") == encoding
    if encoding is None:
        assert reply.body == plain.body
    else:
        assert reply.body[0] == 1
        assert len(reply.body) < len(plain.body) / 4
        assert UNPACK[encoding](reply.body[5:]) == plain.body[5:]


def test_what_would_not_get_smaller_stays(server: tuple[RunningServer, int]) -> None:
    reply = call(server[0], "ModelInfer", request(1), "gzip")
    assert (reply.headers["grpc-encoding"], reply.body[0]) == ("gzip", 0)


@pytest.mark.parametrize("rpc", ["ServerMetadata", "RepositoryIndex"])
def test_control_answers_are_not_compressed(server: tuple[RunningServer, int], rpc: str) -> None:
    reply = call(server[0], rpc, b"", "identity,deflate,gzip")
    assert "grpc-encoding" not in reply.headers
    assert reply.body[0] == 0


def test_errors_are_not_compressed(server: tuple[RunningServer, int]) -> None:
    reply = call(server[0], "ModelInfer", request(1, "none"), "gzip")
    assert reply.status == 5
    assert "grpc-encoding" not in reply.headers


def test_grpcio_understands_it(server: tuple[RunningServer, int]) -> None:
    with grpc.insecure_channel(server[0].grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        message = pb.ModelInferRequest.FromString(request(5000))
        data = message.raw_input_contents[0]
        assert stub.ModelInfer(message, timeout=60).raw_output_contents[0] == data
        for response in stub.ModelStreamInfer(iter([message] * 3), timeout=60):
            assert response.infer_response.raw_output_contents[0] == data
