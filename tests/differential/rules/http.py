# SPDX-License-Identifier: Apache-2.0
"""Differences in HTTP itself: headers, verbs, paths, compression."""

from __future__ import annotations

import re
from collections.abc import Sequence

from differential.case import Answer, Case, Http, error_text
from differential.documented import Rule
from differential.rules.make import refused, same_fault, served, status

__all__ = ["RULES"]


def _is_head(case: Case) -> bool:
    return isinstance(case.request, Http) and case.request.method == "HEAD"


def _type_of_errors(case: Case, theirs: Answer, ours: Answer) -> Answer:
    headers = theirs.get("headers", {})
    if not ("error" in theirs or _is_head(case)) or headers.get("content-type") != "text/plain":
        return theirs
    return {**theirs, "headers": {**headers, "content-type": "application/json"}}


def _no_type_without_body(case: Case, theirs: Answer, ours: Answer) -> Answer:
    headers = theirs.get("headers", {})
    if _is_head(case) or "content-type" not in headers or theirs.keys() & {"error", "json", "text", "binary"}:
        return theirs
    return {**theirs, "headers": {name: value for name, value in headers.items() if name != "content-type"}}


def _allow(case: Case, theirs: Answer, ours: Answer) -> Answer:
    if theirs["status"] != 405 or ours.get("headers", {}).get("allow") not in {"GET", "POST", "GET, POST"}:
        return theirs
    return {**theirs, "headers": {**theirs["headers"], "allow": ours["headers"]["allow"]}}


def _extensions(case: Case, theirs: Answer, ours: Answer) -> Answer:
    for part in ("json", "message"):
        one, other = theirs.get(part), ours.get(part)
        if isinstance(one, dict) and isinstance(other, dict) and "extensions" in one and "extensions" in other:
            known = [name for name in one["extensions"] if name in other["extensions"]]
            return {**theirs, part: {**one, "extensions": known}}
    return theirs


def _decoded(case: Case) -> bool:
    return isinstance(case.request, Http) and "%" in case.request.target


def _encoding(case: Case) -> str | None:
    if not isinstance(case.request, Http):
        return None
    return next((value for name, value in case.request.headers if name.lower() == "content-encoding"), None)


def _encoded_control(case: Case) -> bool:
    return _encoding(case) not in {None, "", "identity"} and "/infer" not in case.request.target  # type: ignore[union-attr]


def _is_compressed(case: Case) -> bool:
    return (_encoding(case) or "").strip().lower() in {"gzip", "deflate"}


def _accepted(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Blanks and upper case, and weights that are none, in Accept-Encoding."""
    value = (
        next((v for n, v in case.request.headers if n == "Accept-Encoding"), "")
        if isinstance(case.request, Http)
        else ""
    )
    if not re.search(r"[ A-Z]|q=(?!0|1)", value.replace(", ", ",")):
        return theirs
    headers = {name: text for name, text in theirs["headers"].items() if name != "content-encoding"}
    chosen = {name: text for name, text in ours["headers"].items() if name == "content-encoding"}
    return {**theirs, "headers": {**headers, **chosen}}


def _odd_length(case: Case) -> bool:
    if not isinstance(case.request, Http):
        return False
    values = [value for name, value in case.request.headers if name.lower() == "inference-header-content-length"]
    return any(re.fullmatch("[0-9]+", value) is None or int(value) >= 2**31 for value in values)


_NOT_FOUND = r"Request for unknown model: '(?P<model>.*?)'( version \d+)? is not found"
_UNKNOWN_ENCODING = "Unsupported compression type"

RULES: dict[str, Sequence[Rule]] = {
    "http-error-type": (_type_of_errors,),
    "http-empty-type": (_no_type_without_body,),
    "http-allow": (_allow,),
    "extensions": (_extensions,),
    "ready-unknown": (
        lambda case, theirs, ours: (
            {**ours}
            if (theirs["status"], error_text(theirs)) == (400, "Model version not ready")
            and ours["status"] == 404
            and re.fullmatch(_NOT_FOUND, error_text(ours))
            else theirs
        ),
    ),
    "url-decoded": (
        served(_NOT_FOUND, when=_decoded),
        refused("malformed percent-encoding in the URL|the URL is not UTF-8", when=_decoded, triton=_NOT_FOUND),
        same_fault(r"Request for unknown model: '.*%.*' is not found", r"Request for unknown model: '.*' is not found"),
    ),
    "url-names": (
        refused(
            "invalid model name '.*', model name must not contain path traversal or control characters",
            triton=_NOT_FOUND,
        ),
    ),
    "content-encoding-unknown": (status(501, 415, _UNKNOWN_ENCODING),),
    "content-encoding-case": (served(_UNKNOWN_ENCODING),),
    "content-encoding-control": (
        refused("a control request can not be compressed", when=_encoded_control, statuses=(415,)),
    ),
    "accept-encoding-form": (_accepted,),
    "gzip-damaged": (
        refused(
            "failed to decompress: .*",
            when=_is_compressed,
            triton="failed to parse the request JSON buffer: .*|nothing to be decompressed",
        ),
    ),
    "header-length-form": (
        refused(
            r"Unable to parse Inference-Header-Content-Length, got: .*|inference header size should be in range .*",
            when=_odd_length,
            triton=".*",
        ),
    ),
}
