# SPDX-License-Identifier: Apache-2.0
"""Requests in a line: what the tables of this package are written with."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from differential.case import Call, Case, Http, StreamCall
from pyinfer.config.messages import message

__all__ = [
    "ELEMENT_SIZES",
    "bytes_tensor",
    "call",
    "cases",
    "get",
    "grpc_infer",
    "infer_request",
    "json_infer",
    "parameter",
    "post",
    "raw_infer",
    "stream",
    "tensor",
    "with_binary",
]

#: bytes of an element, by data type; BYTES aside
ELEMENT_SIZES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "BF16": 2,
    "FP32": 4,
    "FP64": 8,
}

Table = Iterable[tuple[str, "Http | Call | StreamCall"]]


def cases(*tables: Table) -> list[Case]:
    """Rows of (name, request) as cases."""
    return [Case(name, request) for table in tables for name, request in table]


# HTTP


def get(target: str, *headers: tuple[str, str], method: str = "GET") -> Http:
    return Http(method, target, headers)


def post(target: str, body: object = b"", *headers: tuple[str, str], method: str = "POST") -> Http:
    """``body``: bytes as they are, text as UTF-8, anything else as JSON."""
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    return Http(method, target, headers, body if isinstance(body, bytes) else json.dumps(body).encode())


def tensor(name: str, datatype: str, shape: object, data: object = None, **parameters: object) -> dict[str, Any]:
    """An input of a JSON request; without ``data`` where it is None."""
    entry: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    if data is not None:
        entry["data"] = data
    return {**entry, "parameters": parameters} if parameters else entry


def json_infer(model: str, inputs: object, *headers: tuple[str, str], **members: object) -> Http:
    """POST .../infer of a JSON body; ``members`` are further ones of the request."""
    return post(f"/v2/models/{model}/infer", {"inputs": inputs, **members}, *headers)


def with_binary(
    model: str, inputs: object, binary: bytes, *headers: tuple[str, str], length: object = None, **members: object
) -> Http:
    """JSON followed by binary data; ``length`` replaces the true length of the JSON part in the header."""
    document = json.dumps({"inputs": inputs, **members}).encode()
    header = ("Inference-Header-Content-Length", str(len(document) if length is None else length))
    return post(f"/v2/models/{model}/infer", document + binary, header, *headers)


def raw_infer(model: str, data: bytes, *headers: tuple[str, str]) -> Http:
    """A raw binary request: the body is one tensor."""
    return post(f"/v2/models/{model}/infer", data, ("Inference-Header-Content-Length", "0"), *headers)


def bytes_tensor(*elements: bytes) -> bytes:
    """BYTES elements in binary form."""
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)


# gRPC


def parameter(value: object) -> Any:
    """A bool, int, str or float as InferParameter; ("uint64_param", 3) names the kind."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    kind, content = value if isinstance(value, tuple) else (kinds[type(value)], value)
    return message("InferParameter")(**{kind: content} if kind else {})


def _set(parameters: Any, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        parameters[key].CopyFrom(parameter(value))


def infer_request(
    model: str,
    inputs: Sequence[tuple[Any, ...]],
    raw: Sequence[bytes] = (),
    *,
    outputs: Sequence[object] = (),
    parameters: Mapping[str, object] | None = None,
    **fields: str,
) -> bytes:
    """A serialized ModelInferRequest.

    ``inputs``: (name, datatype, shape) and optionally a dict of contents and one of parameters; ``outputs``: names, or
    (name, parameters); ``fields``: ``id``, ``model_version``.
    """
    request: Any = message("ModelInferRequest")(model_name=model, **fields)
    _set(request.parameters, parameters or {})
    for name, datatype, shape, *rest in inputs:
        entry = request.inputs.add(name=name, datatype=datatype, shape=shape)
        for kind, values in (rest[0] if rest else {}).items():
            getattr(entry.contents, kind).extend(values)
        _set(entry.parameters, rest[1] if len(rest) > 1 else {})
    for output in outputs:
        name, chosen = output if isinstance(output, tuple) else (output, {})
        _set(request.outputs.add(name=name).parameters, chosen)
    request.raw_input_contents.extend(raw)
    data: bytes = request.SerializeToString()
    return data


def grpc_infer(model: str, inputs: Sequence[tuple[Any, ...]], raw: Sequence[bytes] = (), **more: Any) -> Call:
    """ModelInfer; arguments as for :func:`infer_request`."""
    return Call("ModelInfer", infer_request(model, inputs, raw, **more))


def call(rpc: str, kind: str = "", *metadata: tuple[str, str], **fields: Any) -> Call:
    """Any other RPC; ``kind`` is the full name of its request message where that is not made from its own."""
    return Call(rpc, message(kind or f"{rpc}Request")(**fields).SerializeToString(), metadata)


def stream(*requests: bytes, interleaved: bool = False, metadata: tuple[tuple[str, str], ...] = ()) -> StreamCall:
    return StreamCall(requests, metadata, interleaved)


def array(values: object, datatype: str) -> bytes:
    """Values in the binary form of a data type of fixed size."""
    return np.asarray(values).astype(datatype).tobytes()
