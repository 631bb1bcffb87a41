# SPDX-License-Identifier: Apache-2.0
"""Differences that are in the text of an error alone."""

from __future__ import annotations

import re
from collections.abc import Sequence

from differential.case import Answer, Case, error_text
from differential.documented import Rule
from differential.rules.make import is_fault, same_fault

__all__ = ["RULES"]


def _detail(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """pyinfer's text is Triton's and then says more."""
    text = error_text(theirs).rstrip(". ")
    longer = text and error_text(ours).startswith(text) and len(error_text(ours)) > len(text)
    return {**theirs, "error": ours["error"]} if longer and is_fault(theirs) and is_fault(ours) else theirs


_LONG = re.compile(r"(x{60,})(\.\.\.)?(?=['\] ])")


def _long_name(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A name of the client that is very long is cut."""
    if len(error_text(ours)) > 1000 and error_text(theirs).startswith(error_text(ours)):
        return {**theirs, "error": ours["error"]}  # over gRPC the text has to fit into the trailers
    one, other = _LONG.search(error_text(theirs)), _LONG.search(error_text(ours))
    if not one or not other or not other[2] or not one[1].startswith(other[1]):
        return theirs
    return {**theirs, "error": error_text(theirs).replace(one[0], other[0])}


_ID = r"(?P<id>\[request id: .*\])"

RULES: dict[str, Sequence[Rule]] = {
    "text-detail": (_detail,),
    "text-input-lists": (
        same_fault(
            rf"(?P<start>{_ID} expected .* but got \d+ inputs for model '.*'\.) Got input\(s\) \[.*\], "
            r"but missing required input\(s\) .*\. (?P<end>Please .*)"
        ),
    ),
    "text-batch-mismatch": (
        same_fault(rf"{_ID} input '.*' batch size does not match other inputs for '(?P<model>.*)'"),
    ),
    "text-raw-input": (
        same_fault(
            rf"{_ID} input byte size mismatch for input 'raw_input' (?P<end>for model .*)",
            rf"{_ID} input byte size mismatch for input '.*' (?P<end>for model .*)",
        ),
    ),
    "text-first-input": (
        same_fault(rf"{_ID} input byte size mismatch for input '.*' for model '(?P<model>.*)'\. Expected .*"),
    ),
    "text-several": (
        same_fault(
            rf"{_ID} input '.*' has no shape but model requires batch dimension for '.*'",
            "Unable to parse 'data': Shape does not match true shape of 'data' field: .*",
        ),
    ),
    "text-long-names": (_long_name,),
    "text-string-prefix": (
        same_fault(
            "(?P<fault>incomplete string (data|length indicator) for inference input '.*'), expecting (?P<end>.*)",
            rf"{_ID} (?P<fault>incomplete string .* for inference input '.*') for model '.*', expecting (?P<end>.*)",
        ),
    ),
    "text-string-data": (
        same_fault(
            rf"{_ID} expected \d+ string elements for inference (?P<input>input '.*' for model '.*'), got \d+",
            rf"{_ID} incomplete string data for inference (?P<input>input '.*' for model '.*'), expecting .*",
        ),
    ),
    "text-parameter-type": (
        same_fault(
            r"Unable to parse '(?P<name>.*?)': attempt to access JSON .*",
            r"parameter '(?P<name>.*?)' has invalid type.*",
        ),
        same_fault(
            r"invalid value (type )?for '(?P<name>.*?)'( parameter)?, expected .*",
            r"(invalid value for )?parameter '(?P<name>.*?)'( has invalid type.*|: none of .*)",
        ),
        same_fault(
            r"parameter keys starting with 'triton_' are reserved .* are allowed: .*",
            r"parameter keys starting with 'triton_' are reserved .*, got '.*'",
        ),
    ),
}
