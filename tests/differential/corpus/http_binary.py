# SPDX-License-Identifier: Apache-2.0
"""HTTP inference with binary tensors, raw binary requests and compressed bodies."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from collections.abc import Iterable

from differential.case import Case, Http
from differential.corpus.build import bytes_tensor, get, json_infer, post, raw_infer, tensor, with_binary
from differential.corpus.http_parameters import VALUES

__all__ = ["binary", "compression", "raw"]

_SIZES = {"BOOL": 1, "INT8": 1, "UINT16": 2, "INT64": 8, "FP16": 2, "BF16": 2, "FP32": 4, "FP64": 8}
_NO_BINARY = {"outputs": [{"name": "OUTPUT0"}]}


def binary() -> Iterable[Case]:
    for kind, size in _SIZES.items():
        for count in (2 * size, 2 * size - 1, 2 * size + 1, 0):
            data = bytes(index % 2 for index in range(count))
            entry = tensor("INPUT0", kind, [1, 2], binary_data_size=count)
            asked = [{"name": "OUTPUT0", "parameters": {"binary_data": True}}]
            yield Case(f"{kind} {count} bytes", with_binary(kind.lower(), [entry], data, outputs=asked))
            yield Case(f"{kind} {count} bytes, JSON answer", with_binary(kind.lower(), [entry], data, **_NO_BINARY))
    data = struct.pack("<2f", 1, 2)
    entry = tensor("INPUT0", "FP32", [1, 2], binary_data_size=8)
    for length in (
        "",
        "-1",
        "-0",
        "+5",
        "0",
        "1",
        "00",
        "abc",
        "0x10",
        "1e2",
        "12 ",
        " 12",
        "1.5",
        "12x",
        "99999",
        "2147483648",
        "4294967296",
        "9" * 30,
        "-9999999999999999999999",
    ):
        yield Case(f"header {length!r}", with_binary("fp32", [entry], data, length=length))
    document = len(json.dumps({"inputs": [entry]}))
    for offset in (-2, -1, 1, 7, 8, 9, 1000):
        yield Case(f"header off by {offset}", with_binary("fp32", [entry], data, length=document + offset))
    yield Case("no header", post("/v2/models/fp32/infer", json.dumps({"inputs": [entry]}).encode() + data))
    for size in (0, 1, 4, 7, 8, 9, 12, 16, -8, 2**31, 2**32, 2**32 + 8, 2**63, 2**64 - 8, 2**64):
        yield Case(f"size {size}", with_binary("fp32", [tensor("INPUT0", "FP32", [1, 2], binary_data_size=size)], data))
    for value in VALUES[:16]:
        text = json.dumps(tensor("INPUT0", "FP32", [1, 2]))[:-1] + f',"parameters":{{"binary_data_size":{value}}}}}'
        body = f'{{"inputs":[{text}]}}'.encode()
        request = post("/v2/models/fp32/infer", body + data, ("Inference-Header-Content-Length", str(len(body))))
        yield Case(f"size: {value}", request)
    for extra in (b"", b"\0", b"\0" * 8):
        yield Case(f"{len(extra)} further bytes", with_binary("fp32", [entry], data + extra))
    yield Case("data and binary", with_binary("fp32", [{**entry, "data": [1, 2]}], data))
    yield Case("data only, bytes follow", with_binary("fp32", [tensor("INPUT0", "FP32", [1, 2], [1, 2])], data))
    yield Case("data only, header", with_binary("fp32", [tensor("INPUT0", "FP32", [1, 2], [1, 2])], b""))
    yield Case("shape of no elements", with_binary("fp32", [tensor("INPUT0", "FP32", [1, 0], binary_data_size=0)], b""))
    yield Case("batch of 0", with_binary("fp32", [tensor("INPUT0", "FP32", [0, 2], binary_data_size=0)], b""))
    for method in ("GET", "PUT"):
        request = with_binary("fp32", [entry], data)
        yield Case(method, Http(method, request.target, request.headers, request.body))
    yield from _several()
    yield from _texts()


def _several() -> Iterable[Case]:
    """Two inputs, of which some are binary: their bytes follow in the order of the request."""
    first, second = struct.pack("<2i", 5, 7), struct.pack("<2i", 1, 2)
    a, b = (tensor(name, "INT32", [1, 2], binary_data_size=8) for name in "AB")
    text_a, text_b = tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])
    yield Case("A, B", with_binary("pair", [a, b], first + second))
    yield Case("B, A", with_binary("pair", [b, a], first + second))
    yield Case("A binary, B JSON", with_binary("pair", [a, text_b], first))
    yield Case("A JSON, B binary", with_binary("pair", [text_a, b], second))
    yield Case("B is short", with_binary("pair", [a, b], first + second[:-1]))
    yield Case(
        "A is long",
        with_binary(
            "pair",
            [{**a, "parameters": {"binary_data_size": 12}}, {**b, "parameters": {"binary_data_size": 4}}],
            first + second,
        ),
    )
    yield Case("only A has bytes", with_binary("pair", [a, b], first))
    for names in (["SUM"], ["DIFFERENCE", "SUM"]):
        listed = [{"name": name, "parameters": {"binary_data": True}} for name in names]
        yield Case(f"A, B, {names}", with_binary("pair", [a, b], first + second, outputs=listed))


def _texts() -> Iterable[Case]:
    """BYTES: element lengths that do and do not fit."""
    good = bytes_tensor(b"a", b"")
    contents = {
        "two": good, "one": bytes_tensor(b"a"), "three": bytes_tensor(b"a", b"", b"b"), "none": b"", "no UTF-8": bytes_tensor(b"\xff", b"\0\xc0"),
        "cut length": good + b"\1\0", "cut element": good[:-1], "length beyond": struct.pack("<I", 9) + b"a", "huge length": b"\xff" * 4 + good,
        "length 2^31": struct.pack("<I", 2**31) + good, "one byte": b"a", "zeros": b"\0" * 8, "more zeros": b"\0" * 12,
    }  # fmt: skip
    for name, data in contents.items():
        entry = tensor("INPUT0", "BYTES", [1, 2], binary_data_size=len(data))
        for answer in (True, False):
            asked = [{"name": "OUTPUT0", "parameters": {"binary_data": answer}}]
            yield Case(f"BYTES {name}, binary answer {answer}", with_binary("bytes", [entry], data, outputs=asked))
    for shape in ([1, 10], [2, 5], [5, 2]):
        for length in (1, 3, 5, 10):
            last = bytes_tensor(*[b"x"] * 9, bytes(length))
            entry = tensor("INPUT0", "BYTES", shape, binary_data_size=len(last) - 1)
            yield Case(
                f"BYTES {shape}, {length - 1} of the last {length} bytes", with_binary("bytes", [entry], last[:-1])
            )
    empty = tensor("INPUT0", "BYTES", [1, 0], binary_data_size=4)
    yield Case("BYTES without elements has bytes", with_binary("bytes", [empty], b"\0" * 4))


def raw() -> Iterable[Case]:
    """Raw binary requests."""
    for model in (
        "fp32",
        "fixed",
        "flat",
        "flat_fixed",
        "flat_text",
        "bytes",
        "matrix",
        "cube",
        "pair",
        "optional",
        "fp16",
        "bf16",
        "bool",
        "int64",
        "inspect",
        "reshape",
        "unknown",
        "repeat",
    ):
        for size in (0, 1, 3, 4, 8, 15, 16, 17, 32):
            yield Case(f"{model} {size}", raw_infer(model, bytes(size)))
    yield Case("a text", raw_infer("flat_text", "text é".encode()))
    yield Case("a text that looks like BYTES", raw_infer("flat_text", bytes_tensor(b"ab")))
    yield Case("JSON as raw", raw_infer("fp32", b'{"inputs":[]}'))
    yield Case(
        "with a version", post("/v2/models/flat/versions/1/infer", bytes(8), ("Inference-Header-Content-Length", "0"))
    )
    yield Case("with a content type", raw_infer("flat", bytes(8), ("Content-Type", "application/json")))


def compression() -> Iterable[Case]:
    """Compressed requests, and which compression an answer gets."""
    body = json.dumps({"inputs": [tensor("INPUT0", "FP32", [1, 64], [0.5] * 64)]}).encode()
    packed = {"gzip": gzip.compress(body, mtime=0), "deflate": zlib.compress(body)}
    raw_deflate = zlib.compressobj(wbits=-15)
    contents: dict[str, tuple[str, bytes]] = {
        "gzip": ("gzip", packed["gzip"]), "deflate": ("deflate", packed["deflate"]), "identity": ("identity", body), "plain as gzip": ("gzip", body),
        "plain as deflate": ("deflate", body), "gzip as deflate": ("deflate", packed["gzip"]), "deflate as gzip": ("gzip", packed["deflate"]),
        "raw deflate": ("deflate", raw_deflate.compress(body) + raw_deflate.flush()), "gzip as identity": ("identity", packed["gzip"]), "gzip cut": ("gzip", packed["gzip"][:-12]),
        "gzip without its end": ("gzip", packed["gzip"][:-8]), "gzip with a wrong sum": ("gzip", packed["gzip"][:-8] + b"\0" * 8), "gzip and more": ("gzip", packed["gzip"] + b"x"), "gzip twice": ("gzip", packed["gzip"] * 2),
        "deflate cut": ("deflate", packed["deflate"][:-6]), "deflate and more": ("deflate", packed["deflate"] + b"x"), "empty gzip": ("gzip", b""), "empty": ("", body), "upper case": ("GZIP", packed["gzip"]), "x-gzip": ("x-gzip", packed["gzip"]),
        "br": ("br", body), "unknown": ("unknown", body), "two": ("gzip, deflate", packed["gzip"]), "identity twice": ("identity, identity", body), "blank": (" gzip ", packed["gzip"]),
    }  # fmt: skip
    for name, (encoding, data) in contents.items():
        yield Case(name, post("/v2/models/fp32/infer", data, ("Content-Encoding", encoding)))
    data = struct.pack("<64f", *[0.5] * 64)
    request = with_binary("fp32", [tensor("INPUT0", "FP32", [1, 64], binary_data_size=len(data))], data)
    for encoding, pack in (("gzip", gzip.compress), ("deflate", zlib.compress)):
        headers = (*request.headers, ("Content-Encoding", encoding))
        yield Case(f"binary {encoding}", Http("POST", request.target, headers, pack(request.body)))
    for accepted in _ACCEPTED:
        yield Case(f"accept {accepted!r}", post("/v2/models/fp32/infer", body, ("Accept-Encoding", accepted)))
    small = json_infer("fp32", [tensor("INPUT0", "FP32", [1, 1], [1])], ("Accept-Encoding", "gzip"))
    yield Case("accept gzip, small", small)
    error = json_infer("fp32", [tensor("INPUT0", "FP32", [9, 1], [1] * 9)], ("Accept-Encoding", "gzip"))
    yield Case("accept gzip, error", error)
    asked = {"parameters": {"binary_data_output": True}}
    for encoding in ("gzip", "deflate"):
        entry = tensor("INPUT0", "FP32", [1, 64], [0.5] * 64)
        yield Case(
            f"accept {encoding}, binary answer", json_infer("fp32", [entry], ("Accept-Encoding", encoding), **asked)
        )
    for target in ("/v2", "/v2/models/fp32", "/v2/models/fp32/config"):
        yield Case(f"accept gzip {target}", get(target, ("Accept-Encoding", "gzip")))
    for encoding in ("gzip", "deflate", "identity", "br"):
        yield Case(
            f"index as {encoding}", post("/v2/repository/index", b'{"ready":true}', ("Content-Encoding", encoding))
        )


_ACCEPTED = (
    "gzip", "deflate", "identity", "*", "", "br", "gzip, deflate", "deflate, gzip", "gzip;q=0", "gzip;q=0, deflate", "gzip;q=0.5, deflate;q=0.8", "gzip;q=0.8, deflate;q=0.5",
    "identity;q=0", "identity;q=1, gzip;q=0.5", "gzip;q=0.5, identity", "gzip;q=1.0", "gzip; q=0.5", "gzip ;q=1", "GZIP", "Gzip;Q=1", "gzip;q=", "gzip;q=x", "gzip;q=-1", "gzip;q=2", "gzip;level=9",
    "gzip;q=0.001", "gzip;q=0.0", ",gzip,", "br;q=1, gzip;q=0.1", "*;q=0.5", "*;q=0", "identity, gzip", "gzip,deflate,br", "deflate;q=1.0, gzip;q=1.0", "x-gzip",
)  # fmt: skip
