# SPDX-License-Identifier: Apache-2.0
"""Requests of the fault tests in both dialects, and what every answer must keep to. It does NOT know any row."""

from __future__ import annotations

import json
import os
import re
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.http.raw import HOST, Raw, Response, post
from pyinfer.testing import RunningServer

__all__ = [
    "LIVE",
    "Grpc",
    "bytes_tensor",
    "check_text",
    "control",
    "document",
    "http",
    "is_live",
    "message",
    "refused",
    "tensor",
    "times",
]

LIVE = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"
_SERVICE = "/inference.GRPCInferenceService/"
# Invariant I5: paths, addresses of memory and tracebacks are nobody's business.
_SECRETS = re.compile(r"/tmp/|/home/|/usr/|site-packages|0x[0-9a-f]{6,}|Traceback|File \"|\.py\", line")


def check_text(text: str) -> str:
    """``text`` of an error, which must tell something, and nothing of the server's insides."""
    assert text
    assert not _SECRETS.search(text), text
    assert len(text) < 5000
    return text


def times(count: int) -> int:
    """As often as a row says; a tenth of it under a sanitizer, where each time costs many times as much."""
    return count // 10 if "PYINFER_SANITIZER" in os.environ else count


def bytes_tensor(*elements: bytes) -> bytes:
    """BYTES elements on the wire."""
    return b"".join(len(element).to_bytes(4, "little") + element for element in elements)


def tensor(shape: Iterable[int], data: object = None, **changes: object) -> dict[str, Any]:
    """One input of a JSON request: INPUT0, FP32; ``data`` None leaves it out."""
    made = {"name": "INPUT0", "datatype": "FP32", "shape": list(shape), **changes}
    if data is not None:
        made["data"] = data
    return made


def document(*inputs: dict[str, Any], **members: object) -> bytes:
    """The JSON of a request with these inputs."""
    return json.dumps({"inputs": list(inputs), **members}).encode()


def http(server: RunningServer, path: str, body: bytes, *headers: str) -> Response:
    """POST on a connection that must be usable afterwards; errors must be JSON of one member."""
    with Raw(server.http_port, timeout_s=60) as raw:
        response = raw.send(post(path, body, *headers)).receive()
        if response.status != 200:
            assert set(response.document) == {"error"}
            check_text(response.document["error"])
        assert raw.send(LIVE).receive().status == 200
        return response


def refused(server: RunningServer, model: str, body: bytes, *headers: str, status: int = 400, text: str = "") -> None:
    """An infer request is answered with ``status`` and an error that contains ``text``; the connection lives on."""
    path = model if model.startswith("/") else f"/v2/models/{model}/infer"
    response = http(server, path, body, *headers)
    assert response.status == status, (response.status, response.body[:500])
    assert text in response.document["error"], response.document["error"]


def control(server: RunningServer, model: str, action: str, parameters: object = None) -> int:
    """The status of a load or unload over HTTP."""
    path = f"/v2/repository/models/{urllib.parse.quote(model, safe='')}/{action}"
    body = b"" if parameters is None else json.dumps({"parameters": parameters}).encode()
    return http(server, path, body).status


def is_live(server: RunningServer) -> bool:
    """What a new connection is told."""
    with Raw(server.http_port, timeout_s=60) as raw:
        return raw.send(LIVE).receive().status == 200


def message(
    model: str,
    *inputs: tuple[str, str, Sequence[int]],
    raw: Sequence[bytes] = (),
    version: str = "",
    request_id: str = "",
    outputs: Sequence[str] = (),
) -> pb.ModelInferRequest:
    """A ModelInfer request; each input is (name, datatype, shape)."""
    made = pb.ModelInferRequest(model_name=model, model_version=version, id=request_id)
    for name, datatype, shape in inputs:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    for name in outputs:
        made.outputs.add(name=name)
    made.raw_input_contents.extend(raw)
    return made


class Grpc:
    """One channel of grpcio that sends messages as bytes, however broken they are."""

    def __init__(self, server: RunningServer) -> None:
        # a connection of its own, where channels to the same server would share one
        unlimited = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel = grpc.insecure_channel(server.grpc, options=unlimited)

    def close(self) -> None:
        self._channel.close()

    def method(self, name: str = "ModelInfer") -> grpc.UnaryUnaryMultiCallable:
        """The RPC, taking and giving bytes."""
        return self._channel.unary_unary(name if name.startswith("/") else _SERVICE + name)

    def call(self, request: bytes, name: str = "ModelInfer", *, timeout_s: float = 60, **options: Any) -> bytes:
        """The answer. Raises grpc.RpcError."""
        response: bytes = self.method(name)(request, timeout=timeout_s, **options)
        return response

    def infer(self, request: pb.ModelInferRequest, **options: Any) -> pb.ModelInferResponse:
        return pb.ModelInferResponse.FromString(self.call(request.SerializeToString(), **options))

    def refused(
        self, request: pb.ModelInferRequest | bytes, code: str, text: str = "", *, name: str = "ModelInfer"
    ) -> None:
        """The call fails with ``code`` and details that contain ``text``; the channel lives on."""
        data = request if isinstance(request, bytes) else request.SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            self.call(data, name)
        assert caught.value.code().name == code, (caught.value.code(), caught.value.details())
        assert text in check_text(caught.value.details()), caught.value.details()
        self.call(b"", "ServerLive")
