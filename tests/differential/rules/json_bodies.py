# SPDX-License-Identifier: Apache-2.0
"""Differences in what is JSON, and in what is said about values that are not as they should be."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from differential.case import Answer, Case, Http
from differential.documented import Rule
from differential.over_http import inflated
from differential.rules.make import refused, same_fault, status

__all__ = ["RULES"]

_PARSER = "failed to parse the request JSON buffer: .*"
#: what Triton's JSON helpers say, all of which it reports as its own fault
_HELPERS = (
    rf"{_PARSER}|Unable to (parse|set) .*|failed to get request params\.: attempt to get members for non-object"
    r"|attempt to .*|Shape does not match true shape of 'data' field|Expected JSON object for keyword: .*"
)


class _NotStrict(Exception):
    pass


class _Duplicate(Exception):
    pass


def _refuse(_: str) -> Any:
    raise _NotStrict


def _integer(text: str) -> int:
    if not -(2**63) <= int(text) < 2**64:
        raise _NotStrict
    return int(text)


def _number(text: str) -> float:
    if abs(float(text)) == float("inf"):
        raise _NotStrict
    return float(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) != len(pairs):
        raise _Duplicate
    return dict(pairs)


def _json_part(case: Case) -> bytes:
    """The bytes of a request that should be JSON."""
    if not isinstance(case.request, Http):
        return b""
    body = inflated(case.request.headers, case.request.body)
    for name, value in case.request.headers:
        if name.lower() == "inference-header-content-length" and value.isdigit():
            return body[: int(value)]
    return body


def _is_strict(case: Case) -> bool:
    """Whether the body is a JSON object by the letter: UTF-8, no mark at its start, finite numbers of 64 bits."""
    try:
        document = json.loads(
            _json_part(case).decode(), parse_constant=_refuse, parse_int=_integer, parse_float=_number, strict=True
        )
        json.dumps(document, ensure_ascii=False).encode()  # lone surrogates are no text
    except (ValueError, RecursionError, _NotStrict):
        return False
    return isinstance(document, dict)


def _has_duplicates(case: Case) -> bool:
    try:
        json.loads(_json_part(case), object_pairs_hook=_unique)
    except _Duplicate:
        return True
    except ValueError:
        return False
    return False


def _document(case: Case) -> dict[str, Any]:
    try:
        document = json.loads(_json_part(case))
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _tensors(case: Case, member: str) -> Iterator[dict[str, Any]]:
    entries = _document(case).get(member)
    yield from (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()


def _leaves(data: Any) -> Iterator[Any]:
    if isinstance(data, list):
        for entry in data:
            yield from _leaves(entry)
    else:
        yield data


def _is_ragged(case: Case) -> bool:
    return any(_depths(entry.get("data")) is None for entry in _tensors(case, "inputs"))


def _depths(data: Any) -> tuple[int, ...] | None:
    """The shape of nested lists; None where they have none."""
    if not isinstance(data, list):
        return ()
    shapes = {_depths(entry) for entry in data}
    if len(shapes) > 1 or None in shapes:
        return None
    return (len(data), *(shapes.pop() if shapes else ()))  # type: ignore[misc]


def _out_of_range(case: Case) -> bool:
    return any(
        _beyond(entry.get("datatype"), leaf)
        for entry in _tensors(case, "inputs")
        for leaf in _leaves(entry.get("data"))
    ) or _out_of_range_in_generate(case)


def _out_of_range_in_generate(case: Case) -> bool:
    """Members are inputs, and a model of this corpus that has a data type as its name is of that type."""
    found = re.fullmatch("/v2/models/(u?int[0-9]+)/generate(_stream)?", getattr(case.request, "target", ""))
    return found is not None and _beyond(found[1].upper(), _document(case).get("INPUT0"))


def _beyond(datatype: object, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if datatype == "FP32":
        return abs(value) > 3.4028235677973366e38
    match = re.fullmatch(r"(U?)INT(\d+)", str(datatype))
    if not match:
        return False
    low, high = (0, 2 ** int(match[2])) if match[1] else (-(2 ** (int(match[2]) - 1)), 2 ** (int(match[2]) - 1))
    return not low <= value < high


def _parameters_are_no_object(case: Case) -> bool:
    tensors = (*_tensors(case, "inputs"), *_tensors(case, "outputs"))
    return any(not isinstance(entry.get("parameters", {}), dict) for entry in tensors)


def _custom_integer(case: Case) -> bool:
    parameters = _document(case).get("parameters")
    values = parameters.values() if isinstance(parameters, dict) else ()
    return any(type(value) is int and value >= 2**63 for value in values)


def _outputs(case: Case, theirs: Answer, ours: Answer, datatype: str, equal: Callable[[float, float], bool]) -> Answer:
    """Triton's answer with those floats of pyinfer's that are ``equal`` to its own."""
    one, other = theirs.get("json"), ours.get("json")
    if not isinstance(one, dict) or not isinstance(other, dict):
        return theirs
    outputs, others = one.get("outputs", []), other.get("outputs", [])
    merged = [_merge(a, b, datatype, equal) for a, b in zip(outputs, others, strict=False)]
    return {**theirs, "json": {**one, "outputs": merged}} if len(merged) == len(outputs) and merged else theirs


def _merge(
    theirs: dict[str, Any], ours: dict[str, Any], datatype: str, equal: Callable[[float, float], bool]
) -> dict[str, Any]:
    a, b = theirs.get("data"), ours.get("data")
    if theirs.get("datatype") != datatype or not isinstance(a, list) or not isinstance(b, list) or len(a) != len(b):
        return theirs
    pairs = zip(a, b, strict=True)
    return {**theirs, "data": [y if type(x) is type(y) is float and equal(x, y) else x for x, y in pairs]}


def _shortest_fp32(case: Case, theirs: Answer, ours: Answer) -> Answer:
    return _outputs(case, theirs, ours, "FP32", lambda x, y: struct.pack("<f", x) == struct.pack("<f", y))


def _exact_fp64(case: Case, theirs: Answer, ours: Answer) -> Answer:
    return _outputs(case, theirs, ours, "FP64", lambda x, y: math.isclose(x, y, rel_tol=1e-15))


RULES: dict[str, Sequence[Rule]] = {
    "json-status": (status(500, 400, _HELPERS),),
    "json-strict": (refused(_PARSER, when=lambda case: not _is_strict(case), triton="(?!failed to parse).*"),),
    "json-duplicates": (
        refused(
            r"failed to parse the request JSON buffer: Duplicate member name in .*", when=_has_duplicates, triton=".*"
        ),
    ),
    "json-ragged": (
        refused(
            "Unable to parse 'data': (the nested arrays of input '.*' are ragged, .*|Shape does not match .*)",
            when=_is_ragged,
        ),
    ),
    "json-range": (
        refused(
            "Unable to parse 'data': an element of input '.*' is not an? .* in the range of .*", when=_out_of_range
        ),
    ),
    "json-parameters-object": (
        refused(
            "Unable to parse 'parameters': attempt to access JSON non-object as object", when=_parameters_are_no_object
        ),
    ),
    "json-custom-integer": (refused(r"parameter '.*' has invalid type\. It should be .*", when=_custom_integer),),
    "json-fp32": (_shortest_fp32,),
    "json-fp64": (_exact_fp64,),
    "text-json-parser": (
        same_fault(
            r"failed to parse the request JSON buffer: .* at \d+", r"failed to parse the request JSON buffer: .*"
        ),
    ),
    "text-json-count": (
        same_fault(
            r"\[request id: .*\] (expected|unexpected number of) .*string elements .*"
            "|Unable to parse JSON bytes array: .*",
            "Unable to parse 'data': Shape does not match true shape of 'data' field: input '.*' of shape .*",
        ),
    ),
    "text-json-value": (
        same_fault(r"Unable to (parse|set) '(?P<name>.*?)': attempt to .*", r"Unable to parse '(?P<name>.*?)': .*"),
        same_fault(
            "Unable to parse JSON bytes array: attempt to .*",
            "Unable to parse 'data': an element of input '.*' is not a string, for BYTES",
        ),
        same_fault("failed to get request params.: attempt to .*", "Unable to parse 'parameters': attempt to .*"),
        same_fault(
            "Unable to parse 'name': attempt to access non-existing object member 'name'"
            "|Input must set only one of .* But no field is set",
            "Unable to parse '(outputs|inputs|name)': attempt to access .*",
        ),
    ),
}
