# SPDX-License-Identifier: Apache-2.0
"""Rows 1, 2, 3 and 5: bodies of infer requests that are no JSON, too much JSON, or binary data of the wrong size."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from contract.http.raw import Raw, post
from faults.client import LIVE, document, http, refused, tensor
from faults.guard import peak_growth
from perf.procs import cpu_seconds
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

GOOD = document(tensor((1, 2), [1.5, -2]))
PARSE = "failed to parse the request JSON buffer"

ROW_1 = {
    "empty": b"",
    "blanks": b"  \n ",
    "open": b"{",
    "cut": GOOD[:-1],
    "not an object": b"[]",
    "a number": b"1",
    "NaN": GOOD.replace(b"1.5", b"NaN"),
    "Infinity": GOOD.replace(b"1.5", b"-Infinity"),
    "hexadecimal": GOOD.replace(b"1.5", b"0x10"),
    "leading zero": GOOD.replace(b"1.5", b"01.5"),
    "trailing comma": GOOD[:-1] + b",}",
    "comment": GOOD + b"// no",
    "trailing garbage": GOOD + b"x",
    "two documents": GOOD + GOOD,
    "trailing NUL": GOOD + b"\0",
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "invalid UTF-8": GOOD[:-1] + b',"id":"\xff"}',
    "overlong UTF-8": GOOD[:-1] + b',"id":"\xc0\x80"}',
    "surrogate in UTF-8": GOOD[:-1] + b',"id":"\xed\xa0\x80"}',
    "lone high surrogate": GOOD[:-1] + b',"id":"\\ud800"}',
    "lone low surrogate": GOOD[:-1] + b',"id":"\\udc00x"}',
    "surrogates in the wrong order": GOOD[:-1] + b',"id":"\\udc00\\ud800"}',
    "control character": GOOD[:-1] + b',"id":"\x01"}',
    "duplicate key": GOOD[:-1] + b',"id":"a","id":"b"}',
    "duplicate key in an input": GOOD.replace(b'"name"', b'"shape":[1,2],"name"'),
    "duplicate key by escape": GOOD[:-1] + b',"id":"a","\\u0069d":"b"}',
    "single quotes": GOOD.replace(b'"', b"'"),
}


@pytest.mark.parametrize("case", ROW_1)
def test_row_01_malformed_json(server: RunningServer, case: str) -> None:
    refused(server, "fp32", ROW_1[case], text=PARSE)


SHAPE = tensor((1, 2), [1.5, -2])
ROW_1_TYPES = {
    "no inputs": ({}, "Unable to parse 'inputs'"),
    "inputs is an object": ({"inputs": {}}, "Unable to parse 'inputs'"),
    "inputs is null": ({"inputs": None}, "Unable to parse 'inputs'"),
    "input is a string": ({"inputs": ["INPUT0"]}, "Unable to parse 'inputs'"),
    "id is a number": ({"inputs": [SHAPE], "id": 7}, "Unable to parse 'id'"),
    "parameters is an array": ({"inputs": [SHAPE], "parameters": []}, "Unable to parse 'parameters'"),
    "outputs is a string": ({"inputs": [SHAPE], "outputs": "OUTPUT0"}, "Unable to parse 'outputs'"),
    "name is a number": ({"inputs": [{**SHAPE, "name": 1}]}, "Unable to parse 'name'"),
    "shape is a string": ({"inputs": [{**SHAPE, "shape": "1"}]}, "Unable to parse 'shape'"),
    "datatype is null": ({"inputs": [{**SHAPE, "datatype": None}]}, "Unable to parse 'datatype'"),
    "data is an object": ({"inputs": [{**SHAPE, "data": {}}]}, "Unable to parse 'data'"),
}


@pytest.mark.parametrize("case", ROW_1_TYPES)
def test_row_01_wrong_json_types(server: RunningServer, case: str) -> None:
    body, text = ROW_1_TYPES[case]
    refused(server, "fp32", json.dumps(body).encode(), text=text)


def test_row_01_connection_is_kept_over_all_of_them(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for body in ROW_1.values():
            assert raw.send(post("/v2/models/fp32/infer", body)).receive().status == 400
            answer = raw.send(post("/v2/models/fp32/infer", GOOD)).receive()
            assert answer.document["outputs"][0]["data"] == [1.5, -2]


def nested(levels: int, member: str = "data") -> bytes:
    deep = b"[" * levels + b"1" + b"]" * levels
    if member == "data":
        return document(tensor((1, 1), [1])).replace(b"[1]}", deep + b"}")
    return document(tensor((1, 1), [1]))[:-1] + b',"%s":%s}' % (member.encode(), deep)


@pytest.mark.parametrize("member", ["data", "parameters", "unknown"])
@pytest.mark.parametrize("levels", [101, 1000, 1_000_000])
def test_row_02_nesting(server: RunningServer, member: str, levels: int) -> None:
    refused(server, "fp32", nested(levels, member), text=PARSE)


def test_row_02_nesting_within_the_limit(server: RunningServer) -> None:
    assert http(server, "/v2/models/fp32/infer", nested(50)).status == 200


MANY_KEYS = b"{" + b",".join(b'"k%d":1' % n for n in range(1_000_000))
ROW_2 = {
    "10^6 members": MANY_KEYS + b"}",
    "10^6 parameters": GOOD[:-1] + b',"parameters":' + MANY_KEYS + b"}}",
    "10^6 equal members": b"{" + b",".join([b'"k":1'] * 1_000_000) + b"}",
    "10^6 opened objects": b'{"a":' * 1_000_000,
    "a number of 10 MB": GOOD.replace(b"1.5", b"1" * 10_000_000),
    "a fraction of 10 MB": GOOD.replace(b"1.5", b"1e" + b"9" * 10_000_000),
    "10^6 backslashes": GOOD[:-1] + b',"id":"' + b"\\" * 1_000_001 + b'"}',
}


@pytest.mark.parametrize("case", ROW_2)
def test_row_02_too_much(server: RunningServer, case: str) -> None:
    refused(server, "fp32", ROW_2[case], text=PARSE)


def test_row_02_a_string_beyond_the_limit(server: RunningServer) -> None:
    body = GOOD[:-1] + b',"id":"' + b"x" * (64 << 20) + b'x"}'
    refused(server, "fp32", body, text="Use --http-max-input-size to increase the limit.")


def test_row_02_costs_little(server: RunningServer) -> None:
    """The worst of them costs no more CPU than ten well-formed requests of its size would, by a wide margin."""

    def cpu() -> float:
        fields = Path("/proc", str(server.pid), "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    started, before = time.monotonic(), cpu()
    for body in ROW_2.values():
        http(server, "/v2/models/fp32/infer", body)
    spent = cpu() - before
    assert spent < 3, f"{spent} s of CPU in {time.monotonic() - started} s"


def long_string(place: str, text: bytes) -> bytes:
    """A request with ``text`` as a string where ``place`` says."""
    return {
        "id": GOOD[:-1] + b',"id":"' + text + b'"}',
        "parameter": GOOD[:-1] + b',"parameters":{"p":"' + text + b'"}}',
        "member": GOOD[:-1] + b',"' + text + b'":1}',
        "element": document(tensor([1], ["?"], datatype="BYTES")).replace(b"?", text),
    }[place]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ("id", b"x"),
        ("parameter", b"\\u00e9"),
        ("member", b"\\n"),
        ("element", "é".encode()),
        ("element", b"\\u00e9"),
    ],
)
def test_row_02_a_string_costs_as_much_as_it_is_long(server: RunningServer, place: str, text: bytes) -> None:
    """CPU of the server for a byte: of one string of nearly 64 MiB, no more than that of strings of 4 MiB."""

    def cost(size: int, times: int) -> float:
        body = long_string(place, text * (size // len(text)))
        before = cpu_seconds(server.pid)
        for _ in range(times):
            http(server, "/v2/models/flat_text/infer" if place == "element" else "/v2/models/fp32/infer", body)
        return (cpu_seconds(server.pid) - before) / times / size

    size = (64 << 20) - 4096
    pairs = [(cost(size, 1), cost(4 << 20, 4)) for _ in range(2)]
    assert min(long / short for long, short in pairs) < 4, pairs


LENGTH = "Inference-Header-Content-Length"
BINARY = document(tensor((1, 2), parameters={"binary_data_size": 8}))
PAYLOAD = BINARY + bytes(8)
ROW_3 = {
    "absent": ((), PARSE),
    "more than the body": ((f"{LENGTH}: {len(PAYLOAD) + 1}",), "inference header size should be in range"),
    "negative": ((f"{LENGTH}: -1",), "inference header size should be in range"),
    "2^31": ((f"{LENGTH}: {2**31}",), "inference header size should be in range"),
    "2^63": ((f"{LENGTH}: {2**63}",), "inference header size should be in range"),
    "30 digits": ((f"{LENGTH}: {'9' * 30}",), "inference header size should be in range"),
    "plus": ((f"{LENGTH}: +{len(BINARY)}",), f"Unable to parse {LENGTH}"),
    "hexadecimal": ((f"{LENGTH}: {len(BINARY):#x}",), f"Unable to parse {LENGTH}"),
    "exponent": ((f"{LENGTH}: 1e2",), f"Unable to parse {LENGTH}"),
    "fraction": ((f"{LENGTH}: {len(BINARY)}.0",), f"Unable to parse {LENGTH}"),
    "word": ((f"{LENGTH}: all",), f"Unable to parse {LENGTH}"),
    "empty": ((f"{LENGTH}:",), f"Unable to parse {LENGTH}"),
    "list": ((f"{LENGTH}: {len(BINARY)}, {len(BINARY)}",), f"Unable to parse {LENGTH}"),
    "within the JSON": ((f"{LENGTH}: {len(BINARY) - 1}",), PARSE),
    "one byte of the data": ((f"{LENGTH}: {len(BINARY) + 1}",), PARSE),
}


@pytest.mark.parametrize("case", ROW_3)
def test_row_03_inference_header_length(server: RunningServer, case: str) -> None:
    headers, text = ROW_3[case]
    refused(server, "fp32", PAYLOAD, *headers, text=text)


def test_row_03_given_twice(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        raw.send(post("/v2/models/fp32/infer", PAYLOAD, f"{LENGTH}: {len(BINARY)}", f"{LENGTH}: {len(BINARY)}"))
        assert raw.receive().status == 400
        assert raw.ended()


def test_row_03_right_length(server: RunningServer) -> None:
    assert http(server, "/v2/models/fp32/infer", PAYLOAD, f"{LENGTH}: {len(BINARY)}").status == 200


def pair(*sizes: object) -> bytes:
    inputs = []
    for number, size in enumerate(sizes):
        parameters = {} if size is None else {"binary_data_size": size}
        inputs.append(tensor((1, 2), name=f"INPUT{number}", parameters=parameters))
    return document(*inputs)


ROW_5 = {
    "less is there": (pair(8, 8), 15, "expecting 1 additional bytes for model 'pair'"),
    "nothing is there": (pair(8, 8), 0, "expecting 8 additional bytes for model 'pair'"),
    "more is there": (pair(8, 8), 17, "unexpected additional input data for model 'pair'"),
    "missing for one": (pair(8, None), 8, "Input must set only one of the following fields"),
    "negative": (pair(8, -8), 16, "Unable to parse 'binary_data_size'"),
    "fraction": (pair(8, 8.0), 16, "Unable to parse 'binary_data_size'"),
    "string": (pair(8, "8"), 16, "Unable to parse 'binary_data_size'"),
    "2^63": (pair(8, 2**63), 16, "additional bytes for model 'pair'"),
    "2^64 - 1": (pair(8, 2**64 - 1), 16, "additional bytes for model 'pair'"),
    "2^64": (pair(8, 2**64), 16, PARSE),
    "wraps with the one before": (pair(8, 2**64 - 8), 16, "additional bytes for model 'pair'"),
    "less than the shape": (pair(8, 4), 12, "Expected 8, got 4"),
    "more than the shape": (pair(8, 12), 20, "Expected 8, got 12"),
}


@pytest.mark.parametrize("case", ROW_5)
def test_row_05_binary_sizes(server: RunningServer, case: str) -> None:
    header, size, text = ROW_5[case]
    attack = lambda: refused(server, "pair", header + bytes(size), f"{LENGTH}: {len(header)}", text=text)  # noqa: E731
    assert peak_growth(server, attack) < 16 << 20


def test_row_05_connection_is_kept_over_all_of_them(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for header, size, _ in ROW_5.values():
            length = f"{LENGTH}: {len(header)}"
            assert raw.send(post("/v2/models/pair/infer", header + bytes(size), length)).receive().status == 400
        assert raw.send(LIVE).receive().status == 200
