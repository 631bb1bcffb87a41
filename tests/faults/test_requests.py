# SPDX-License-Identifier: Apache-2.0
"""Rows 12 to 16: which inputs and outputs, of which model, under which id and parameters; over both protocols."""

from __future__ import annotations

import json

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from faults.client import Grpc, bytes_tensor, document, http, message, refused, tensor
from faults.guard import peak_growth
from pyinfer.testing import RunningServer
from waiting import eventually

pytestmark = pytest.mark.usefixtures("guarded")

FLOATS = np.array([1.5, -2], "<f4").tobytes()
OTHERS = np.array([3, 4], "<f4").tobytes()
FIRST, SECOND = ("INPUT0", "FP32", (1, 2)), ("INPUT1", "FP32", (1, 2))


def test_row_12_raw_contents(rpc: Grpc) -> None:
    few = message("pair", FIRST, SECOND, raw=[FLOATS])
    rpc.refused(few, "INVALID_ARGUMENT", "unable to find data for input tensor 'INPUT1' for model 'pair' in request.")
    many = message("pair", FIRST, SECOND, raw=[FLOATS, OTHERS, FLOATS])
    rpc.refused(many, "INVALID_ARGUMENT", "raw_input_contents has 3 entries for 2 inputs of model 'pair'")
    flood = message("fp32", FIRST, raw=[b""] * 100_000)
    rpc.refused(flood, "INVALID_ARGUMENT")
    mixed = message("pair", FIRST, SECOND, raw=[FLOATS])
    mixed.inputs[1].contents.fp32_contents.extend([3, 4])
    rpc.refused(mixed, "INVALID_ARGUMENT", "contents field must not be specified when using raw_input_contents")
    short = message("pair", FIRST, SECOND, raw=[FLOATS, OTHERS[:-1]])
    rpc.refused(short, "INVALID_ARGUMENT", "Expected 8, got 7")


def test_row_12_order_of_inputs_is_the_clients(server: RunningServer, rpc: Grpc) -> None:
    response = rpc.infer(message("pair", SECOND, FIRST, raw=[OTHERS, FLOATS]))
    answers = {output.name: raw for output, raw in zip(response.outputs, response.raw_output_contents, strict=True)}
    assert answers == {"OUTPUT0": FLOATS, "OUTPUT1": OTHERS}
    body = document(tensor((1, 2), [3, 4], name="INPUT1"), tensor((1, 2), [1.5, -2]))
    outputs = http(server, "/v2/models/pair/infer", body).document["outputs"]
    assert {output["name"]: output["data"] for output in outputs} == {"OUTPUT0": [1.5, -2], "OUTPUT1": [3, 4]}


MISSING = "but missing required input(s) ['INPUT1']. Please provide all required input(s)."
ROW_13 = {
    "one is missing": (
        ["INPUT0"],
        "expected 2 inputs but got 1 inputs for model 'pair'. Got input(s) ['INPUT0'], " + MISSING,
    ),
    "all are missing": ([], "expected 2 inputs but got 0 inputs for model 'pair'"),
    "unknown": (["INPUT0", "OTHER"], "unexpected inference input 'OTHER' for model 'pair'"),
    "unnamed": (["INPUT0", ""], "unexpected inference input '' for model 'pair'"),
    "wrong case": (["INPUT0", "input1"], "unexpected inference input 'input1' for model 'pair'"),
    "duplicate": (["INPUT0", "INPUT0"], "input 'INPUT0' already exists in request"),
    "one too many": (["INPUT0", "INPUT1", "OTHER"], "expected 2 inputs but got 3 inputs for model 'pair'"),
    "one twice": (["INPUT0", "INPUT1", "INPUT1"], "input 'INPUT1' already exists in request"),
    "control characters": (["INPUT0", "a\r\n\x1b[31m"], "unexpected inference input"),
    "long": (["INPUT0", "x" * 1_000_000], "unexpected inference input"),
}


@pytest.mark.parametrize("case", ROW_13)
def test_row_13_inputs(server: RunningServer, rpc: Grpc, case: str) -> None:
    names, text = ROW_13[case]
    refused(server, "pair", document(*[tensor((1, 2), [1, 2], name=name) for name in names]), text=text)
    request = message("pair", *[(name, "FP32", (1, 2)) for name in names], raw=[FLOATS] * len(names))
    rpc.refused(request, "INVALID_ARGUMENT", text)


@pytest.mark.parametrize("repeated", [True, False])
def test_row_13_very_many_inputs(server: RunningServer, rpc: Grpc, repeated: bool) -> None:
    names = ["INPUT0" if repeated else f"INPUT{number}" for number in range(100_000)]
    text = "expected 2 inputs but got 100000 inputs for model 'pair'"
    refused(server, "pair", document(*[tensor((1, 2), [1, 2], name=name) for name in names]), text=text)
    request = message("pair", *[(name, "FP32", (1, 2)) for name in names], raw=[FLOATS] * len(names))
    rpc.refused(request, "INVALID_ARGUMENT", text)


def asking(*outputs: object) -> bytes:
    named = [{"name": output} if isinstance(output, str) else output for output in outputs]
    return document(tensor((1, 2), [1, 2]), tensor((1, 2), [3, 4], name="INPUT1"), outputs=named)


ROW_14 = {
    "unknown": (["OUTPUT0", "OTHER"], "unexpected inference output 'OTHER' for model 'pair'"),
    "input": (["INPUT0"], "unexpected inference output 'INPUT0' for model 'pair'"),
    "duplicate": (["OUTPUT0", "OUTPUT0"], "output 'OUTPUT0' already exists in request"),
    "10^6 of one": (["OUTPUT0"] * 1_000_000, "output 'OUTPUT0' already exists in request"),
    "10^6 unknown": ([str(n) for n in range(1_000_000)], "unexpected inference output '0' for model 'pair'"),
}


@pytest.mark.parametrize("case", ROW_14)
def test_row_14_outputs(server: RunningServer, rpc: Grpc, case: str) -> None:
    names, text = ROW_14[case]
    request = message("pair", FIRST, SECOND, raw=[FLOATS, OTHERS], outputs=names)
    body = asking(*names)

    def attack() -> None:
        refused(server, "pair", body, text=text)
        rpc.refused(request, "INVALID_ARGUMENT", text)

    assert peak_growth(server, attack) < (32 << 20) + 8 * len(body)


@pytest.mark.parametrize("classes", [1, 2**31, 2**63 - 1])
def test_row_14_classification_of_more_than_there_is(server: RunningServer, rpc: Grpc, classes: int) -> None:
    """All there are, and no memory for the others; types that have no order are refused, whatever the number."""
    wish = {"name": "OUTPUT0", "parameters": {"classification": classes}}
    response = http(server, "/v2/models/pair/infer", asking(wish))
    assert (response.status, len(response.document["outputs"][0]["data"])) == (200, min(classes, 2))
    text = "class result not available for output due to unsupported type 'BYTES'"
    refused(server, "flat_text", document(tensor([1], ["a"], datatype="BYTES"), outputs=[wish]), text=text)
    request = message("flat_text", ("INPUT0", "BYTES", [1]), raw=[bytes_tensor(b"a")], outputs=["OUTPUT0"])
    request.outputs[0].parameters["classification"].int64_param = classes
    rpc.refused(request, "INVALID_ARGUMENT", text)


@pytest.mark.parametrize("classes", [-1, 1.5, "2", None, [1], True, 2**64])
def test_row_14_classification_that_is_no_number(server: RunningServer, classes: object) -> None:
    """0 is one over HTTP: it asks for the tensor itself, as in Triton. Over gRPC it is refused."""
    refused(server, "pair", asking({"name": "OUTPUT0", "parameters": {"classification": classes}}))


def test_row_14_classification_of_nothing(server: RunningServer, rpc: Grpc) -> None:
    wish = {"name": "OUTPUT0", "parameters": {"classification": 0}}
    assert http(server, "/v2/models/pair/infer", asking(wish)).document["outputs"][0]["datatype"] == "FP32"
    request = message("pair", FIRST, SECOND, raw=[FLOATS, OTHERS], outputs=["OUTPUT0"])
    request.outputs[0].parameters["classification"].int64_param = 0
    rpc.refused(request, "INVALID_ARGUMENT", "invalid value for 'classification' parameter")


def test_row_14_classification_of_too_many_elements(server: RunningServer) -> None:
    elements = 1_000_001
    body = json.dumps(
        {
            "inputs": [tensor([1, elements], parameters={"binary_data_size": 4 * elements})],
            "outputs": [{"name": "OUTPUT0", "parameters": {"classification": 1}}],
        }
    ).encode()
    header = f"Inference-Header-Content-Length: {len(body)}"
    refused(server, "fp32", body + bytes(4 * elements), header, text="it has more than 1000000 elements")


def test_row_14_wishes_of_wrong_type(server: RunningServer) -> None:
    refused(server, "pair", asking({"name": "OUTPUT0", "parameters": {"binary_data": 1}}), text="binary_data")
    refused(server, "pair", asking({"name": 7}), text="Unable to parse 'name'")
    refused(server, "pair", asking(7), text="Unable to parse 'outputs'")


GOOD = document(tensor((1, 2), [1.5, -2]))


@pytest.mark.parametrize("name", ["none", "FP32", "fp32 ", "%", "x" * 255])
def test_row_15_unknown_model(server: RunningServer, rpc: Grpc, name: str) -> None:
    text = f"Request for unknown model: '{name}' is not found"
    refused(server, f"/v2/models/{name.replace('%', '%25').replace(' ', '%20')}/infer", GOOD, status=404, text=text)
    rpc.refused(message(name, FIRST, raw=[FLOATS]), "NOT_FOUND", text)


def test_row_15_model_without_a_name(server: RunningServer, rpc: Grpc) -> None:
    refused(server, "/v2/models//infer", GOOD, status=404)
    rpc.refused(message("", FIRST, raw=[FLOATS]), "NOT_FOUND")


@pytest.mark.parametrize("version", ["0", "2", "00", "9223372036854775807"])
def test_row_15_unknown_version(server: RunningServer, rpc: Grpc, version: str) -> None:
    text = f"Request for unknown model: 'fp32' version {int(version)} is not found"
    refused(server, f"/v2/models/fp32/versions/{version}/infer", GOOD, status=404, text=text)
    rpc.refused(message("fp32", FIRST, raw=[FLOATS], version=version), "NOT_FOUND", text)


@pytest.mark.parametrize("version", ["-1", "1e3", "1.0", "+1", " 1", "1 ", "0x1", "one", "٣", "1\0"])
def test_row_15_malformed_version(server: RunningServer, rpc: Grpc, version: str) -> None:
    """In a URL it makes another path, of which there is none."""
    escaped = "".join(f"%{byte:02x}" if byte in b" \0" or byte > 126 else chr(byte) for byte in version.encode())
    refused(server, f"/v2/models/fp32/versions/{escaped}/infer", GOOD, status=404, text="Not Found")
    text = "failed to get model version from specified version string"
    rpc.refused(message("fp32", FIRST, raw=[FLOATS], version=version), "INVALID_ARGUMENT", text)


@pytest.mark.parametrize("version", ["9223372036854775808", "1" + "0" * 300])
def test_row_15_version_that_is_too_large(server: RunningServer, rpc: Grpc, version: str) -> None:
    text = f"version {version[:64]} is not found"
    refused(server, f"/v2/models/fp32/versions/{version}/infer", GOOD, status=404, text=text)
    rpc.refused(message("fp32", FIRST, raw=[FLOATS], version=version), "NOT_FOUND", text)


def test_row_15_unloaded_model_comes_back(server: RunningServer, rpc: Grpc) -> None:
    assert http(server, "/v2/repository/models/uint8/unload", b"").status == 200
    body = document(tensor([1], [1], datatype="UINT8"))
    refused(server, "uint8", body, status=404, text="Request for unknown model: 'uint8'")
    rpc.refused(
        message("uint8", ("INPUT0", "UINT8", [1]), raw=[b"1"]), "NOT_FOUND", "Request for unknown model: 'uint8'"
    )
    assert http(server, "/v2/repository/models/uint8/load", b"").status == 200
    assert http(server, "/v2/models/uint8/infer", body).status == 200


ROW_16_IDS = {
    "1 MiB": "x" * (1 << 20),
    "line end": "a\nE0101 00:00:00.000000 1 server.cc:1] forged",
    "carriage return": "a\rb",
    "escape": "\x1b[31mred",
    "NUL": "a\0b",
    "delete": "a\x7f",
}


@pytest.mark.parametrize("case", ROW_16_IDS)
def test_row_16_request_id(server: RunningServer, rpc: Grpc, case: str) -> None:
    lines = len(server.log.splitlines())
    refused(server, "fp32", document(tensor((1, 2), [1, 2]), id=ROW_16_IDS[case]), text="the request id")
    request = message("fp32", FIRST, raw=[FLOATS], request_id=ROW_16_IDS[case])
    rpc.refused(request, "INVALID_ARGUMENT", "the request id")
    assert len(server.log.splitlines()) == lines


def test_row_16_request_id_is_any_other_text(server: RunningServer, rpc: Grpc) -> None:
    for text in ("x" * 4096, "%n{}%s$(id)\u2028", '"quoted" \\ </script>', "\U0001f600"):
        assert http(server, "/v2/models/fp32/infer", document(tensor((1, 2), [1, 2]), id=text)).document["id"] == text
        assert rpc.infer(message("fp32", FIRST, raw=[FLOATS], request_id=text)).id == text


ROW_16_LOGGED = ["\nE0101 forged", "\r\nforged", "\x1b[31m", "\u2028forged", "%n%s", "{0.__class__}", "\x85forged"]


@pytest.mark.parametrize("text", ROW_16_LOGGED, ids=ascii)
def test_row_16_log_stays_one_line(server: RunningServer, rpc: Grpc, text: str) -> None:
    """A model fails with the client's text in its message: one record in the log, and the text escaped in it."""
    before = server.log
    body = document(tensor((1, 4), [1] * 4), parameters={"mode": "echo " + text})
    refused(server, "faulty", body, status=500, text="Failed to process the request(s) for model 'faulty_0_0'")
    request = message("faulty", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)])
    request.parameters["mode"].string_param = "echo " + text
    with pytest.raises(grpc.RpcError) as caught:
        rpc.infer(request)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    # the worker's lines take another way than its answers
    eventually(lambda: server.log.removeprefix(before).count("\n") >= 2, "both are logged")
    added = server.log.removeprefix(before)
    lines = added.split("\n")[:-1]
    assert len(lines) == 2
    assert all(line.startswith("E") for line in lines)
    assert not set(added) & set("\r\x1b\u2028\x85")


def wrong(value: object) -> str:
    return json.dumps(value)[:20]


ROW_16_VALUES = [None, [], {}, [1], {"a": 1}, 2**64, 2**64 - 1]


@pytest.mark.parametrize("value", ROW_16_VALUES, ids=wrong)
def test_row_16_parameters_of_wrong_type(server: RunningServer, value: object) -> None:
    refused(server, "fp32", document(tensor((1, 2), [1, 2]), parameters={"custom": value}))


ROW_16_RESERVED = {
    "sequence_id": [1.5, True, -0.5],
    "sequence_start": [1, "true"],
    "sequence_end": [0, "x"],
    "priority": [-1, "1", True],
    "timeout": [-1, "1", 1.5],
    "triton_enable_empty_final_response": ["x", 1],
    "triton_other": ["x", 1, True],
    "binary_data_output": ["x", 1],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in ROW_16_RESERVED.items() for value in values]
)
def test_row_16_reserved_parameters(server: RunningServer, rpc: Grpc, key: str, value: object) -> None:
    refused(server, "fp32", document(tensor((1, 2), [1, 2]), parameters={key: value}), text=key)
    if key == "binary_data_output":
        return  # means nothing over gRPC
    request = message("fp32", FIRST, raw=[FLOATS])
    field = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
    setattr(request.parameters[key], field, value)
    rpc.refused(request, "INVALID_ARGUMENT", key)


def test_row_16_parameter_without_a_value(rpc: Grpc) -> None:
    request = message("fp32", FIRST, raw=[FLOATS])
    request.parameters["custom"].SetInParent()
    rpc.refused(request, "INVALID_ARGUMENT", "custom")
    request.parameters["custom"].uint64_param = 1
    rpc.refused(request, "INVALID_ARGUMENT", "parameter 'custom' has invalid type")


def test_row_16_headers_do_not_become_parameters(server: RunningServer, rpc: Grpc) -> None:
    """Nothing is forwarded, so no header or metadata reaches a reserved key."""
    reserved = ["sequence_id", "priority", "timeout", "triton_enable_empty_final_response", "mode"]
    body = document(tensor((1, 4), [1] * 4))
    assert http(server, "/v2/models/faulty/infer", body, *[f"{key}: raise" for key in reserved]).status == 200
    request = message("faulty", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)])
    rpc.infer(request, metadata=[(key, "raise") for key in reserved])


ROW_16_NAMES = ["a\nforged", "\x1b[31m", "a\x7f", "\u2028forged", "..", "a/../b", "a\\b", "a\0b"]


@pytest.mark.parametrize("rpc_name", ["RepositoryModelLoad", "RepositoryModelUnload"])
@pytest.mark.parametrize("name", ROW_16_NAMES, ids=ascii)
def test_row_16_names_of_models(server: RunningServer, rpc: Grpc, rpc_name: str, name: str) -> None:
    """What can not be the name of a directory is refused, and never reaches the log."""
    before = server.log
    request = pb.RepositoryModelLoadRequest(model_name=name).SerializeToString()
    rpc.refused(request, "INVALID_ARGUMENT", "invalid model name", name=rpc_name)
    verb = rpc_name.removeprefix("RepositoryModel").lower()
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    refused(server, f"/v2/repository/models/{escaped}/{verb}", b"", text="invalid model name")
    assert server.log == before


@pytest.mark.parametrize("name", ["$(id)", "x;touch y", "%n", "none"])
def test_row_16_names_of_no_model(server: RunningServer, rpc: Grpc, name: str) -> None:
    text = f"failed to load '{name}', failed to poll from model repository"
    request = pb.RepositoryModelLoadRequest(model_name=name).SerializeToString()
    rpc.refused(request, "INTERNAL", text, name="RepositoryModelLoad")
    escaped = "".join(f"%{byte:02x}" for byte in name.encode())
    refused(server, f"/v2/repository/models/{escaped}/load", b"", status=500, text=text)
