# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: a ModelInferRequest with its prefix, or a whole HTTP/1.1 request. Encoded once, sent for ever."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from pyinfer._core import load_sequence_fields
from pyinfer.config.messages import framed, message
from pyinfer.errors import InvalidArgument
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo
from pyinfer.perf.tensors import Tensor

if TYPE_CHECKING:
    from pyinfer.perf.shared_memory import Place

__all__ = ["generate_request", "grpc_request", "http_request", "post"]

#: of zlib, for gRPC's names of its formats
_WBITS = {"gzip": 31, "deflate": 15}


def grpc_request(
    target: GrpcTarget,
    info: ModelInfo,
    options: PerfOptions,
    inputs: Sequence[Tensor],
    places: Sequence[Place] = (),
    outputs: Mapping[str, Place] = {},
) -> bytes:
    """A ModelInferRequest that asks for all outputs, with the five bytes that gRPC puts before it.

    On a stream, a decoupled model is asked to say when it has made its last response. ``places``, of each input, and
    ``outputs`` are in shared memory; empty where they are not.
    """
    request: Any = message("ModelInferRequest")(model_name=target.model, model_version=target.version)
    for one, place in zip_longest(inputs, places):
        tensor = request.inputs.add(name=one.name, datatype=one.datatype, shape=one.shape)
        if place is None:
            request.raw_input_contents.append(one.raw)
        else:
            _set_parameters(tensor, _memory(place))
    for name in info.outputs:
        wanted = request.outputs.add(name=name)
        if name in outputs:
            _set_parameters(wanted, _memory(outputs[name]))
    _set_parameters(request, dict(options.parameters))
    if options.streaming and info.is_decoupled:
        _set_parameters(request, {"triton_enable_empty_final_response": True})
    body: bytes = request.SerializeToString()
    compressed = options.grpc_compression != "none"
    if compressed:
        coder = zlib.compressobj(wbits=_WBITS[options.grpc_compression])
        body = coder.compress(body) + coder.flush()
    return framed(body, compressed=compressed)


def _memory(place: Place) -> dict[str, Any]:
    return {
        "shared_memory_region": place.region,
        "shared_memory_offset": place.offset,
        "shared_memory_byte_size": place.size,
    }


def _set_parameters(of: Any, parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        field = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(of.parameters[name], field, value)


def http_request(
    target: HttpTarget,
    info: ModelInfo,
    options: PerfOptions,
    inputs: Sequence[Tensor],
    places: Sequence[Place] = (),
    outputs: Mapping[str, Place] = {},
) -> bytes:
    """A POST of an inference that asks for all outputs, tensors as the options have it, or in shared memory.

    For a model with sequences it has the place that the load fills in.
    """
    is_binary = options.input_format == "binary" and not places
    document: dict[str, Any] = {"inputs": []}
    for one, place in zip_longest(inputs, places):
        entry: dict[str, Any] = {"name": one.name, "shape": one.shape, "datatype": one.datatype}
        if place is not None:
            entry["parameters"] = _memory(place)
        elif is_binary:
            entry["parameters"] = {"binary_data_size": len(one.raw)}
        else:
            entry["data"] = one.values()
        document["inputs"].append(entry)
    binary = {"binary_data": options.output_format == "binary"}
    document["outputs"] = [
        {"name": name, "parameters": _memory(outputs[name]) if name in outputs else binary} for name in info.outputs
    ]
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
    return post(target, target.path("/infer"), [*headers, *options.headers], body)


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
    return post(target, target.path("/generate_stream"), headers, body)


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"))


def post(target: HttpTarget, path: str, headers: Sequence[tuple[str, str]], body: bytes) -> bytes:
    """A whole request of HTTP/1.1."""
    own = [("Host", target.url), ("User-Agent", "pyinfer-perf"), ("Accept", "*/*"), ("Content-Length", str(len(body)))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*own, *headers))
    return f"POST {path} HTTP/1.1\r\n{lines}\r\n".encode() + body
