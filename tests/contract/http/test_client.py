# SPDX-License-Identifier: Apache-2.0
"""tritonclient and httpx against the server: inference in every form, and the control plane."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from contract.http.raw import Raw, post
from pyinfer.testing import RunningServer


@pytest.fixture
def client(server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    made = triton.InferenceServerClient(server.http, concurrency=4)
    yield made
    made.close()


def tensor(array: np.ndarray, datatype: str = "FP32", *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("INPUT0", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("version", ["", "1"])
def test_infer(client: triton.InferenceServerClient, binary_in: bool, binary_out: bool, version: str) -> None:
    array = np.arange(32, dtype=np.float32).reshape(2, 16)
    result = client.infer(
        "fp32",
        [tensor(array, binary=binary_in)],
        version,
        [triton.InferRequestedOutput("OUTPUT0", binary_data=binary_out)],
        request_id="seven",
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("seven", "fp32", "1")


@pytest.mark.parametrize("binary", [True, False])
def test_bytes(client: triton.InferenceServerClient, binary: bool) -> None:
    array = np.array([["one", "", "drei ä"]], dtype=np.object_)
    outputs = [triton.InferRequestedOutput("OUTPUT0", binary_data=binary)]
    answer = client.infer("text", [tensor(array, "BYTES", binary=binary)], outputs=outputs).as_numpy("OUTPUT0")
    assert [each.decode() if isinstance(each, bytes) else each for each in answer.flat] == ["one", "", "drei ä"]


@pytest.mark.parametrize("sent", [None, "gzip", "deflate"])
@pytest.mark.parametrize("wanted", [None, "gzip", "deflate"])
def test_compression(client: triton.InferenceServerClient, sent: str | None, wanted: str | None) -> None:
    array = np.zeros((1, 4096), np.float32)
    result = client.infer(
        "fp32",
        [tensor(array)],
        request_compression_algorithm=sent,
        response_compression_algorithm=wanted,
    )
    np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


BODY = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
BOMB = gzip.compress(bytes(100 << 20))
CODED = {
    "truncated": ("gzip", gzip.compress(BODY)[:-9], {400}),
    "wrong checksum": ("gzip", gzip.compress(BODY)[:-8] + bytes(8), {400}),
    "not gzip": ("gzip", BODY, {400}),
    "not deflate": ("deflate", BODY, {400}),
    "bomb": ("gzip", BOMB, {400}),
    "bomb in deflate": ("deflate", zlib.compress(bytes(100 << 20)), {400}),
    "unknown": ("br", BODY, {400, 415, 501}),
}


@pytest.mark.parametrize("name", CODED)
def test_bad_compression(server: RunningServer, name: str) -> None:
    coding, body, statuses = CODED[name]
    with Raw(server.http_port) as raw:
        response = raw.send(post("/v2/models/fp32/infer", body, f"Content-Encoding: {coding}")).receive()
        assert response.status in statuses
        assert set(response.document) == {"error"}
        assert raw.send(post("/v2/models/fp32/infer", BODY)).receive().status == 200


@pytest.mark.parametrize("quality", ["gzip;q=1e999", "gzip;q=", ";;,,", "*", "br, zstd", "gzip;q=0, deflate;q=0"])
def test_strange_accept_encoding(server: RunningServer, quality: str) -> None:
    with Raw(server.http_port) as raw:
        response = raw.send(post("/v2/models/fp32/infer", BODY, f"Accept-Encoding: {quality}")).receive()
        assert response.status == 200


@pytest.mark.parametrize("value", ["-1", "100000", "2147483648", "9" * 30, "x", "1e2", "0x10", "", " 1 1"])
def test_bad_header_length(server: RunningServer, value: str) -> None:
    with Raw(server.http_port) as raw:
        bad = post("/v2/models/fp32/infer", BODY, f"Inference-Header-Content-Length: {value}")
        response = raw.send(bad).receive()
        assert response.status == 400
        assert set(response.document) == {"error"}
        assert raw.send(post("/v2/models/fp32/infer", BODY)).receive().status == 200


def test_raw_binary_request(server: RunningServer) -> None:
    array = np.arange(8, dtype=np.float32)
    answer = httpx.post(
        f"http://{server.http}/v2/models/fp32/infer",
        content=array.tobytes(),
        headers={"Inference-Header-Content-Length": "0"},
    )
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["Inference-Header-Content-Length"])
    np.testing.assert_array_equal(np.frombuffer(answer.content[length:], np.float32), array)


@pytest.mark.parametrize("mebibytes", [1, 16])
def test_large_tensor(client: triton.InferenceServerClient, mebibytes: int) -> None:
    array = np.random.default_rng(1).random((mebibytes << 18), np.float32)
    for _ in range(2):
        result = client.infer("large", [tensor(array)])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)


def test_large_chunked_upload(server: RunningServer) -> None:
    array = np.random.default_rng(1).random(1 << 20, np.float32)
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT0",
                    "datatype": "FP32",
                    "shape": [1 << 20],
                    "parameters": {"binary_data_size": array.nbytes},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    body = header + array.tobytes()
    answer = httpx.post(
        f"http://{server.http}/v2/models/large/infer",
        content=(body[start : start + 10_000] for start in range(0, len(body), 10_000)),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    assert answer.status_code == 200, answer.text
    assert answer.content.endswith(array.tobytes())


def test_many_clients_at_once(server: RunningServer) -> None:
    async def run() -> None:
        async with triton_aio.InferenceServerClient(server.http, conn_limit=32) as client:

            async def one(number: int) -> None:
                array = np.full((1, 8), number, np.float32)
                result = await client.infer("fp32", [tensor(array)])
                np.testing.assert_array_equal(result.as_numpy("OUTPUT0"), array)

            await asyncio.gather(*(one(number) for number in range(400)))

    asyncio.run(run())


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("fp32")
    assert client.is_model_ready("fp32", "1")
    assert not client.is_model_ready("none")
    assert not client.is_model_ready("fp32", "2")
    server = client.get_server_metadata()
    assert server["name"] == "triton"
    assert server["extensions"][:2] == ["classification", "sequence"]
    model = client.get_model_metadata("fp32")
    assert model["inputs"] == [{"name": "INPUT0", "datatype": "FP32", "shape": [-1, -1]}]
    assert model["versions"] == ["1"]
    config = client.get_model_config("fp32")
    assert (config["name"], config["max_batch_size"], config["backend"]) == ("fp32", 8, "identity")


@pytest.mark.parametrize("ask", ["get_model_metadata", "get_model_config"])
def test_unknown_model(client: triton.InferenceServerClient, ask: str) -> None:
    with pytest.raises(InferenceServerException, match="Request for unknown model: 'none' is not found") as caught:
        getattr(client, ask)("none")
    assert caught.value.status() == "404"
    with pytest.raises(InferenceServerException, match="version 7 is not found"):
        getattr(client, ask)("fp32", "7")


def test_statistics(client: triton.InferenceServerClient) -> None:
    def count() -> int:
        (entry,) = client.get_inference_statistics("text")["model_stats"]
        return int(entry["inference_stats"]["success"]["count"])

    before = count()
    client.infer("text", [tensor(np.array([["x"]], np.object_), "BYTES")])
    assert count() == before + 1
    assert {"fp32", "text"} <= {entry["name"] for entry in client.get_inference_statistics()["model_stats"]}
    with pytest.raises(InferenceServerException, match="requested model 'none' is not available") as caught:
        client.get_inference_statistics("none")
    assert caught.value.status() == "400"


def test_repository_control(client: triton.InferenceServerClient) -> None:
    index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["fp32"] == {"name": "fp32", "version": "1", "state": "READY"}
    client.load_model("fp32")
    client.unload_model("none")
    with pytest.raises(InferenceServerException):
        client.load_model("none")
    with Raw(int(client._parsed_url.port)) as raw:
        response = raw.send(post("/v2/repository/other/models/fp32/load", b"")).receive()
        assert (response.status, response.document["error"]) == (
            501,
            "'repository_name' specification is not supported",
        )
        response = raw.send(post("/v2/repository/models/fp32/load", b'{"parameters":{"x":1}}')).receive()
        assert response.status == 400
        assert raw.send(post("/v2/repository/models/fp32/load", b"")).receive().body == b""
