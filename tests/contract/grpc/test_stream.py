# SPDX-License-Identifier: Apache-2.0
"""ModelStreamInfer by tritonclient (callbacks and aio) and by bare grpcio."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity, isolated
from pyinfer.testing import RunningServer, run_server

COUNTDOWN = '''
import triton_python_backend_utils as pb_utils
import numpy as np

LAST = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """INPUT0 is [count, mode]: count responses, then by mode: 0 the end alone, 1 the end with the last, 2 an error."""

    def execute(self, requests):
        for request in requests:
            count, mode = (int(value) for value in request.inputs()[0].as_numpy())
            sender = request.get_response_sender()
            for left in range(count, 0, -1):
                tensor = pb_utils.Tensor("OUTPUT0", np.array([left], np.float32))
                response = pb_utils.InferenceResponse([tensor], parameters={"left": left - 1})
                sender.send(response, flags=LAST if mode == 1 and left == 1 else 0)
            if mode == 2:
                sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError("no more", 6)))
            if mode != 1:
                sender.send(flags=LAST)
'''


@pytest.fixture(scope="module", params=["thread", "process"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """``fp32``, ``large`` without batching, and ``countdown``, which is decoupled."""
    repository: Path = tmp_path_factory.mktemp("streams")
    add_model(repository, "fp32", identity("TYPE_FP32", "-1"))
    add_model(repository, "large", identity("TYPE_FP32", "-1", batch=0))
    config = identity("TYPE_FP32", "-1", batch=0).replace('"identity"', '"python"').replace("dynamic_batching { }", "")
    add_model(repository, "countdown", config + "model_transaction_policy { decoupled: true }", {"model.py": COUNTDOWN})
    with run_server(repository, isolated(request.param)) as running:
        yield running


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.grpc) as made:
        yield made


@pytest.fixture
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_receive_message_length", -1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(array: np.ndarray) -> triton.InferInput:
    made = triton.InferInput("INPUT0", list(array.shape), "FP32")
    made.set_data_from_numpy(array)
    return made


def message(
    model: str, values: list[float], request_id: str = "", *, empty_final: bool = False
) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name=model, id=request_id)
    shape = [1, len(values)] if model == "fp32" else [len(values)]
    made.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
    made.raw_input_contents.append(np.array(values, "<f4").tobytes())
    if empty_final:
        made.parameters["triton_enable_empty_final_response"].bool_param = True
    return made


def converse(stub: Any, *requests: pb.ModelInferRequest, **options: Any) -> list[pb.ModelStreamInferResponse]:
    return list(stub.ModelStreamInfer(iter(requests), timeout=100, **options))


def values(response: pb.ModelStreamInferResponse) -> list[float]:
    return np.frombuffer(response.infer_response.raw_output_contents[0], "<f4").tolist()


def final(response: pb.ModelStreamInferResponse) -> bool:
    return response.infer_response.parameters["triton_final_response"].bool_param


def test_callbacks(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(50):
        array = np.full((1, number), number, np.float32)
        client.async_stream_infer("fp32", [tensor(array)], request_id=str(number))
    for number in range(50):
        result, error = answers.get(timeout=60)
        assert error is None
        assert result.get_response().id == str(number)
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), np.full((1, number), number, np.float32))
        assert result.get_response().parameters["triton_final_response"].bool_param
    client.stop_stream()


def test_callbacks_of_a_decoupled_model(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    ask = tensor(np.array([3, 0], np.float32))
    client.async_stream_infer("countdown", [ask], request_id="a", enable_empty_final_response=True)
    seen = []
    while True:
        result, error = answers.get(timeout=60)
        assert error is None
        if result.get_response().parameters["triton_final_response"].bool_param:
            break
        seen.append(result.as_numpy("OUTPUT0").tolist())
    assert seen == [[3], [2], [1]]
    assert result.as_numpy("OUTPUT0") is None
    client.stop_stream()


def test_errors_arrive_in_the_stream(client: triton.InferenceServerClient) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    array = np.zeros((1, 2), np.float32)
    client.async_stream_infer("none", [tensor(array)], request_id="x")
    client.async_stream_infer("fp32", [tensor(array)])
    result, error = answers.get(timeout=60)
    assert result is None
    assert isinstance(error, InferenceServerException)
    assert error.message() == "Request for unknown model: 'none' is not found"
    result, error = answers.get(timeout=60)
    assert error is None
    client.stop_stream()


def test_aio(server: RunningServer) -> None:
    async def ask() -> None:
        async def requests() -> AsyncIterator[dict[str, Any]]:
            for number in range(20):
                array = np.array([[number]], np.float32)
                yield {"model_name": "fp32", "inputs": [tensor(array)], "request_id": str(number)}

        async with triton_aio.InferenceServerClient(server.grpc) as client:
            numbers = []
            async for result, error in client.stream_infer(requests()):
                assert error is None
                numbers.append(int(result.as_numpy("OUTPUT0")[0, 0]))
            assert numbers == list(range(20))

    asyncio.run(ask())


def test_any_mix_of_models(stub: Any) -> None:
    requests = [
        message("fp32", [1], "a"),
        message("countdown", [2, 1], "b"),
        message("none", [1], "c"),
        message("large", [3, 4], "d"),
        message("countdown", [0, 0], "e"),
        message("countdown", [0, 0], "f", empty_final=True),
        message("countdown", [1, 2], "g"),
        message("fp32", [5], "h"),
    ]
    responses = converse(stub, *requests)
    ordered = [response for response in responses if response.infer_response.id in "acdh"]
    assert [response.infer_response.id for response in ordered] == ["a", "c", "d", "h"]
    assert [final(response) for response in ordered] == [True, False, True, True]
    assert ordered[1].error_message == "Request for unknown model: 'none' is not found"
    assert not ordered[1].infer_response.model_name
    by_id = {name: [r for r in responses if r.infer_response.id == name] for name in "befg"}
    assert [(values(r), final(r)) for r in by_id["b"]] == [([2], False), ([1], True)]
    assert [r.infer_response.parameters["left"].int64_param for r in by_id["b"]] == [1, 0]
    assert by_id["e"] == []
    (empty,) = by_id["f"]
    assert final(empty)
    assert (empty.infer_response.model_name, empty.infer_response.model_version) == ("countdown", "")
    assert not empty.infer_response.outputs
    answer, error = by_id["g"]
    assert (values(answer), final(answer)) == ([1], False)
    assert (error.error_message, error.infer_response.model_name, final(error)) == ("no more", "countdown", False)


@pytest.mark.parametrize(
    ("bad", "code", "text"),
    [
        (message("none", [1]), "NOT_FOUND", "Request for unknown model: 'none' is not found"),
        (message("countdown", [1, 2]), "ALREADY_EXISTS", "no more"),
    ],
    ids=["request", "model"],
)
def test_the_first_error_ends_the_stream(stub: Any, bad: pb.ModelInferRequest, code: str, text: str) -> None:
    seen: list[pb.ModelStreamInferResponse] = []
    call = stub.ModelStreamInfer(
        iter([message("fp32", [1]), bad]), metadata=[("triton_grpc_error", "true")], timeout=30
    )
    with pytest.raises(grpc.RpcError) as caught:
        seen.extend(call)
    assert caught.value.code().name == code
    assert caught.value.details() == text
    assert values(seen[0]) == [1]
    assert all(not response.error_message for response in seen)


def test_no_request_is_no_error(stub: Any) -> None:
    assert converse(stub) == []


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_compressed_requests(stub: Any, compression: grpc.Compression) -> None:
    numbers = [float(number % 7) for number in range(10_000)]
    responses = converse(stub, message("fp32", numbers), message("fp32", [1]), compression=compression)
    assert [values(response) for response in responses] == [numbers, [1]]


def test_large_tensors(stub: Any) -> None:
    array = np.arange(4 << 20, dtype="<f4")
    made = message("large", [])
    made.inputs[0].shape[:] = [array.size]
    made.raw_input_contents[:] = [array.tobytes()]
    responses = converse(stub, *[made] * 8)
    assert len(responses) == 8
    for response in responses:
        assert response.infer_response.raw_output_contents[0] == array.tobytes()


def test_ten_thousand_requests_on_one_stream(stub: Any) -> None:
    responses = converse(stub, *(message("fp32", [number], str(number)) for number in range(10_000)))
    assert [response.infer_response.id for response in responses] == [str(number) for number in range(10_000)]
    assert [values(response) for response in responses] == [[number] for number in range(10_000)]


def test_statistics_count_the_requests_of_streams(client: triton.InferenceServerClient, stub: Any) -> None:
    def count() -> int:
        return int(client.get_inference_statistics("fp32", as_json=True)["model_stats"][0].get("inference_count", 0))

    before = count()
    converse(stub, *(message("fp32", [1]) for _ in range(10)))
    assert count() - before == 10
