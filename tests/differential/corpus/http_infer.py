# SPDX-License-Identifier: Apache-2.0
"""HTTP inference: JSON, data types, shapes, the members of a request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from differential.case import Case, Http
from differential.corpus.build import cases, json_infer, post, tensor
from differential.repository import DATATYPES

__all__ = ["SHAPES", "documents", "members", "shapes", "types", "versions"]

_GOOD = tensor("INPUT0", "FP32", [1, 2], [1.5, -2])
_FP32 = "/v2/models/fp32/infer"
_SIGNED = {f"INT{bits}": bits for bits in (8, 16, 32, 64)}
_UNSIGNED = {f"UINT{bits}": bits for bits in (8, 16, 32, 64)}


def types() -> Iterable[Case]:
    """Each data type with each kind of JSON value, and around its limits."""
    return cases(
        (f"{kind}: {text}", post(f"/v2/models/{kind.lower()}/infer", _document(kind, text)))
        for kind in (*DATATYPES, "BF16")
        for text in _values(kind)
    )


def _document(kind: str, element: str) -> str:
    entry = json.dumps(tensor("INPUT0", kind, [1, 1]))
    return f'{{"inputs":[{entry[:-1]},"data":[{element}]}}]}}'


def _values(kind: str) -> Iterator[str]:
    yield from ("0", "1", "-1", "-0", "1.0", "1.5", "1e2", "1E+2", "-1e-2", "true", "false", "null", '"1"', '""')
    yield from ("{}", "[]", "[[1]]", "[1]", "[1,2]", '["a"]', "[null]", "[true]", '{"a":1}')
    if kind in _SIGNED:
        limit = 2 ** (_SIGNED[kind] - 1)
        yield from map(str, (limit - 1, limit, limit + 1, -limit, -limit - 1, 2 * limit))
    elif kind in _UNSIGNED:
        limit = 2 ** _UNSIGNED[kind]
        yield from map(str, (limit - 1, limit, limit + 1, -limit))
    elif kind in {"FP32", "FP64", "FP16", "BF16"}:
        yield from (
            "3.4028235e38",
            "3.5e38",
            "-3.5e38",
            "1e308",
            "1e-45",
            "1e-46",
            "5e-324",
            "1e-400",
            "0.1",
            "0.30000000000000004",
        )
        yield from (
            "16777217",
            "9007199254740993",
            "18446744073709551615",
            "18446744073709551616",
            "123456789.123456789",
        )
        yield from (
            "1e15",
            "1e16",
            "1e17",
            "1e20",
            "1e21",
            "1e22",
            "1e-5",
            "1e-6",
            "1e-7",
            "123456789012345680",
            "100000",
            "1e400",
        )
    elif kind == "BYTES":
        yield from (
            r'"\u0000"',
            r'"\u00e9"',
            '"é"',
            r'"\ud83d\ude00"',
            r'"\/\b\f\n\r\t\"\\"',
            '"' + "x" * 300 + '"',
            r'"\u007f"',
        )


#: (model, input, data type) -> shapes
SHAPES: dict[tuple[str, str, str], tuple[list[int], ...]] = {
    ("fixed", "INPUT0", "FP32"): ([1, 4], [2, 4], [8, 4], [9, 4], [1, 3], [1, 5], [4], [1, 1, 4], [1, 4, 1], [0, 4], [1, 0], [], [4, 1]),
    ("fp32", "INPUT0", "FP32"): ([1, 0], [0, 5], [2, 3], [8, 1], [9, 1], [1], [1, 1, 1], [], [0]),
    ("flat", "INPUT0", "FP32"): ([0], [1], [5], [1, 5], []),
    ("flat_fixed", "INPUT0", "INT32"): ([2, 2], [1, 2], [2, 1], [4], [2, 2, 1], [0, 2], [2, 0]),
    ("matrix", "INPUT0", "INT64"): ([0, 2], [1, 2], [3, 2], [3, 1], [3], [3, 2, 1], [2, 3]),
    ("cube", "INPUT0", "INT32"): ([1, 1, 1, 2], [4, 2, 3, 2], [5, 1, 1, 2], [1, 0, 1, 2], [1, 1, 1, 3], [1, 1, 2], [2, 2, 2, 2]),
    ("reshape", "INPUT", "FP32"): ([1], [1, 1], [2, 1], [1, 2], []),
    ("reshape_flat", "INPUT", "FP32"): ([1, 4], [3, 4], [1, 2, 2], [4, 1], [0, 4]),
}  # fmt: skip


def shapes() -> Iterable[Case]:
    """Shapes that do and do not fit, with as many elements as the shape says unless the name says more."""
    yield from cases(
        (f"{model} {shape}", json_infer(model, [tensor(name, kind, shape, [1] * _count(shape))]))
        for (model, name, kind), shapes in SHAPES.items()
        for shape in shapes
    )
    # No shape of more bytes than the peer has memory: it allocates them before it looks at the data.
    wrong: tuple[object, ...] = (
        "[1,2]", None, 2, True, {}, {"0": 1}, [1.0, 2], [1, 2.0], ["1", 2], [1, None], [1, True], [[1], 2], [-1, 2], [1, -1], [-1, -1],
        [1, -(2**63)], [2**32, 2**32], [1, 2**63], [1, 2**64], [2**63 - 1, 2**63 - 1],
        [0, 2**63 - 1], [1] * 20, [1] * 100,
    )  # fmt: skip
    for shape in wrong:
        for model in ("fp32", "flat"):
            yield Case(
                f"{model} shape {json.dumps(shape)}", json_infer(model, [tensor("INPUT0", "FP32", shape, [1, 2])])
            )
    for count in range(8):
        for model, shape in (("fp32", [2, 2]), ("flat", [3]), ("bytes", [2, 2]), ("bool", [2, 2]), ("int64", [2, 2])):
            element: object = {"bytes": "a", "bool": True}.get(model, 1)
            kind = {"flat": "FP32"}.get(model, model.upper())
            request = json_infer(model, [tensor("INPUT0", kind, shape, [element] * count)])
            yield Case(f"{model} {shape} with {count} elements", request)
    for data in (
        [[1, 2], [3, 4]],
        [[1, 2, 3, 4]],
        [[[1], [2]], [[3], [4]]],
        [[1], [2], [3], [4]],
        [[1, 2, 3], [4]],
        [1, [2, 3], 4],
        [[], [1, 2, 3, 4]],
        [[[[[[1, 2, 3, 4]]]]]],
    ):
        yield Case(f"nested {data}", json_infer("fp32", [tensor("INPUT0", "FP32", [2, 2], data)]))


def _count(shape: list[int]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def documents() -> Iterable[Case]:
    """Bodies that are not JSON, or not the JSON of a request."""
    good = json.dumps({"inputs": [_GOOD]})
    bodies: list[str | bytes] = [
        "", " ", "{", "}", "[", "]", "null", "true", "1", '"text"', "[]", "{}", "{]", '{"inputs"', '{"inputs":', '{"inputs":}', '{"inputs":[}',
        good[:-1], good + "}", good + " ", "\n\t\r " + good, good + good, good + ",", good + "\x00", "\ufeff" + good, good.replace('"', "'"),
        good.replace(":", "=", 1), good.replace("1.5", "01.5"), good.replace("1.5", ".5"), good.replace("1.5", "1."), good.replace("1.5", "+1.5"),
        good.replace("1.5", "0x1"), good.replace("1.5", "NaN"), good.replace("1.5", "Infinity"), good.replace("1.5", "-Infinity"), good.replace("1.5", "nan"),
        good.replace("1.5", "1e"), good.replace("1.5", "1e5000"), good.replace("1.5", "-"), good.replace("1.5", "1_000"), good.replace("1.5", "tru"),
        good.replace("[1.5, -2]", "[1.5, -2,]"), good.replace("[1.5, -2]", "[1.5 -2]"), good.replace("[1.5, -2]", "[1.5,, -2]"), good[:-1] + ",}",
        "// comment\n" + good, "/* comment */" + good, good.replace('"INPUT0"', '"INPUT0'), good.replace('"INPUT0"', '"INPUT\\x30"'),
        good.replace('"INPUT0"', '"INPUT\\u0030"'), good.replace('"INPUT0"', '"INPUT\\u003"'), good.replace('"INPUT0"', '"INPUT0\\"'), good.replace('"INPUT0"', '"\\ud800"'),
        good.replace('"INPUT0"', '"INPUT\t0"'), good.replace('"INPUT0"', '"INPUT\n0"'),
        good.encode().replace(b"INPUT0", b"INPUT\xff"), good.encode().replace(b"INPUT0", b"\xc0\x80"), good.encode("utf-16"),
        good[:-1] + ',"inputs":[]}', good[:-1] + ',"id":"a","id":"b"}', good[:-1] + ',"x":{"a":1,"a":2}}', good.replace('"name"', '"name": "INPUT0", "name"'),
        good[:-1] + ',"unknown":[1,{"a":null}]}', good[:-1] + ',"model_name":"other","model_version":"7"}', good[:-1] + ',"":1}', '{"":1,' + good[1:],
        good[:-1] + ',"x":' + "9" * 30 + "}", good[:-1] + ',"x":-9223372036854775809}', good[:-1] + ',"x":1e400}',
        good.replace('"data": [1.5, -2]', '"data": ' + "[" * 20 + "1.5,-2" + "]" * 20), good[:-1] + ',"x":' + "[" * 20 + "]" * 20 + "}",
    ]  # fmt: skip
    return cases((f"{index}: {body[:60]!r}", post(_FP32, body)) for index, body in enumerate(bodies))


def members() -> Iterable[Case]:
    """Members of the request and of its tensors: absent, of a wrong type, twice, unknown."""
    wrong = (None, True, 1, -1, 1.5, "text", "", [], {}, [1], [[]], ["a"], [None], {"a": 1}, [{}])
    for value in wrong:
        shown = json.dumps(value)
        for member in ("id", "parameters", "outputs", "inputs"):
            yield Case(f"{member} {shown}", post(_FP32, {"inputs": [_GOOD], member: value}))
        for member in ("name", "datatype", "shape", "data", "parameters"):
            yield Case(f"input {member} {shown}", json_infer("fp32", [{**_GOOD, member: value}]))
        for member in ("name", "parameters"):
            yield Case(
                f"output {member} {shown}", json_infer("fp32", [_GOOD], outputs=[{"name": "OUTPUT0", member: value}])
            )
    for member in ("name", "datatype", "shape", "data"):
        yield Case(f"input without {member}", json_infer("fp32", [{k: v for k, v in _GOOD.items() if k != member}]))
    yield Case("input is empty", json_infer("fp32", [{}]))
    yield Case("inputs are absent", post(_FP32, {"id": "x"}))
    yield Case("output without name", json_infer("fp32", [_GOOD], outputs=[{}]))
    yield Case("output with unknown member", json_infer("fp32", [_GOOD], outputs=[{"name": "OUTPUT0", "x": 1}]))
    yield Case("input with unknown member", json_infer("fp32", [{**_GOOD, "x": {"y": 1}}]))
    yield from _names()
    yield from _optional()
    yield from cases((f"id {len(text)} {text[:12]!r}", json_infer("fp32", [_GOOD], id=text)) for text in _IDS)
    yield from cases(
        (f"id in an error {len(text)} {text[:12]!r}", json_infer("fp32", [{**_GOOD, "shape": [9, 2]}], id=text))
        for text in _IDS
    )


_IDS = (
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


def _names() -> Iterator[Case]:
    """Which tensors are named, with which data type."""
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
    ):
        yield Case(f"datatype {kind!r}", json_infer("fp32", [{**_GOOD, "datatype": kind}]))
    for name in ("INPUT1", "input0", "OUTPUT0", " INPUT0", "INPUT0 ", "é", "x" * 1000, "a'b", "a\nb"):
        yield Case(f"input {name[:12]!r}", json_infer("fp32", [{**_GOOD, "name": name}]))
        yield Case(f"output {name[:12]!r}", json_infer("fp32", [_GOOD], outputs=[{"name": name}]))
    yield Case("input twice", json_infer("fp32", [_GOOD, _GOOD]))
    yield Case("output twice", json_infer("fp32", [_GOOD], outputs=[{"name": "OUTPUT0"}, {"name": "OUTPUT0"}]))
    a, b = tensor("A", "INT32", [1, 2], [5, 7]), tensor("B", "INT32", [1, 2], [1, 2])
    two = {**b, "shape": [2, 2], "data": [1, 2, 3, 4]}
    sets = {
        "both": [a, b],
        "other order": [b, a],
        "A only": [a],
        "B only": [b],
        "none": [],
        "a third": [a, b, {**a, "name": "C"}],
        "A twice": [a, a],
        "wrong name": [a, {**b, "name": "C"}],
    }
    sets |= {
        "batch sizes differ": [a, two],
        "both batched": [{**two, "name": "A"}, two],
        "second bad shape": [a, {**b, "shape": [1, 3], "data": [1, 2, 3]}],
    }
    for name, inputs in sets.items():
        yield Case(f"pair: {name}", json_infer("pair", inputs))
    for names in (["SUM"], ["DIFFERENCE"], ["DIFFERENCE", "SUM"], ["SUM", "SUM"], ["A"], ["SUM", "X"], []):
        yield Case(f"pair: outputs {names}", json_infer("pair", [a, b], outputs=[{"name": name} for name in names]))


def _optional() -> Iterator[Case]:
    required, one, other = (tensor(name, "FP32", [1, 1], [1]) for name in "ABC")
    optional = {
        "A": [required],
        "AB": [required, one],
        "AC": [required, other],
        "ABC": [required, one, other],
        "B": [one],
        "BC": [one, other],
        "": [],
        "AX": [required, {**one, "name": "X"}],
    }
    optional |= {
        "ABCX": [required, one, other, {**one, "name": "X"}],
        "CBA": [other, one, required],
        "AA": [required, required],
    }
    for name, inputs in optional.items():
        yield Case(f"optional: {name}", json_infer("optional", inputs))


def versions() -> Iterable[Case]:
    """Versions and models in the path."""
    inputs = [tensor("INPUT", "FP32", [1], [1])]
    for policy in ("latest", "all", "specific"):
        model = f"versions_{policy}"
        yield Case(model, json_infer(model, inputs))
        for version in ("0", "1", "01", "2", "3", "9", "10", "11", "010", str(2**31), str(2**32 + 1), str(2**63 - 1)):
            yield Case(f"{model} {version}", post(f"/v2/models/{model}/versions/{version}/infer", {"inputs": inputs}))
    for model in ("unknown", "FP32", "fp32 ", "a'b", "x" * 300):
        yield Case(f"model {model[:12]!r}", _quoted(model))
    for tail in ("", "/versions/1"):
        for path in (
            "%66p32",
            "fp32%20",
            "a%2Fb",
            "a%00b",
            "%zz",
            "fp32%",
            "%ff",
            "..",
            ".",
            "%2e%2e",
            "a%0ab",
            "stats",
        ):
            yield Case(f"path {path}{tail}", post(f"/v2/models/{path}{tail}/infer", {"inputs": [_GOOD]}))


def _quoted(model: str) -> Http:
    return post(f"/v2/models/{model.replace(' ', '%20')}/infer", {"inputs": [_GOOD]})
