# SPDX-License-Identifier: Apache-2.0
"""tritonclient (callbacks, sync and aio) and bare grpcio against the gRPC port."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Iterator

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from pyinfer.config.messages import message
from pyinfer.testing import RunningServer


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as made:
        yield made


@pytest.fixture
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as made:
        yield made


def tensor(array: np.ndarray, datatype: str = "FP32") -> triton.InferInput:
    made = triton.InferInput("INPUT0", list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def call(channel: grpc.Channel, path: str, request: bytes = b"", **options: object) -> bytes:
    """A unary call of bytes."""
    return channel.unary_unary(path)(request, timeout=60, **options)


@pytest.mark.parametrize("version", ["", "1"])
def test_infer(client: triton.InferenceServerClient, version: str) -> None:
    array = np.arange(32, dtype=np.float32).reshape(2, 16)
    result = client.infer("fp32", [tensor(array)], version, request_id="seven")
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
    response = result.get_response()
    assert (response.id, response.model_name, response.model_version) == ("seven", "fp32", "1")


def test_bytes(client: triton.InferenceServerClient) -> None:
    array = np.array([[b"one", b"", bytes(range(256))]], dtype=np.object_)
    answer = client.infer("text", [tensor(array, "BYTES")]).as_numpy("OUTPUT0")
    assert list(answer.flat) == list(array.flat)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, algorithm: str) -> None:
    array = np.zeros((1, 4096), np.float32)
    result = client.infer("fp32", [tensor(array)], compression_algorithm=algorithm)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("mebibytes", [1, 16])
def test_large_tensor(client: triton.InferenceServerClient, mebibytes: int) -> None:
    array = np.random.default_rng(1).random((mebibytes << 18), np.float32)
    for _ in range(2):
        np.testing.assert_array_equal(client.infer("large", [tensor(array)]).as_numpy("OUTPUT0"), array)


def test_a_client_that_reads_a_large_answer_may_ask_on(client: triton.InferenceServerClient) -> None:
    """The limit on unread answers is for clients that do not read, not for those that are still reading."""
    array = np.random.default_rng(2).random(100 << 18, np.float32)
    answers: queue.Queue[tuple[object, object]] = queue.Queue()
    client.async_infer("large", [tensor(array)], lambda result, error: answers.put((result, error)))
    small = np.zeros((1, 16), np.float32)
    asked = 0
    while answers.empty() or asked < 10:
        np.testing.assert_array_equal(client.infer("fp32", [tensor(small)]).as_numpy("OUTPUT0"), small)
        asked += 1
    result, error = answers.get(timeout=60)
    assert error is None
    assert isinstance(result, triton.InferResult)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


def test_callbacks(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[int, object, object]] = queue.Queue()
    for number in range(200):
        array = np.full((1, 4), number, np.float32)
        client.async_infer(
            "fp32", [tensor(array)], lambda result, error, number=number: answers.put((number, result, error))
        )
    seen = set()
    for _ in range(200):
        number, result, error = answers.get(timeout=60)
        assert error is None
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.full((1, 4), number, np.float32))
        seen.add(number)
    assert seen == set(range(200))


def test_aio(server: RunningServer) -> None:
    async def run() -> None:
        async with triton_aio.InferenceServerClient(server.grpc) as client:

            async def one(number: int) -> None:
                array = np.full((1, 4), number, np.float32)
                result = await client.infer("fp32", [tensor(array)])
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)

            await asyncio.gather(*(one(number) for number in range(300)))
            assert await client.is_server_ready()

    asyncio.run(run())


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fp32")
    assert client.is_model_ready("fp32", "1")
    server = client.get_server_metadata()
    assert server.name == "triton"
    assert list(server.extensions)[:2] == ["classification", "sequence"]
    model = client.get_model_metadata("fp32")
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("INPUT0", "FP32", [-1, -1])]
    config = client.get_model_config("fp32").config
    assert (config.name, config.max_batch_size, config.backend) == ("fp32", 8, "identity")
    assert config.input[0].data_type == 11


def test_health_check_service(channel: grpc.Channel) -> None:
    response = message("grpc.health.v1.HealthCheckResponse").FromString(call(channel, "/grpc.health.v1.Health/Check"))
    assert response.status == 1


@pytest.mark.parametrize("ask", ["get_model_metadata", "get_model_config", "is_model_ready"])
def test_unknown_model(client: triton.InferenceServerClient, ask: str) -> None:
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'none' is not found") as caught:
        getattr(client, ask)("none")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_statistics(client: triton.InferenceServerClient) -> None:
    def count() -> int:
        (entry,) = client.get_inference_statistics("text").model_stats
        return int(entry.inference_stats.success.count)

    before = count()
    client.infer("text", [tensor(np.array([[b"x"]], np.object_), "BYTES")])
    assert count() == before + 1
    with pytest.raises(InferenceServerException, match="requested model 'none' is not available") as caught:
        client.get_inference_statistics("none")
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


def test_repository_control(client: triton.InferenceServerClient, channel: grpc.Channel) -> None:
    index = {entry.name: entry for entry in client.get_model_repository_index().models}
    assert (index["fp32"].version, index["fp32"].state) == ("1", "READY")
    client.load_model("fp32")
    client.unload_model("none")
    with pytest.raises(InferenceServerException):
        client.load_model("none")
    request = service_pb2.RepositoryIndexRequest(repository_name="other").SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, "/inference.GRPCInferenceService/RepositoryIndex", request)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_config_override(client: triton.InferenceServerClient) -> None:
    config = client.get_model_config("large", as_json=True)["config"]
    with pytest.raises(InferenceServerException):
        client.load_model("large", config="{")
    assert client.get_model_config("large", as_json=True)["config"] == config
    assert client.is_model_ready("large")


@pytest.mark.parametrize("path", ["/inference.GRPCInferenceService/Nothing", "/other.Service/ServerLive", "/x"])
def test_unknown_method(channel: grpc.Channel, path: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, path)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("rpc", ["ModelMetadata", "ModelInfer", "RepositoryModelLoad"])
def test_message_that_is_no_protobuf(channel: grpc.Channel, rpc: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, f"/inference.GRPCInferenceService/{rpc}", b"\xff\xff\xff")
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert call(channel, "/inference.GRPCInferenceService/ServerLive")


def test_failures_end_only_their_call(client: triton.InferenceServerClient) -> None:
    array = np.zeros((1, 4), np.float32)
    for _ in range(20):
        with pytest.raises(InferenceServerException, match="is not found"):
            client.infer("none", [tensor(array)])
        with pytest.raises(InferenceServerException, match="batch-size must be <= 8"):
            client.infer("fp32", [tensor(np.zeros((9, 4), np.float32))])
        client.infer("fp32", [tensor(array)])
