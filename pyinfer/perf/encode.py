# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: a ModelInfer message with its prefix, or a whole HTTP/1.1 request. Encoded once, sent for ever."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from typing import Any

from pyinfer.config.messages import message
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo
from pyinfer.perf.tensors import Tensor

__all__ = ["grpc_request", "http_request"]


def grpc_request(target: GrpcTarget, info: ModelInfo, options: PerfOptions, inputs: Sequence[Tensor]) -> bytes:
    """A ModelInferRequest that asks for all outputs, with the five bytes that gRPC puts before it."""
    request: Any = message("ModelInferRequest")(model_name=target.model, model_version=target.version)
    for one in inputs:
        request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        request.raw_input_contents.append(one.raw)
    for name in info.outputs:
        request.outputs.add(name=name)
    for name, value in options.parameters:
        field = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(request.parameters[name], field, value)
    body: bytes = request.SerializeToString()
    return b"\0" + struct.pack(">I", len(body)) + body


def http_request(target: HttpTarget, info: ModelInfo, options: PerfOptions, inputs: Sequence[Tensor]) -> bytes:
    """A POST of an inference that asks for all outputs, tensors as the options have it."""
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
    if options.parameters:
        document["parameters"] = dict(options.parameters)
    head = json.dumps(document, separators=(",", ":")).encode()
    body = head + b"".join(one.raw for one in inputs) if is_binary else head
    headers = [("Host", target.url), ("User-Agent", "pyinfer-perf"), ("Accept", "*/*")]
    headers += [("Content-Type", "application/octet-stream" if is_binary else "application/json")]
    if is_binary:
        headers.append(("Inference-Header-Content-Length", str(len(head))))
    headers += [("Content-Length", str(len(body))), *options.headers]
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"POST {target.path('/infer')} HTTP/1.1\r\n{lines}\r\n".encode() + body
