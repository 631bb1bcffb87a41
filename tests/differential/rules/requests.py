# SPDX-License-Identifier: Apache-2.0
"""Differences in what a request may say, over both protocols, and in what models may answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from differential.case import Answer, Call, Case, Http, error_text, same
from differential.documented import Rule
from differential.rules.make import is_fault, refused, same_fault, served
from pyinfer.config.messages import message

__all__ = ["RULES"]


def _output_order(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Outputs in the order of pyinfer's answer, with their binary parts."""
    for part in ("json", "message"):
        one, other = theirs.get(part), ours.get(part)
        if not isinstance(one, dict) or not isinstance(other, dict) or same(one, other):
            continue
        names = [output.get("name") for output in one.get("outputs", [])]
        wanted = [output.get("name") for output in other.get("outputs", [])]
        if names == wanted or sorted(map(str, names)) != sorted(map(str, wanted)) or len(set(names)) != len(names):
            continue
        places = [names.index(name) for name in wanted]
        ordered = {**one, "outputs": [one["outputs"][place] for place in places]}
        if "raw_output_contents" in one:
            ordered["raw_output_contents"] = [one["raw_output_contents"][place] for place in places]
        answer = {**theirs, part: ordered}
        if "binary" in theirs:
            answer["binary"] = b"".join(_blobs(one, theirs["binary"])[place] for place in places)
        return answer
    return theirs


def _blobs(document: dict[str, Any], binary: bytes) -> list[bytes]:
    blobs, at = [], 0
    for output in document["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        blobs.append(binary[at : at + size])
        at += size
    return blobs


def _response_parameters(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """The model ``inspect`` keeps parameters whose name begins with ``keep``; what it says that it saw proves them."""
    for part in ("json", "message"):
        one, other = theirs.get(part), ours.get(part)
        if not isinstance(one, dict) or not isinstance(other, dict) or "parameters" in one or "parameters" not in other:
            continue
        seen = [
            output["data"][0] for output in other.get("outputs", []) if output["name"] == "REQUEST" and "data" in output
        ]
        kept = {key: value for key, value in seen[0]["parameters"].items() if key.startswith("keep")} if seen else {}
        told = {key: _value(value) for key, value in other["parameters"].items()}
        return {**theirs, part: {**one, "parameters": other["parameters"]}} if same(kept, told) else theirs
    return theirs


def _value(parameter: Any) -> Any:
    return next(iter(parameter.values())) if isinstance(parameter, dict) else parameter


def _until_nul(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Triton hands a model the part of a text that is before its first NUL."""
    if not _cut(theirs, ours):
        return theirs
    return ours


def _cut(theirs: Any, ours: Any) -> bool:
    """Whether ``theirs`` is ``ours`` with texts cut at NUL, and the sizes that follow from it."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        sizes = theirs.get("name") == "SIZE"
        return theirs.keys() == ours.keys() and (sizes or all(_cut(value, ours[key]) for key, value in theirs.items()))
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(theirs) == len(ours) and all(map(_cut, theirs, ours))
    if isinstance(theirs, str) and isinstance(ours, str):
        return theirs in {ours, ours.split("\0")[0]}
    return same(theirs, ours)


def _says_no_sequence(case: Case) -> bool:
    if isinstance(case.request, Http):
        return b'"sequence_id":""' in case.request.body
    return isinstance(case.request, Call) and b"sequence_id\x12\x02\x1a\x00" in case.request.request


def _no_sequence(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """What the model ``inspect`` saw of ``"sequence_id": ""``; the text that it answers is one character shorter."""
    if not _says_no_sequence(case):
        return theirs
    text = json.dumps(theirs).replace('"correlation": ""', '"correlation": 0').replace("[105]", "[104]")
    return dict(json.loads(text))


def _shapes(case: Case) -> list[int]:
    """All dimensions that a call of ModelInfer names."""
    if not isinstance(case.request, Call) or case.request.rpc != "ModelInfer":
        return []
    request: Any = message("ModelInferRequest").FromString(case.request.request)
    return [dim for tensor in request.inputs for dim in tensor.shape]


def _negative(case: Case) -> bool:
    return any(dim < 0 for dim in _shapes(case))


def _huge(case: Case) -> bool:
    return any(dim >= 2**31 for dim in _shapes(case))


def _wide_classification(case: Case, theirs: Answer, ours: Answer) -> Answer:
    wide = isinstance(case.request, Http) and re.search(rb'"classification": ?\d{10,}', case.request.body)
    return ours if wide and not is_fault(theirs) and not is_fault(ours) else theirs


def _beyond_int64(case: Case) -> bool:
    return isinstance(case.request, Http) and re.search(rb"\d{19,}", case.request.body) is not None


_ZERO = r"\[request id: .*\] input byte size mismatch for input '.*' for model '.*'\. Expected .*, got 0"

_CORRID_TEXT = r"unexpected number of string elements \d+ for inference input 'CORRID', expecting 1"


def _round_that_waits_for_itself(case: Case, theirs: Answer, ours: Answer) -> Answer:
    asked = isinstance(case.request, Http) and "/rounds_in_order/" in case.request.target
    return ours if asked and theirs["status"] == "no answer in time" else theirs


RULES: dict[str, Sequence[Rule]] = {
    "request-id": (
        refused(
            "the request id (has \\d+ bytes, at most 4096 are allowed|contains a control character)",
            triton="(?!the request id).*",
        ),
    ),
    "outputs-order": (_output_order,),
    "outputs-twice": (refused("output '.*' already exists in request"),),
    "input-required": (refused("input '.*' is required for model '.*'"),),
    "batch-zero": (served(_ZERO),),
    "response-parameters": (_response_parameters,),
    "model-outputs": (
        refused(
            "the model '.*' did not return its output '.*'|the model returned an unknown output '.*' of model '.*'"
            "|the (shape|data type) of output '.*' of model '.*' is .*, expected .*",
            statuses=(500, "INTERNAL"),
        ),
    ),
    "model-traceback": (
        same_fault(
            r"(?P<start>(in ensemble '.*', )?Failed to process the request\(s\) for model '.*', message: )"
            r"(?P<error>[^\n]*)\n\nAt:\n.*",
            r"(?P<start>(in ensemble '.*', )?Failed to process the request\(s\) for model '.*', message: )"
            r"(?P<error>[^\n]*)",
        ),
    ),
    "text-nul": (
        _until_nul,
        lambda case, theirs, ours: (
            {**theirs, "error": ours["error"]}
            if "\0" in error_text(ours) and error_text(theirs) == error_text(ours).replace("\0", "")
            else theirs
        ),
    ),
    "classification-wide": (_wide_classification,),
    "shape-negative": (
        refused(
            r"\[request id: .*\] (inference request batch-size must be >= 0|unexpected shape) .*",
            when=_negative,
            triton=".*",
        ),
    ),
    "sequence-id-empty": (_no_sequence,),
    "ordered-rounds": (_round_that_waits_for_itself,),
    "sequence-id-type": (
        refused("model '.*' expects a correlation ID of type .*, got (an integer|a string)", triton=_CORRID_TEXT),
    ),
    "sequence-id-text": (served(_CORRID_TEXT),),
    "shape-too-large": (
        refused(
            "the shape .* of input '.*' is too large",
            triton="Unable to parse 'data': Shape does not match .*|.* (input byte size mismatch|unexpected shape) .*",
        ),
        refused(
            r"\[request id: .*\] (the shape .* is too large|inference request batch-size must be <= .*)",
            when=_huge,
            triton=".*",
        ),
        refused("Unable to parse 'shape': it has more than 64 dimensions", triton="Unable to parse 'data': Shape .*"),
        refused(
            "Unable to parse 'shape': attempt to access JSON non-unsigned-.*",
            triton="Unable to parse 'data': Shape .*",
            when=_beyond_int64,
        ),
    ),
    "raw-bytes-wildcard": (
        served(r"\[request id: .*\] For BYTE datatype raw input '.*', the model must have input shape \[1\]"),
    ),
    "empty-final-http": (
        same_fault(
            "parameter keys starting with 'triton_' are reserved .*",
            "parameter 'triton_enable_empty_final_response' has invalid type.*",
        ),
        served(
            "parameter keys starting with 'triton_' are reserved .*",
            when=lambda case: (
                isinstance(case.request, Http) and b"triton_enable_empty_final_response" in case.request.body
            ),
        ),
    ),
}
