# SPDX-License-Identifier: Apache-2.0
"""Request bodies: one tensor, of FP32 or of strings, as gRPC, as HTTP with binary tensors, as HTTP with JSON.

The gRPC and binary forms are made by ``tritonclient``, so they are what real clients send.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Body", "Protocol", "datatype_of", "fp32_rows", "grpc_frame", "make_body", "string_rows"]

Protocol = Literal["grpc", "grpc_stream", "http_binary", "http_json"]


@dataclass(frozen=True)
class Body:
    """One request. ``header_length`` is the size of the JSON part of a binary HTTP request, else None.

    ``path`` is where it is posted to over HTTP.
    """

    content: bytes
    protocol: Protocol
    model: str
    header_length: int | None = None
    path: str = ""

    @property
    def url_path(self) -> str:
        return self.path or f"/v2/models/{self.model}/infer"

    def http_request(self, host: str) -> bytes:
        """All of the request, as it is sent over HTTP/1.1."""
        lines = [f"POST {self.url_path} HTTP/1.1", f"Host: {host}"]
        kind = "json" if self.protocol == "http_json" else "octet-stream"
        lines.append(f"Content-Type: application/{kind}")
        if self.header_length is not None:
            lines.append(f"Inference-Header-Content-Length: {self.header_length}")
        lines.append(f"Content-Length: {len(self.content)}")
        return "\r\n".join([*lines, "", ""]).encode() + self.content

    def write(self, directory: Path) -> Path:
        """A file with the content, for load tools."""
        file = directory / f"{self.model}.{self.protocol}"
        file.write_bytes(self.content)
        return file


def fp32_rows(elements: int, rows: int = 1) -> NDArray[np.float32]:
    """A fixed tensor [rows, elements] of normal numbers with five decimals, as a client would type them."""
    values: NDArray[np.float64] = np.random.default_rng(0).standard_normal((rows, elements))
    return np.round(values, 5).astype(np.float32)


def string_rows(elements: int, rows: int = 1) -> NDArray[np.object_]:
    """A fixed tensor [rows, elements] of texts of 1 to 16 bytes."""
    lengths = np.random.default_rng(0).integers(1, 17, (rows, elements))
    texts = np.empty(lengths.shape, np.object_)
    texts.ravel()[:] = [b"abcdefghijklmnop"[:length] for length in lengths.ravel().tolist()]
    return texts


def datatype_of(tensor: NDArray[Any]) -> str:
    """The name of its data type, of the two that there are here."""
    return "BYTES" if tensor.dtype == np.object_ else "FP32"


def grpc_frame(message: bytes) -> bytes:
    """A gRPC message with its length prefix, not compressed."""
    return b"\0" + struct.pack(">I", len(message)) + message


def make_body(protocol: Protocol, model: str, tensor: NDArray[Any], *, name: str, output: str) -> Body:
    """The request that sends ``tensor`` to input ``name`` of ``model`` and wants ``output`` back the same way."""
    if protocol in ("grpc", "grpc_stream"):
        return Body(grpc_frame(_grpc_message(model, tensor, name)), protocol, model)
    if protocol == "http_binary":
        content, header_length = _binary(tensor, name, output)
        return Body(content, protocol, model, header_length)
    return Body(json.dumps(_json(tensor, name)).encode(), protocol, model)


def _grpc_message(model: str, tensor: NDArray[Any], name: str) -> bytes:
    from tritonclient.grpc import service_pb2
    from tritonclient.utils import serialize_byte_tensor

    request = service_pb2.ModelInferRequest(model_name=model)
    is_text = tensor.dtype == np.object_
    entry = request.inputs.add(name=name, datatype=datatype_of(tensor))
    entry.shape.extend(tensor.shape)
    request.raw_input_contents.append(serialize_byte_tensor(tensor).item() if is_text else tensor.tobytes())
    return bytes(request.SerializeToString())


def _binary(tensor: NDArray[Any], name: str, output: str) -> tuple[bytes, int]:
    import tritonclient.http as client

    given = client.InferInput(name, list(tensor.shape), datatype_of(tensor))
    given.set_data_from_numpy(tensor, binary_data=True)
    wanted = client.InferRequestedOutput(output, binary_data=True)
    content, header_length = client.InferenceServerClient.generate_request_body([given], outputs=[wanted])
    return bytes(content), int(header_length)


def _json(tensor: NDArray[np.float32], name: str) -> dict[str, Any]:
    data = [round(float(value), 5) for value in tensor.ravel()]
    return {"inputs": [{"name": name, "datatype": "FP32", "shape": list(tensor.shape), "data": data}]}
