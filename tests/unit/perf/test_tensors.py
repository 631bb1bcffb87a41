# SPDX-License-Identifier: Apache-2.0
"""The tensors that a load sends, and the bytes that they become."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from pyinfer._core import deserialize_bytes
from pyinfer.errors import InvalidArgument
from pyinfer.perf.encode import grpc_request, http_request
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo, TensorInfo
from pyinfer.perf.tensors import Tensor, make_requests, read_data

SIZES = {
    "BOOL": 1, "INT8": 1, "INT16": 2, "INT32": 4, "INT64": 8, "UINT8": 1, "UINT16": 2, "UINT32": 4, "UINT64": 8,
    "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8,
}  # fmt: skip


def model(datatype: str = "FP32", shape: tuple[int, ...] = (3,), batch: int = 8) -> ModelInfo:
    full = (-1, *shape) if batch else shape
    return ModelInfo((TensorInfo("IN", datatype, full),), ("OUT",), batch)


def one(info: ModelInfo, **options: Any) -> Tensor:
    ((tensor,),) = make_requests(info, PerfOptions(model="m", **options))
    return tensor


@pytest.mark.parametrize("datatype", SIZES)
@pytest.mark.parametrize("source", ["random", "zero"])
def test_generated_data_has_its_size(datatype: str, source: str) -> None:
    tensor = one(model(datatype), batch_size=4, input_data=(source,))
    assert tensor.shape == (4, 3)
    assert len(tensor.raw) == 12 * SIZES[datatype]
    assert (tensor.raw == bytes(len(tensor.raw))) == (source == "zero")
    assert len(tensor.values()) == 12
    assert json.dumps(tensor.values())


def test_strings() -> None:
    info = model("BYTES", (2,))
    assert {len(each) for each in deserialize_bytes(one(info, string_length=7).raw)} == {7}
    assert list(deserialize_bytes(one(info, string_data="ü").raw)) == ["ü".encode()] * 2
    assert list(deserialize_bytes(one(info, input_data=("zero",)).raw)) == [b""] * 2
    assert one(info, string_data="ü").values() == ["ü", "ü"]


def test_random_data_is_the_same_for_the_same_seed() -> None:
    assert one(model(), seed=1).raw == one(model(), seed=1).raw != one(model(), seed=2).raw


def test_variable_dimensions_have_to_be_given() -> None:
    info = model(shape=(-1, 2))
    with pytest.raises(InvalidArgument, match=re.escape("variable dimensions [-1,2]: give them with --shape=IN:DIMS")):
        one(info)
    assert one(info, shapes={"IN": (5, 2)}).shape == (1, 5, 2)
    with pytest.raises(InvalidArgument, match="does not fit"):
        one(info, shapes={"IN": (5, 3)})
    with pytest.raises(InvalidArgument, match="'X', which is no input"):
        one(info, shapes={"X": (5, 2)})


def test_batch_size_is_checked() -> None:
    with pytest.raises(InvalidArgument, match="batch-size must be <= 8"):
        one(model(), batch_size=9)
    with pytest.raises(InvalidArgument, match="does not batch"):
        one(model(batch=0), batch_size=2)
    assert one(model(batch=0)).shape == (3,)


def write(path: Path, document: object) -> tuple[str]:
    path.write_text(json.dumps(document))
    return (str(path),)


def test_json_data_in_all_its_forms(tmp_path: Path) -> None:
    raw = np.array([7, 8, 9], dtype="<f4").tobytes()
    entries = [
        {"IN": [1, 2, 3]},
        {"IN": {"content": [[4], [5], [6]], "shape": [3]}},
        {"IN": {"b64": base64.b64encode(raw).decode()}},
    ]
    for document in (entries, [entries]):  # in streams, or not
        source = write(tmp_path / "data.json", {"data": document})
        requests = make_requests(model(), PerfOptions(model="m", input_data=source))
        assert [tensor.values() for (tensor,) in requests] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    batched = make_requests(model(), PerfOptions(model="m", input_data=source, batch_size=2))
    assert [tensor.values() for (tensor,) in batched] == [
        [1, 2, 3, 4, 5, 6],
        [7, 8, 9, 1, 2, 3],
        [4, 5, 6, 7, 8, 9],
    ]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "no list 'data'"),
        ({"data": []}, "no list 'data'"),
        ({"data": [7]}, "entry 0 is not an object"),
        ({"data": [{"IN": [1, 2, 3]}, {"X": [1]}]}, "entry 1 has 'X', which is no input"),
        ({"data": [{}]}, "no data for input 'IN'"),
        ({"data": [{"IN": [1, 2]}]}, "has 2 values"),
        ({"data": [{"IN": ["a", 2, 3]}]}, "input 'IN' of FP32"),
        ({"data": [{"IN": {"b64": "!"}}]}, "not base64"),
        ({"data": [{"IN": {"content": [1, 2, 3], "shape": ["x"]}}]}, "'shape' of 'IN' is not a list of sizes"),
        ({"data": [{"IN": {"content": [1, 2, 3], "shape": [-3]}}]}, "'shape' of 'IN' is not a list of sizes"),
        ({"data": [{"IN": {"content": [1, 2, 3], "shape": 3}}]}, "'shape' of 'IN' is not a list of sizes"),
        ({"data": [{"IN": {"b64": "AAAA"}}]}, "has 3 bytes; input 'IN' [3] takes 12"),
    ],
)
def test_wrong_json_data_is_told(tmp_path: Path, document: object, text: str) -> None:
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        one(model(), input_data=write(tmp_path / "data.json", document))


OUTPUTS = ModelInfo(
    (TensorInfo("IN", "FP32", (-1, 3)),), ("OUT",), 8, output_tensors=(TensorInfo("OUT", "INT32", (-1, -1)),)
)


def test_validation_data_is_batched_as_its_data(tmp_path: Path) -> None:
    raw = np.array([7], dtype="<i4").tobytes()
    wanted = [
        {"OUT": [1, 2]},
        {"OUT": {"b64": base64.b64encode(raw).decode()}},
        {"OUT": {"content": [3], "shape": [1]}},
    ]
    source = write(tmp_path / "data.json", {"data": [{"IN": [1, 2, 3]}] * 3, "validation_data": wanted})
    data = read_data(OUTPUTS, PerfOptions(model="m", input_data=source))
    values = [np.frombuffer(one["OUT"], "<i4").tolist() for one in data.expected]
    assert values == [[1, 2], [7], [3]]
    assert (data.steps, data.has_steps) == ([(0, 3)], True)
    batched = read_data(OUTPUTS, PerfOptions(model="m", input_data=source, batch_size=2))
    values = [np.frombuffer(one["OUT"], "<i4").tolist() for one in batched.expected]
    assert values == [[1, 2, 7], [3, 1, 2], [7, 3]]


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        ([{"OUT": [1]}], "has not the form of 'data'"),
        ([[{"OUT": [1]}, {"OUT": [1]}]], "has not the form of 'data'"),
        ("x", "has not the form of 'data'"),
        ([{"X": [1]}, {}], "'X', which is no output"),
        ([{"OUT": ["a"]}, {}], "'OUT' of INT32"),
        ([7, {}], "entry 0 is not an object"),
    ],
)
def test_wrong_validation_data_is_told(tmp_path: Path, wanted: object, text: str) -> None:
    document = {"data": [{"IN": [1, 2, 3]}] * 2, "validation_data": wanted}
    if text.startswith("has not") and isinstance(wanted, list) and isinstance(wanted[0], list):
        document["data"] = [[{"IN": [1, 2, 3]}], [{"IN": [1, 2, 3]}]]
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        read_data(OUTPUTS, PerfOptions(model="m", input_data=write(tmp_path / "data.json", document)))


def test_times_of_a_fixed_schedule(tmp_path: Path) -> None:
    entries = [{"timestamp": 0, "IN": [1, 2, 3]}, {"timestamp": [1.5], "IN": [1, 2, 3]}]
    options = PerfOptions(model="m", input_data=write(tmp_path / "a.json", {"data": entries}), fixed_schedule=True)
    assert read_data(model(), options).times_ns == [0, 1_500_000]
    for bad in (None, "x", -1, True):
        write(tmp_path / "a.json", {"data": [{**entries[0], "timestamp": bad}]})
        with pytest.raises(InvalidArgument, match="has no 'timestamp'"):
            read_data(model(), options)


def test_data_from_a_directory(tmp_path: Path) -> None:
    (tmp_path / "IN").write_bytes(bytes(12))
    assert one(model(), input_data=(str(tmp_path),)).raw == bytes(12)
    (tmp_path / "IN").write_bytes(bytes(11))
    with pytest.raises(InvalidArgument, match="has 11 bytes"):
        one(model(), input_data=(str(tmp_path),))
    (tmp_path / "IN").write_text("a\nb c\n")
    assert one(model("BYTES", (2,)), input_data=(str(tmp_path),)).values() == ["a", "b c"]
    with pytest.raises(InvalidArgument, match="No such file"):
        one(model(), input_data=(str(tmp_path / "absent"),))


OPTIONS = PerfOptions(model="m", parameters=(("i", 3), ("b", True), ("s", "x")), headers=(("X-Y", "z"),))
TENSOR = Tensor("IN", "FP32", (1, 3), np.array([1, 2, 3], dtype="<f4").tobytes())


def test_grpc_request_is_what_the_client_library_reads() -> None:
    body = grpc_request(GrpcTarget("127.0.0.1:1", "m", "2"), model(), OPTIONS, [TENSOR])
    assert body[0] == 0
    assert int.from_bytes(body[1:5], "big") == len(body) - 5
    request = service_pb2.ModelInferRequest.FromString(body[5:])
    assert (request.model_name, request.model_version) == ("m", "2")
    assert (list(request.inputs[0].shape), request.raw_input_contents[0]) == ([1, 3], TENSOR.raw)
    assert [output.name for output in request.outputs] == ["OUT"]
    parameters = request.parameters
    assert (parameters["i"].int64_param, parameters["b"].bool_param, parameters["s"].string_param) == (3, True, "x")


@pytest.mark.parametrize("form", ["binary", "json"])
def test_http_request(form: str) -> None:
    options = PerfOptions(**{**vars(OPTIONS), "input_format": form, "output_format": "json"})
    request = http_request(HttpTarget("127.0.0.1:1", "a/b", ""), model(), options, [TENSOR])
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v2/models/a%2Fb/infer HTTP/1.1"
    headers = dict(line.split(": ") for line in lines[1:])
    assert headers["Content-Length"] == str(len(body))
    assert headers["X-Y"] == "z"
    size = int(headers.get("Inference-Header-Content-Length", len(body)))
    document = json.loads(body[:size])
    assert body[size:] == (TENSOR.raw if form == "binary" else b"")
    assert document["parameters"] == {"i": 3, "b": True, "s": "x"}
    assert document["outputs"] == [{"name": "OUT", "parameters": {"binary_data": False}}]
    assert document["inputs"][0].get("data") == ([1.0, 2.0, 3.0] if form == "json" else None)
