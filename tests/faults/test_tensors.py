# SPDX-License-Identifier: Apache-2.0
"""Rows 6 to 11: data, types, shapes and elements of inputs, over both protocols."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from faults.client import Grpc, bytes_tensor, document, http, message, refused, tensor
from faults.guard import peak_growth
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

LENGTH = "Inference-Header-Content-Length"
FLOATS = np.array([1.5, -2], "<f4").tobytes()
ONE_SOURCE = "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters'"
SHARED = {"shared_memory_region": "r", "shared_memory_byte_size": 8}


def typed(request: pb.ModelInferRequest, **contents: object) -> pb.ModelInferRequest:
    """``request`` with these typed contents of its first input."""
    request.inputs[0].contents.CopyFrom(pb.InferTensorContents(**contents))
    return request


def one(model: str, datatype: str = "FP32", shape: tuple[int, ...] = (1, 2)) -> pb.ModelInferRequest:
    return message(model, ("INPUT0", datatype, shape))


ROW_6_HTTP = {
    "data and binary": (tensor((1, 2), [1, 2], parameters={"binary_data_size": 8}), f"{ONE_SOURCE}"),
    "data and shared memory": (tensor((1, 2), [1, 2], parameters=SHARED), ONE_SOURCE),
    "binary and shared memory": (tensor((1, 2), parameters={**SHARED, "binary_data_size": 8}), ONE_SOURCE),
    "none": (tensor((1, 2)), "But no field is set"),
    "none, with parameters": (tensor((1, 2), parameters={}), "But no field is set"),
}


@pytest.mark.parametrize("case", ROW_6_HTTP)
def test_row_06_sources_of_data_http(server: RunningServer, case: str) -> None:
    given, text = ROW_6_HTTP[case]
    header = document(given)
    refused(server, "fp32", header + FLOATS, f"{LENGTH}: {len(header)}", text=text)


def test_row_06_sources_of_data_grpc(rpc: Grpc) -> None:
    rpc.refused(one("fp32"), "INVALID_ARGUMENT", "unable to find data for input tensor 'INPUT0' for model 'fp32'")
    both = typed(message("fp32", ("INPUT0", "FP32", (1, 2)), raw=[FLOATS]), fp32_contents=[1, 2])
    rpc.refused(both, "INVALID_ARGUMENT", "contents field must not be specified when using raw_input_contents")
    two = typed(one("fp32"), fp32_contents=[1, 2], int_contents=[1])
    rpc.refused(two, "INVALID_ARGUMENT", "unexpected explicit tensor data for input tensor 'INPUT0'")
    shared = one("fp32")
    shared.inputs[0].parameters["shared_memory_region"].string_param = "r"
    rpc.refused(shared, "INVALID_ARGUMENT", "'shared_memory_byte_size' must be specified along with")
    shared.inputs[0].parameters["shared_memory_byte_size"].int64_param = 8
    rpc.refused(shared, "NOT_FOUND", "Unable to find shared memory region: 'r'")


@pytest.mark.parametrize("datatype", ["", "FP31", "fp32", "TYPE_FP32", "FP32 ", "FP32\0", "BYTES\n", "x" * 100_000])
def test_row_07_unknown_datatype(server: RunningServer, rpc: Grpc, datatype: str) -> None:
    refused(server, "fp32", document(tensor((1, 2), [1, 2], datatype=datatype)), text="datatype")
    request = message("fp32", ("INPUT0", datatype, (1, 2)), raw=[FLOATS])
    rpc.refused(request, "INVALID_ARGUMENT", "datatype")


def test_row_07_datatype_of_another_model(server: RunningServer, rpc: Grpc) -> None:
    text = "inference input 'INPUT0' data-type is 'INT32', but model 'fp32' expects 'FP32'"
    refused(server, "fp32", document(tensor((1, 2), [1, 2], datatype="INT32")), text=text)
    rpc.refused(message("fp32", ("INPUT0", "INT32", (1, 2)), raw=[FLOATS]), "INVALID_ARGUMENT", text)
    rpc.refused(typed(one("fp32", "INT32"), int_contents=[1, 2]), "INVALID_ARGUMENT", text)
    wrong = typed(one("fp32"), int_contents=[1, 2])
    rpc.refused(wrong, "INVALID_ARGUMENT", "of type 'INT32', expected datatype 'FP32'")


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_row_07_half_floats_have_no_json_form(server: RunningServer, rpc: Grpc, datatype: str) -> None:
    model = datatype.lower()
    refused(server, model, document(tensor([2], [1, 2], datatype=datatype)), text="Please use the binary data format")
    header = document(tensor([2], datatype=datatype, parameters={"binary_data_size": 4}))
    # the input is right, the output is asked for in JSON
    refused(server, model, header + bytes(4), f"{LENGTH}: {len(header)}", text="Please use the binary data format")
    wrong = typed(one(model, datatype, (2,)), fp32_contents=[1, 2])
    rpc.refused(wrong, "INVALID_ARGUMENT", f"expected datatype '{datatype}'")
    assert rpc.infer(message(model, ("INPUT0", datatype, (2,)), raw=[b"abcd"])).raw_output_contents[0] == b"abcd"


NOTE = "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension"
ROW_8 = {
    "rank too low": ("fixed", (4,), "unexpected shape for input 'INPUT0' for model 'fixed'. Expected [-1,4], got [4]."),
    "rank too high": ("fixed", (1, 4, 1), "Expected [-1,4], got [1,4,1]. " + NOTE),
    "fixed dimension": ("fixed", (1, 5), "Expected [-1,4], got [1,5]. " + NOTE),
    "fixed dimension 0": ("fixed", (1, 0), "Expected [-1,4], got [1,0]. " + NOTE),
    "batch too large": ("fixed", (9, 4), "inference request batch-size must be <= 8 for 'fixed'"),
    "scalar": ("fixed", (), "input 'INPUT0' has no shape but model requires batch dimension for 'fixed'"),
    "scalar without batching": (
        "flat",
        (),
        "unexpected shape for input 'INPUT0' for model 'flat'. Expected [-1], got []",
    ),
    "rank without batching": ("flat", (2, 2), "Expected [-1], got [2,2]."),
}


@pytest.mark.parametrize("case", ROW_8)
def test_row_08_shapes(server: RunningServer, rpc: Grpc, case: str) -> None:
    model, shape, text = ROW_8[case]
    count = int(np.prod(shape))
    if shape == (4,):
        # a batch of four rows without their dimension of 4
        text = "Expected [-1,4], got [4]"
    refused(server, model, document(tensor(shape, [0] * count)), text=text)
    request = message(model, ("INPUT0", "FP32", shape), raw=[bytes(4 * count)])
    rpc.refused(request, "INVALID_ARGUMENT", text)
    rpc.refused(
        typed(one(model, "FP32", shape), fp32_contents=[0] * count), "INVALID_ARGUMENT", "" if count == 0 else text
    )


def test_row_08_batches_differ(server: RunningServer, rpc: Grpc) -> None:
    text = "input 'INPUT1' batch size does not match other inputs for 'pair'"
    body = document(tensor((1, 2), [1, 2]), tensor((2, 2), [1, 2, 3, 4], name="INPUT1"))
    refused(server, "pair", body, text=text)
    request = message("pair", ("INPUT0", "FP32", (1, 2)), ("INPUT1", "FP32", (2, 2)), raw=[FLOATS, FLOATS * 2])
    rpc.refused(request, "INVALID_ARGUMENT", text)


def test_row_08_batch_of_none(server: RunningServer, rpc: Grpc) -> None:
    answer = http(server, "/v2/models/fixed/infer", document(tensor((0, 4), [])))
    assert answer.status == 200, answer
    assert answer.document["outputs"] == [{"name": "OUTPUT0", "datatype": "FP32", "shape": [0, 4], "data": []}]
    response = rpc.infer(message("fixed", ("INPUT0", "FP32", (0, 4)), raw=[b""]))
    assert list(response.outputs[0].shape) == [0, 4]
    assert list(response.raw_output_contents) == [b""]


def test_row_08_shape_of_65_dimensions(server: RunningServer, rpc: Grpc) -> None:
    refused(server, "flat", document(tensor([1] * 65, [1])), text="shape")
    rpc.refused(message("flat", ("INPUT0", "FP32", [1] * 65), raw=[bytes(4)]), "INVALID_ARGUMENT", "unexpected shape")
    # a shape of 10^5 dimensions is refused without being repeated
    rpc.refused(message("flat", ("INPUT0", "FP32", [1] * 100_000), raw=[bytes(4)]), "INVALID_ARGUMENT", "shape")


ROW_9 = [
    [-1],
    [-(2**63)],
    [2**63 - 1],
    [2**40],
    [2**32, 2**32],
    [2**31, 2**31, 4],
    [2**62, 3],  # times four wraps
    [6148914691236517206, 3],  # 2^64 + 2
    [4611686018427387905, 4],  # 2^64 + 4
    [2**61 + 1, 2],  # four bytes each: 2^64 + 8
]


@pytest.mark.parametrize("shape", ROW_9, ids=str)
@pytest.mark.parametrize("data", [2, 8])
def test_row_09_overflowing_dimensions(server: RunningServer, rpc: Grpc, shape: list[int], data: int) -> None:
    model = "plane" if len(shape) == 2 else "flat"
    header = document(tensor(shape, parameters={"binary_data_size": data * 4}))
    request = message(model, ("INPUT0", "FP32", shape), raw=[bytes(data * 4)])

    def attack() -> None:
        refused(server, model, document(tensor(shape, [1] * data)), text="shape")
        refused(server, model, header + bytes(data * 4), f"{LENGTH}: {len(header)}")
        rpc.refused(request, "INVALID_ARGUMENT")
        rpc.refused(typed(one(model, "FP32", tuple(shape)), fp32_contents=[1] * data), "INVALID_ARGUMENT")

    assert peak_growth(server, attack) < 16 << 20


@pytest.mark.parametrize("shape", [[2**63], [-(2**63) - 1], [10**30], [1.0], ["1"], [None], [[1]], [True]], ids=str)
def test_row_09_dimensions_that_are_none(server: RunningServer, shape: list[object]) -> None:
    refused(server, "flat", document({**tensor([], [1]), "shape": shape}))


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [0, 2**63 - 1]], ids=str)
def test_row_09_zero_times_huge(server: RunningServer, rpc: Grpc, shape: list[int]) -> None:
    """There are no elements, but no array of an executor can have such a shape either: refused, nothing allocated."""

    def attack() -> None:
        refused(server, "plane", document(tensor(shape, [])), text="is too large")
        rpc.refused(message("plane", ("INPUT0", "FP32", shape), raw=[b""]), "INVALID_ARGUMENT", "is too large")

    assert peak_growth(server, attack) < 16 << 20


@pytest.mark.parametrize("shape", [[0, 1000], [1000, 0], [0, 0]], ids=str)
def test_row_09_no_elements(server: RunningServer, rpc: Grpc, shape: list[int]) -> None:
    answer = http(server, "/v2/models/plane/infer", document(tensor(shape, [])))
    assert (answer.status, answer.document["outputs"][0]["shape"]) == (200, shape)
    response = rpc.infer(message("plane", ("INPUT0", "FP32", shape), raw=[b""]))
    assert list(response.outputs[0].shape) == shape


ROW_10 = {
    "longer": ("FP32", [4], [1, 2, 3, 4, 5]),
    "shorter": ("FP32", [4], [1, 2, 3]),
    "empty": ("FP32", [4], []),
    "ragged": ("FP32", [2, 2], [[1, 2, 3], [4]]),
    "number beside array": ("FP32", [2, 2], [[1, 2], 3, 4]),
    "array beside number": ("FP32", [2, 2], [1, 2, [3, 4]]),
    "deeper at the end": ("FP32", [2, 2], [[1, 2], [3, [4]]]),
    "one more level": ("FP32", [2], [[], [1, 2]]),
    "number for an array": ("FP32", [1], 1),
    "null": ("FP32", [2], [1, None]),
    "boolean for a float": ("FP32", [2], [1, True]),
    "string for a float": ("FP32", [2], [1, "2"]),
    "object for a float": ("FP32", [2], [1, {}]),
    "beyond FP32": ("FP32", [2], [1, 1e39]),
    "float for an integer": ("INT32", [2], [1, 2.5]),
    "whole float for an integer": ("INT32", [2], [1, 2.0]),
    "boolean for an integer": ("INT32", [2], [1, True]),
    "beyond INT8": ("INT8", [2], [1, 128]),
    "below INT8": ("INT8", [2], [1, -129]),
    "negative for UINT8": ("UINT8", [2], [1, -1]),
    "beyond UINT8": ("UINT8", [2], [1, 256]),
    "beyond UINT16": ("UINT16", [1], [65536]),
    "beyond INT16": ("INT16", [1], [32768]),
    "beyond INT32": ("INT32", [1], [2**31]),
    "beyond UINT32": ("UINT32", [1], [2**32]),
    "beyond INT64": ("INT64", [1], [2**63]),
    "negative for UINT64": ("UINT64", [1], [-1]),
    "number for a boolean": ("BOOL", [2], [True, 1]),
    "number for a string": ("BYTES", [2], ["a", 1]),
    "null for a string": ("BYTES", [2], ["a", None]),
}
MODEL = {"FP32": "flat", "BYTES": "flat_text"}


@pytest.mark.parametrize("case", ROW_10)
def test_row_10_json_data(server: RunningServer, case: str) -> None:
    datatype, shape, data = ROW_10[case]
    model = "plane" if len(shape) == 2 else MODEL.get(datatype, datatype.lower())
    refused(server, model, document(tensor(shape, data, datatype=datatype)), text="Unable to parse 'data'")


def test_row_10_data_of_no_elements_is_not_looked_at(server: RunningServer) -> None:
    """As in Triton: where the shape says that there are none, ``data`` means nothing."""
    answer = http(server, "/v2/models/plane/infer", document(tensor([0, 4], [1])))
    assert (answer.status, answer.document["outputs"][0]["data"]) == (200, [])


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"1" * 400])
@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT64", "UINT64"])
def test_row_10_numbers_that_no_type_has(server: RunningServer, number: bytes, datatype: str) -> None:
    body = document(tensor([1], [7], datatype=datatype)).replace(b"[7]", b"[" + number + b"]")
    refused(server, MODEL.get(datatype, datatype.lower()), body)


ROW_10_GRPC = {
    "longer": ("FP32", (4,), {"fp32_contents": [1, 2, 3, 4, 5]}),
    "shorter": ("FP32", (4,), {"fp32_contents": [1, 2, 3]}),
    "beyond INT8": ("INT8", (1,), {"int_contents": [128]}),
    "below INT16": ("INT16", (1,), {"int_contents": [-32769]}),
    "beyond UINT8": ("UINT8", (1,), {"uint_contents": [256]}),
    "beyond UINT16": ("UINT16", (1,), {"uint_contents": [65536]}),
    "strings for numbers": ("INT64", (1,), {"bytes_contents": [b"1"]}),
    "numbers for strings": ("BYTES", (1,), {"int64_contents": [1]}),
}


@pytest.mark.parametrize("case", ROW_10_GRPC)
def test_row_10_typed_contents(rpc: Grpc, case: str) -> None:
    datatype, shape, contents = ROW_10_GRPC[case]
    request = typed(one(MODEL.get(datatype, datatype.lower()), datatype, shape), **contents)
    rpc.refused(request, "INVALID_ARGUMENT", "INPUT0")


ROW_11 = {
    "length beyond the rest": b"\x05\0\0\0abcd",
    "largest length": b"\xff\xff\xff\xffabcd",
    "sign bit": b"\0\0\0\x80abcd",
    "prefix cut": b"\x01\0\0",
    "second prefix cut": bytes_tensor(b"a") + b"\x01\0\0",
    "last element cut": bytes_tensor(b"a", b"bcd")[:-1],
    "one element too few": bytes_tensor(b"a"),
    "one element too many": bytes_tensor(b"a", b"b", b"c"),
    "nothing": b"",
    "10^5 empty elements for two": bytes_tensor() + b"\0\0\0\0" * 100_000,
}


@pytest.mark.parametrize("case", ROW_11)
def test_row_11_bytes(server: RunningServer, rpc: Grpc, case: str) -> None:
    data = ROW_11[case]
    header = document(tensor([2], datatype="BYTES", parameters={"binary_data_size": len(data)}))
    refused(server, "flat_text", header + data, f"{LENGTH}: {len(header)}", text="INPUT0")
    rpc.refused(message("flat_text", ("INPUT0", "BYTES", [2]), raw=[data]), "INVALID_ARGUMENT", "INPUT0")


@pytest.mark.parametrize("count", [1, 3])
def test_row_11_count_of_strings(server: RunningServer, rpc: Grpc, count: int) -> None:
    refused(server, "flat_text", document(tensor([2], ["a"] * count, datatype="BYTES")), text="INPUT0")
    request = typed(one("flat_text", "BYTES", (2,)), bytes_contents=[b"a"] * count)
    rpc.refused(request, "INVALID_ARGUMENT", "INPUT0")


def test_row_11_what_is_right_is_kept(server: RunningServer, rpc: Grpc) -> None:
    """NUL, what is no UTF-8, and 10^6 empty strings."""
    for data in (bytes_tensor(b"a\0b", b"\xff\xfe"), bytes(4 * 1_000_000)):
        count = 2 if len(data) < 100 else 1_000_000
        response = rpc.infer(message("flat_text", ("INPUT0", "BYTES", [count]), raw=[data]))
        assert response.raw_output_contents[0] == data
        given = tensor([count], datatype="BYTES", parameters={"binary_data_size": len(data)})
        header = document(given, parameters={"binary_data_output": True})
        answer = http(server, "/v2/models/flat_text/infer", header + data, f"{LENGTH}: {len(header)}")
        assert answer.body.endswith(data)
    answer = http(server, "/v2/models/flat_text/infer", document(tensor([2], ["a\0b", ""], datatype="BYTES")))
    assert answer.document["outputs"][0]["data"] == ["a\0b", ""]
    contents = typed(one("flat_text", "BYTES", (2,)), bytes_contents=[b"a\0b", b""])
    assert rpc.infer(contents).raw_output_contents[0] == bytes_tensor(b"a\0b", b"")


def test_row_11_bytes_that_json_can_not_say(server: RunningServer) -> None:
    """An element that is no UTF-8 leaves as it came, as Triton has it; asked for as binary data it needs no JSON."""
    data = bytes_tensor(b"\xff\xfe")
    header = document(tensor([1], datatype="BYTES", parameters={"binary_data_size": len(data)}))
    answer = http(server, "/v2/models/flat_text/infer", header + data, f"{LENGTH}: {len(header)}")
    assert answer.status == 200
    assert b'"data":["\xff\xfe"]' in answer.body
