# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: a ModelInferRequest with its prefix, or a whole HTTP/1.1 request. Encoded once, sent for ever."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from pyinfer._core import load_sequence_fields
from pyinfer.config.messages import message
from pyinfer.errors import InvalidArgument
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo
from pyinfer.perf.tensors import Tensor

__all__ = ["generate_request", "grpc_request", "http_request"]


def grpc_request(target: GrpcTarget, info: ModelInfo, options: PerfOptions, inputs: Sequence[Tensor]) -> bytes:
    """A ModelInferRequest that asks for all outputs, with the five bytes that gRPC puts before it.

    On a stream, a decoupled model is asked to say when it has made its last response.
    """
    request: Any = message("ModelInferRequest")(model_name=target.model, model_version=target.version)
    for one in inputs:
        request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        request.raw_input_contents.append(one.raw)
    for name in info.outputs:
        request.outputs.add(name=name)
    for name, value in options.parameters:
        field = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], field, value)
    if options.streaming and info.is_decoupled:
        request.parameters["triton_enable_empty_final_response"].bool_param = True
    body: bytes = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(body)) + body


def http_request(target: HttpTarget, info: ModelInfo, options: PerfOptions, inputs: Sequence[Tensor]) -> bytes:
    """A POST of an inference that asks for all outputs, tensors as the options have it.

    For a model with sequences it has the place that the load fills in.
    """
    is_binary = options.input_format == "binary"
    document: dict[str, Any] = {"inputs": []}
    for one in inputs:
        entry: dict[str, Any] = {"name": one.name, "shape": one.shape, "datatype": one.datatype}
        if is_binary:
            entry["parameters"] = {"binary_data_size": len(one.raw)}
        else:
            entry["data"] = one.values()
        document["inputs"].append(entry)
    wanted = {"binary_data": options.output_format == "binary"}
    document["outputs"] = [{"name": name, "parameters": wanted} for name in info.outputs]
    parameters = [_json(dict(options.parameters))[1:-1]] if options.parameters else []
    if info.has_sequences:
        parameters.append(load_sequence_fields())
    text = _json(document)
    if parameters:
        text = f'{{"parameters":{{{",".join(parameters)}}},{text[1:]}'
    head = text.encode()
    body = head + b"".join(one.raw for one in inputs) if is_binary else head
    headers = [("Content-Type", "application/octet-stream" if is_binary else "application/json")]
    if is_binary:
        headers.append(("Inference-Header-Content-Length", str(len(head))))
    return _post(target, target.path("/infer"), [*headers, *options.headers], body)


def generate_request(target: HttpTarget, options: PerfOptions, inputs: Sequence[Tensor]) -> bytes:
    """A POST of ``generate_stream``: inputs and parameters by name. Raises InvalidArgument for what is no JSON."""
    document: dict[str, Any] = dict(options.parameters)
    for one in inputs:
        if one.datatype in ("FP16", "BF16"):
            raise InvalidArgument(f"input '{one.name}' is {one.datatype}, which generate_stream can not carry")
        values = one.values()
        document[one.name] = values[0] if len(values) == 1 else values
    body = _json(document).encode()
    headers = [("Content-Type", "application/json"), *options.headers]
    return _post(target, target.path("/generate_stream"), headers, body)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def _post(target: HttpTarget, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    own = [("Host", target.url), ("User-Agent", "pyinfer-perf"), ("Accept", "*/*"), ("Content-Length", str(len(body)))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*own, *headers))
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
