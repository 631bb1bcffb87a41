# SPDX-License-Identifier: Apache-2.0
"""Requests that hypothesis makes around the boundaries that the tables know. The same ones in every run.

A strategy draws whole requests, each with one fault at most: which of two is reported first is no promise.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers

from differential.case import Call, Case, Http, StreamCall
from differential.corpus.build import ELEMENT_SIZES, infer_request, post, stream, tensor
from differential.repository import DATATYPES

__all__ = ["binary_bodies", "json_bodies", "json_parameters", "messages", "paths", "streams"]

#: those that requests are drawn of, BYTES aside
_SIZES = {datatype: size for datatype, size in ELEMENT_SIZES.items() if datatype != "BF16"}


@contextlib.contextmanager
def _without_local_constants() -> Iterator[None]:
    """Hypothesis also draws constants that it finds in the modules of a project: others after each change of one."""
    providers.CONSTANTS_CACHE.cache.clear()
    with mock.patch.object(providers, "_get_local_constants", providers.Constants):
        yield
    providers.CONSTANTS_CACHE.cache.clear()


def _draw(strategy: st.SearchStrategy[Http | Call | StreamCall], count: int) -> list[Case]:
    """``count`` different requests of ``strategy``."""
    found: dict[str, Http | Call | StreamCall] = {}

    class Enough(Exception):
        pass

    @settings(
        max_examples=20 * count,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(request: Http | Call | StreamCall) -> None:
        found.setdefault(repr(request), request)
        if len(found) >= count:
            raise Enough  # hypothesis would go on until it has tried as often as it may

    with contextlib.suppress(Enough), _without_local_constants():
        collect()
    return [Case(f"{number}", request) for number, request in enumerate(found.values())]


#: numbers that all parsers of JSON read in the same way
_SHORT = st.integers(-(2**20), 2**20).map(lambda number: number / 1024)
_ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "BOOL": st.booleans(),
    "BYTES": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
    "FP32": _SHORT,
    "FP64": _SHORT,
    **{f"INT{bits}": st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}


def _fault(*faults: str) -> st.SearchStrategy[str]:
    """One of the faults; no fault, an empty text, as often as all of them."""
    return st.sampled_from(["", *faults]).flatmap(lambda fault: st.sampled_from(["", fault]))


def _count(shape: list[int]) -> int:
    count = 1
    for dim in shape:
        count *= dim
    return count


def _shape(draw: st.DrawFn, fault: str) -> list[int]:
    """A shape for a model with dims [-1] and batches of up to 8."""
    shape = [draw(st.integers(1, 8)), draw(st.integers(0, 6))]
    changed = {"scalar": [], "rank 1": shape[:1], "rank 3": [*shape, 1], "batch": [draw(st.integers(9, 20)), shape[1]]}
    return changed.get(fault, shape)


_SHAPE_FAULTS = ("scalar", "rank 1", "rank 3", "batch")


@st.composite
def _json_requests(draw: st.DrawFn) -> Http:
    datatype = draw(st.sampled_from(sorted(_ELEMENTS)))
    fault = draw(_fault(*_SHAPE_FAULTS, "fewer", "more", "datatype", "output"))
    shape = _shape(draw, fault)
    count = max(0, _count(shape) + {"fewer": -1, "more": 1}.get(fault, 0))
    data: Any = draw(st.lists(_ELEMENTS[datatype], min_size=count, max_size=count))
    if not fault and draw(st.booleans()):
        data = [data[row * shape[1] : (row + 1) * shape[1]] for row in range(shape[0])]
    other = "INT64" if datatype == "INT32" else "FP64" if datatype == "FP32" else datatype
    document: dict[str, Any] = {"inputs": [tensor("INPUT0", other if fault == "datatype" else datatype, shape, data)]}
    if draw(st.booleans()):
        document["id"] = draw(st.text("abc é", max_size=5))
    asked = draw(st.sampled_from(["none", "listed", "binary", "JSON", "whole"]))
    if asked == "whole":
        document["parameters"] = {"binary_data_output": draw(st.booleans())}
    elif asked != "none" or fault == "output":
        chosen = {"binary": {"binary_data": True}, "JSON": {"binary_data": False}}.get(asked, {})
        document["outputs"] = [{"name": "X" if fault == "output" else "OUTPUT0", "parameters": chosen}]
    return post(f"/v2/models/{datatype.lower()}/infer", document)


@st.composite
def _binary_requests(draw: st.DrawFn) -> Http:
    """Binary tensors of which a size, a prefix or the header may be off by a little."""
    datatype = draw(st.sampled_from([*_SIZES, "BYTES", "BYTES", "BYTES"]))
    fault = draw(_fault(*_SHAPE_FAULTS, "size", "header", "prefix", "cut", "more"))
    shape = _shape(draw, fault)
    count, off = _count(shape), draw(st.sampled_from([-4, -1, 1, 4]))
    if datatype == "BYTES":
        elements = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        lengths = [len(element) for element in elements]
        if fault == "prefix" and lengths:
            lengths[draw(st.integers(0, count - 1))] += abs(off)
        data = b"".join(struct.pack("<I", n) + element for n, element in zip(lengths, elements, strict=True))
    else:
        size = _SIZES[datatype] * count
        data = bytes(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))
    data = data[:-1] if fault == "cut" else data + b"\0" if fault == "more" else data
    size = max(0, len(data) + (off if fault == "size" else 0))
    inputs = [tensor("INPUT0", datatype, shape, binary_data_size=size)]
    document = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    length = len(document) + (off if fault == "header" else 0)
    header = ("Inference-Header-Content-Length", str(length))
    return post(f"/v2/models/{datatype.lower()}/infer", document + data, header)


_SCALARS = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), _SHORT, st.text('ab é"\\', max_size=6))
_KEYS = st.text("abkeps_ ", max_size=8)
_WRONG: dict[str, tuple[object, ...]] = {
    "sequence_id": (True, 1.5, -1),
    "sequence_start": (1, "true"),
    "priority": (-1, "1", 1.5),
    "timeout": (-1, "1", 1.5),
    "other": (None, [], {}),
}


@st.composite
def _parameter_requests(draw: st.DrawFn) -> Http:
    """Parameters of any name and type; one of them may be of a type that it can not have."""
    parameters = draw(st.dictionaries(_KEYS, _SCALARS, max_size=4))
    if draw(st.booleans()):
        parameters |= {"priority": draw(st.integers(0, 9)), "timeout": draw(st.integers(0, 2**40))}
    if fault := draw(_fault(*_WRONG)):
        parameters[fault] = draw(st.sampled_from(_WRONG[fault]))
    return post("/v2/models/inspect/infer", {"inputs": [tensor("INPUT", "FP32", [1], [1])], "parameters": parameters})


_CONTENTS = {"BOOL": "bool_contents", "BYTES": "bytes_contents", "FP32": "fp32_contents", "FP64": "fp64_contents"}
_CONTENTS |= {"INT64": "int64_contents", "UINT64": "uint64_contents"}
_CONTENTS |= {f"INT{bits}": "int_contents" for bits in (8, 16, 32)} | {
    f"UINT{bits}": "uint_contents" for bits in (8, 16, 32)
}


@st.composite
def _messages(draw: st.DrawFn) -> Call:
    """ModelInfer with typed or raw contents of one input."""
    datatype = draw(st.sampled_from(DATATYPES))
    fault = draw(_fault(*_SHAPE_FAULTS, "fewer", "more", "datatype", "output", "version", "another entry", "both"))
    shape = _shape(draw, fault)
    count = max(0, _count(shape) + {"fewer": -1, "more": 1}.get(fault, 0))
    contents: dict[str, Any] = {}
    raw: list[bytes] = []
    if datatype != "FP16" and draw(st.booleans()):
        elements: st.SearchStrategy[Any] = st.binary(max_size=6) if datatype == "BYTES" else _ELEMENTS[datatype]
        contents = {_CONTENTS[datatype]: draw(st.lists(elements, min_size=count, max_size=count))}
        raw = [b"x"] if fault == "both" else []
    elif datatype == "BYTES":
        texts = draw(st.lists(st.binary(max_size=6), min_size=count, max_size=count))
        raw = [b"".join(struct.pack("<I", len(text)) + text for text in texts)]
    else:
        size = count * _SIZES[datatype]
        raw = [bytes(draw(st.lists(st.integers(0, 1), min_size=size, max_size=size)))]
    if fault == "another entry" and raw:
        raw.append(b"")
    other = "UINT8" if datatype == "BOOL" else "BOOL"
    inputs = [("INPUT0", other if fault == "datatype" and raw else datatype, shape, contents)]
    outputs = ["X"] if fault == "output" else draw(st.sampled_from([[], ["OUTPUT0"]]))
    version = draw(st.sampled_from(["2", "0", "x"] if fault == "version" else ["", "1"]))
    identity = draw(st.text("abc é", max_size=5))
    request = infer_request(datatype.lower(), inputs, raw, outputs=outputs, model_version=version, id=identity)
    return Call("ModelInfer", request)


@st.composite
def _streams(draw: st.DrawFn) -> StreamCall:
    """Up to six requests on one stream, of which some are refused."""
    requests = []
    # Not both on one stream: this version of the peer ends when a decoupled model is beside another one.
    kinds = draw(st.sampled_from([["fp32", "int64", "fail"], ["repeat"]]))
    for place in range(draw(st.integers(1, 6))):
        identity = f"{place}"
        kind = draw(st.sampled_from(kinds))
        if kind == "repeat":
            values = draw(st.lists(st.integers(-5, 5), max_size=4))
            parameters: dict[str, object] = {"triton_enable_empty_final_response": True} if draw(st.booleans()) else {}
            requests.append(
                infer_request(
                    kind,
                    [("IN", "INT32", [len(values)])],
                    [struct.pack(f"<{len(values)}i", *values)],
                    id=identity,
                    parameters=parameters,
                )
            )
        elif kind == "fail":
            mode = draw(st.sampled_from(["", "raise", "error", "code UNAVAILABLE"]))
            requests.append(
                infer_request(kind, [("INPUT", "FP32", [1, 2])], [bytes(8)], id=identity, parameters={"mode": mode})
            )
        else:
            size = 3 if draw(_fault("size")) else {"fp32": 4, "int64": 8}[kind]
            requests.append(infer_request(kind, [("INPUT0", kind.upper(), [1, 1])], [bytes(size)], id=identity))
    return stream(*requests, interleaved=True)


_SEGMENTS = st.sampled_from(
    [
        "v2",
        "models",
        "fp32",
        "unknown",
        "versions",
        "1",
        "2",
        "x",
        "ready",
        "infer",
        "config",
        "stats",
        "health",
        "live",
        "repository",
        "index",
        "load",
        "",
        "%66p32",
        "a%20b",
    ]
)


@st.composite
def _paths(draw: st.DrawFn) -> Http:
    target = "/v2/" + "/".join(draw(st.lists(_SEGMENTS, min_size=1, max_size=6)))
    if target.endswith(("/load", "/index", "/stats", "/config")):
        target += draw(st.sampled_from(["", "/"]))
    verb = draw(st.sampled_from(["GET", "GET", "POST", "PUT"]))
    # no model is loaded or unloaded here, and statistics are another section's
    if (verb == "POST" and target.endswith(("/load", "/index", "/infer"))) or target.endswith("/stats"):
        verb = "PUT"
    return Http(verb, target, (), b"")


def json_bodies() -> Iterable[Case]:
    return _draw(_json_requests(), 250)


def binary_bodies() -> Iterable[Case]:
    return _draw(_binary_requests(), 200)


def json_parameters() -> Iterable[Case]:
    return _draw(_parameter_requests(), 100)


def messages() -> Iterable[Case]:
    return _draw(_messages(), 300)


def streams() -> Iterable[Case]:
    return _draw(_streams(), 60)


def paths() -> Iterable[Case]:
    return _draw(_paths(), 150)
