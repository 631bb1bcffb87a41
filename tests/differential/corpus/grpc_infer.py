# SPDX-License-Identifier: Apache-2.0
"""gRPC inference: typed contents and raw data of each data type, shapes, names, versions, parameters, outputs."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any

from differential.case import Case
from differential.corpus.build import ELEMENT_SIZES, array, bytes_tensor, grpc_infer
from differential.corpus.http_infer import SHAPES
from differential.corpus.http_parameters import MODES
from differential.repository import DATATYPES

__all__ = [
    "classification",
    "contents",
    "members",
    "model_errors",
    "parameters",
    "raw",
    "shapes",
    "tensor_parameters",
    "versions",
]

_INPUT = ("INPUT0", "FP32", [1, 2])
_DATA = struct.pack("<2f", 1.5, -2)

#: kind of contents -> values to try
_CONTENTS: dict[str, tuple[tuple[Any, ...], ...]] = {
    "bool_contents": ((True, False),),
    "int_contents": (
        (0, 1),
        (127, -128),
        (128, -129),
        (255, 256),
        (32767, -32768),
        (32768, -32769),
        (65535, 65536),
        (2**31 - 1, -(2**31)),
    ),
    "int64_contents": ((0, 1), (2**63 - 1, -(2**63))),
    "uint_contents": ((0, 1), (255, 256), (65535, 65536), (2**32 - 1, 1)),
    "uint64_contents": ((0, 1), (2**64 - 1, 2**63)),
    "fp32_contents": ((0.0, 1.5), (float("inf"), float("-inf")), (1e-45, 3.4e38)),
    "fp64_contents": ((0.0, 1.5), (float("inf"), 1e308)),
    "bytes_contents": ((b"a", b""), (b"\xff\x00", b"\0" * 9)),
}


def contents() -> Iterable[Case]:
    """Each kind of contents for each data type."""
    for datatype in (*DATATYPES, "BF16"):
        for kind, pairs in _CONTENTS.items():
            for values in pairs:
                given = {kind: values}
                yield Case(
                    f"{datatype} {kind} {values}", grpc_infer(datatype.lower(), [("INPUT0", datatype, [1, 2], given)])
                )
    for count in range(6):
        for datatype, kind, value in (
            ("FP32", "fp32_contents", 1.0),
            ("BYTES", "bytes_contents", b"a"),
            ("BOOL", "bool_contents", True),
            ("INT8", "int_contents", 1),
        ):
            inputs = [("INPUT0", datatype, [2, 2], {kind: [value] * count})]
            yield Case(f"{datatype} [2,2] of {count} elements", grpc_infer(datatype.lower(), inputs))
    two = {"fp32_contents": [1.0, 2.0], "int_contents": [1, 2]}
    yield Case("two kinds", grpc_infer("fp32", [(*_INPUT, two)]))
    yield Case(
        "two kinds, bytes first",
        grpc_infer("bytes", [("INPUT0", "BYTES", [1, 2], {"bytes_contents": [b"a", b"b"], "bool_contents": [True]})]),
    )
    yield Case("no contents, no raw", grpc_infer("fp32", [_INPUT]))
    yield Case("no contents, no elements", grpc_infer("fp32", [("INPUT0", "FP32", [1, 0])]))
    yield Case("contents and raw", grpc_infer("fp32", [(*_INPUT, {"fp32_contents": [1.0, 2.0]})], [_DATA]))
    yield Case("other contents and raw", grpc_infer("fp32", [(*_INPUT, {"int_contents": [1, 2]})], [_DATA]))
    a, b = ("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])
    yield Case("A contents, B raw", grpc_infer("pair", [(*a, {"int_contents": [1, 2]}), b], [bytes(8)]))
    yield Case("A raw, B contents", grpc_infer("pair", [a, (*b, {"int_contents": [1, 2]})], [bytes(8)]))
    yield Case("both contents", grpc_infer("pair", [(*a, {"int_contents": [5, 7]}), (*b, {"int_contents": [1, 2]})]))
    yield Case("A contents, B nothing", grpc_infer("pair", [(*a, {"int_contents": [5, 7]}), b]))


def raw() -> Iterable[Case]:
    """Raw contents: sizes, numbers of entries, BYTES."""
    for datatype, size in ELEMENT_SIZES.items():
        for count in (2 * size, 2 * size - 1, 2 * size + 1, 0):
            data = bytes(index % 2 for index in range(count))
            yield Case(
                f"{datatype} {count} bytes", grpc_infer(datatype.lower(), [("INPUT0", datatype, [1, 2])], [data])
            )
    a, b = ("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])
    first, second = struct.pack("<2i", 5, 7), struct.pack("<2i", 1, 2)
    sets = {
        "none": (),
        "one": (first,),
        "two": (first, second),
        "three": (first, second, first),
        "empty second": (first, b""),
        "empty third": (first, second, b""),
        "joined": (first + second,),
        "joined and empty": (first + second, b""),
    }
    for name, entries in sets.items():
        yield Case(f"pair: {name}", grpc_infer("pair", [a, b], entries))
        yield Case(f"pair, other order: {name}", grpc_infer("pair", [b, a], entries))
    good = bytes_tensor(b"a", b"")
    texts = {
        "two": good, "one": bytes_tensor(b"a"), "three": bytes_tensor(b"a", b"", b"b"), "none": b"", "no UTF-8": bytes_tensor(b"\xff", b"\0\xc0"),
        "cut length": good + b"\1\0", "cut element": good[:-1], "length beyond": struct.pack("<I", 9) + b"a", "huge length": b"\xff" * 4 + good,
        "length 2^31": struct.pack("<I", 2**31) + good, "one byte": b"a", "zeros": bytes(8), "more zeros": bytes(12),
    }  # fmt: skip
    for name, data in texts.items():
        yield Case(f"BYTES {name}", grpc_infer("bytes", [("INPUT0", "BYTES", [1, 2])], [data]))


def shapes() -> Iterable[Case]:
    """The shapes of HTTP, and those that JSON can not hold or that the peer can not take there."""
    for (model, name, kind), shapes in SHAPES.items():
        for shape in shapes:
            count = 1
            for dim in shape:
                count *= dim
            yield Case(
                f"{model} {shape}", grpc_infer(model, [(name, kind, shape)], [bytes(count * ELEMENT_SIZES[kind])])
            )
    huge = (2**31, 2**32, 2**62, 2**63 - 1)
    wrong = [
        [-1, 2],
        [1, -1],
        [-1, -1],
        [-2, 2],
        [1, -(2**63)],
        [-(2**63), -(2**63)],
        *([1, dim] for dim in huge),
        *([dim, 2] for dim in huge),
    ]
    wrong += [
        [2**32, 2**32],
        [2**31, 2**31, 4],
        [2**62, 4],
        [2**63 - 1, 2**63 - 1],
        [0, 2**62],
        [1, 0, 2**62],
        [1] * 20,
        [1] * 100,
    ]
    for shape in wrong:
        for model in ("fp32", "flat"):
            yield Case(f"{model} {str(shape)[:80]}", grpc_infer(model, [("INPUT0", "FP32", shape)], [_DATA]))
        yield Case(f"bytes {str(shape)[:80]}", grpc_infer("bytes", [("INPUT0", "BYTES", shape)], [bytes(8)]))


def members() -> Iterable[Case]:
    """Which tensors are named, with which data type; ids."""
    for kind in (
        "",
        "fp32",
        "Fp32",
        "FP",
        "FP64",
        "FP16",
        "INT32",
        "BYTES",
        "STRING",
        "TYPE_FP32",
        "BF16",
        "FP8",
        "float",
        " FP32",
        "\xe9",
    ):
        yield Case(f"datatype {kind!r}", grpc_infer("fp32", [("INPUT0", kind, [1, 2])], [_DATA]))
    for name in ("", "INPUT1", "input0", "OUTPUT0", " INPUT0", "\xe9", "x" * 1000, "a'b", "a\nb", "\0"):
        yield Case(f"input {name[:12]!r}", grpc_infer("fp32", [(name, "FP32", [1, 2])], [_DATA]))
        yield Case(f"output {name[:12]!r}", grpc_infer("fp32", [_INPUT], [_DATA], outputs=[name]))
    yield Case("input twice", grpc_infer("fp32", [_INPUT, _INPUT], [_DATA, _DATA]))
    yield Case("output twice", grpc_infer("fp32", [_INPUT], [_DATA], outputs=["OUTPUT0", "OUTPUT0"]))
    yield Case("no inputs", grpc_infer("fp32", []))
    for text in IDS:
        yield Case(f"id {len(text)} {text[:12]!r}", grpc_infer("fp32", [_INPUT], [_DATA], id=text))
        yield Case(
            f"id in an error {len(text)} {text[:12]!r}",
            grpc_infer("fp32", [("INPUT0", "FP32", [9, 2])], [_DATA * 9], id=text),
        )
    yield from _sets()


IDS = (
    "",
    "1",
    "a b",
    "é",
    "\u2028",
    "x" * 4096,
    "x" * 4097,
    "a\nb",
    "\x1b[31m",
    "\x00",
    "\x7f",
    '"\\',
    "%n%s{}",
    "<id_unknown>",
)


def _sets() -> Iterator[Case]:
    entry = struct.pack("<2i", 5, 7)
    a, b = ("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])
    sets: dict[str, list[tuple[Any, ...]]] = {
        "A": [a],
        "B": [b],
        "ABC": [a, b, ("C", "INT32", [1, 2])],
        "AA": [a, a],
        "AC": [a, ("C", "INT32", [1, 2])],
        "AB of another type": [a, ("B", "FP32", [1, 2])],
        "A, B of another shape": [a, ("B", "INT32", [1, 3])],
    }
    for name, inputs in sets.items():
        yield Case(
            f"pair: {name}",
            grpc_infer("pair", inputs, [entry if tensor[2] == [1, 2] else bytes(12) for tensor in inputs]),
        )
    yield Case("pair: batch sizes differ", grpc_infer("pair", [a, ("B", "INT32", [2, 2])], [entry, entry * 2]))
    yield Case(
        "pair: batch of 8", grpc_infer("pair", [("A", "INT32", [8, 2]), ("B", "INT32", [8, 2])], [entry * 8, entry * 8])
    )
    yield Case(
        "pair: batch of 9", grpc_infer("pair", [("A", "INT32", [9, 2]), ("B", "INT32", [9, 2])], [entry * 9, entry * 9])
    )
    for names in (["SUM"], ["DIFFERENCE"], ["DIFFERENCE", "SUM"], ["SUM", "SUM"], ["A"], ["SUM", "X"]):
        yield Case(f"pair: outputs {names}", grpc_infer("pair", [a, b], [entry, entry], outputs=names))
    for names in ("A", "AB", "AC", "ABC", "B", "BC", "", "AX", "ABCX", "CBA", "AA", "BB", "BCX"):
        inputs = [(name, "FP32", [1, 1]) for name in names]
        yield Case(f"optional: {names}", grpc_infer("optional", inputs, [bytes(4)] * len(names)))


def versions() -> Iterable[Case]:
    for policy in ("latest", "all", "specific"):
        for version in (
            "",
            "0",
            "1",
            "01",
            "2",
            "3",
            "10",
            "11",
            "010",
            "-1",
            "+1",
            " 1",
            "1 ",
            "1abc",
            "abc",
            "1.0",
            str(2**31),
            str(2**63 - 1),
            str(2**63),
            "9" * 30,
        ):
            model = f"versions_{policy}"
            yield Case(
                f"{model} {version!r}", grpc_infer(model, [("INPUT", "FP32", [1])], [bytes(4)], model_version=version)
            )
    for model in ("", "unknown", "FP32", "fp32 ", "a'b", "a/b", "..", "é", "a\nb", "x" * 300, "repeat"):
        yield Case(f"model {model[:12]!r}", grpc_infer(model, [_INPUT], [_DATA]))


_KEYS = (
    "sequence_id",
    "sequence_start",
    "sequence_end",
    "priority",
    "timeout",
    "binary_data_output",
    "keep",
    "",
    "triton_x",
    "triton_",
    "Triton_x",
    "triton_enable_empty_final_response",
    "headers",
    "é",
    "classification",
)
_VALUES: tuple[object, ...] = (
    True, False, 0, 1, -1, 2**31, 2**63 - 1, -(2**63), "", "1", "text", "é", "\0", "x" * 128, "x" * 129, 0.0, 1.5, float("inf"), float("nan"),
    ("uint64_param", 0), ("uint64_param", 1), ("uint64_param", 2**63), ("uint64_param", 2**64 - 1), ("", None),
)  # fmt: skip


def _shown(value: object) -> str:
    return f"{len(value)} times x" if isinstance(value, str) and len(value) > 40 else repr(value)


def parameters() -> Iterable[Case]:
    """Each name with each kind of value; the model shows what it was given."""
    inputs, raw_data = [("INPUT", "FP32", [1])], [bytes(4)]
    for key in _KEYS:
        for value in _VALUES:
            yield Case(f"{key}: {_shown(value)}", grpc_infer("inspect", inputs, raw_data, parameters={key: value}))
    several = {"keep a": 1, "keep b": True, "keep c": "x", "keep d": 2.5, "priority": 1, "timeout": 5}
    yield Case("several", grpc_infer("inspect", inputs, raw_data, parameters=several))


def tensor_parameters() -> Iterable[Case]:
    """Parameters of inputs and outputs."""
    raw_data = [bytes(4)]
    for key in ("x", "shared_memory", "classification", "binary_data_size", "triton_x"):
        for value in (1, True, "a", 1.5):
            tensor = ("INPUT", "FP32", [1], {}, {key: value})
            yield Case(f"of an input {key}: {value!r}", grpc_infer("inspect", [tensor], raw_data))
    scores, data = [("SCORES", "FP32", [4])], [array([0.5, 3.25, -1, 3], "<f4")]
    for value in _VALUES:
        asked = [("FP32", {"classification": value})]
        yield Case(f"classification: {_shown(value)}", grpc_infer("scores_flat", scores, data, outputs=asked))
    for key in ("x", "triton_x", "binary_data", "shared_memory"):
        for value in (1, True, "a"):
            yield Case(f"{key}: {value!r}", grpc_infer("scores_flat", scores, data, outputs=[("FP32", {key: value})]))


def classification() -> Iterable[Case]:
    """Classes of outputs of each data type that has any."""
    two = [array([0.5, 3.25, -1, 3, 9, 8, 7, 6.5], "<f4")]
    for kind in ("FP32", "INT32", "UINT8", "FP64", "INT8", "INT64", "UINT64", "BOOL", "FP16"):
        for k in (1, 3, 4, 9):
            asked = [(kind, {"classification": k})]
            yield Case(f"{kind} {k}", grpc_infer("scores", [("SCORES", "FP32", [2, 4])], two, outputs=asked))


def model_errors() -> Iterable[Case]:
    for mode in MODES:
        inputs, data = [("INPUT", "FP32", [1, 2])], [_DATA]
        yield Case(mode, grpc_infer("fail", inputs, data, parameters={"mode": mode}))
        yield Case(
            f"{mode}, with id and output",
            grpc_infer("fail", inputs, data, id="7", outputs=["OUTPUT"], parameters={"mode": mode}),
        )
    yield Case("decoupled", grpc_infer("repeat", [("IN", "INT32", [1])], [bytes(4)]))
    yield Case("decoupled with a bad input", grpc_infer("repeat", [("X", "INT32", [1])], [bytes(4)]))
