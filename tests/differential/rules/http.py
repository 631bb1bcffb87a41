# SPDX-License-Identifier: Apache-2.0
"""Differences in HTTP itself: headers, verbs, paths, compression."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from differential.case import Answer, Call, Case, Http, error_text
from differential.documented import Rule
from differential.rules.make import reads, refused, same_fault, served, status

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
    if _is_head(case) or "content-type" not in headers or theirs.keys() & {"error", "json", "text", "binary", "events"}:
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


def _transfer_encoding(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A coding in upper case is none for Triton: it reads no body, and answers a request without one."""
    upper = isinstance(case.request, Http) and b"Transfer-Encoding: CHUNKED" in case.request.raw
    return ours if upper and ours["status"] == 200 else theirs


def _blanks(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A blank at the end of the value of a header or of metadata: no part of it over HTTP, malformed over HTTP/2."""
    headers = case.request.headers if isinstance(case.request, Http) else case.request.metadata
    if isinstance(case.request, Http):
        if any(value.endswith(" ") for _, value in headers) and reads("This API is restricted, .*", error_text(theirs)):
            return ours
        return _with_parameters(theirs, ours, lambda name, value: {name: value.rstrip(" ")})
    blank = any(value.endswith(" ") for _, value in headers)
    return ours if blank and ours["status"] == "INTERNAL" and "RST_STREAM" in error_text(ours) else theirs


def _with_parameters(theirs: Answer, ours: Answer, kept: Callable[[str, str], dict[str, str]]) -> Answer:
    """What the model ``inspect`` saw of forwarded headers, if ``kept`` of each is what it saw in pyinfer."""
    one, other = _seen(theirs), _seen(ours)
    if one is None or other is None or one == other:
        return theirs
    wanted: dict[str, str] = {}
    for name, value in one.items():
        wanted |= kept(name, value)
    return ours if wanted == other else theirs


def _seen(answer: Answer) -> dict[str, str] | None:
    document = answer.get("json")
    for output in document.get("outputs", ()) if isinstance(document, dict) else ():
        if output["name"] == "REQUEST" and "data" in output:
            parameters: dict[str, str] = output["data"][0]["parameters"]
            return parameters
    return None


def _keys(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """The headers whose values are the keys of restricted APIs are not for models."""
    if not isinstance(case.request, Http) or not any(name in {"admin", "ops"} for name, _ in case.request.headers):
        return theirs
    return _with_parameters(theirs, ours, lambda name, value: {} if name in {"admin", "ops"} else {name: value})


def _odd_length(case: Case) -> bool:
    if not isinstance(case.request, Http):
        return False
    values = [value for name, value in case.request.headers if name.lower() == "inference-header-content-length"]
    return any(re.fullmatch("[0-9]+", value) is None or int(value) >= 2**31 for value in values)


_NOT_FOUND = r"Request for unknown model: '(?P<model>.*?)'( version \d+)? is not found"
_UNKNOWN = rf"{_NOT_FOUND}|failed to load '.*', failed to poll from model repository"
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
        lambda case, theirs, ours: (
            {**ours}
            if isinstance(case.request, Call)
            and case.request.rpc == "ModelReady"
            and theirs == {"status": "OK", "message": {}}
            and ours["status"] == "NOT_FOUND"
            and re.fullmatch(_NOT_FOUND, error_text(ours))
            else theirs
        ),
    ),
    "url-decoded": (
        served(_UNKNOWN, when=_decoded),
        refused("malformed percent-encoding in the URL|the URL is not UTF-8", when=_decoded, triton=_UNKNOWN),
        same_fault(r"Request for unknown model: '.*%.*' is not found", r"Request for unknown model: '.*' is not found"),
    ),
    "url-names": (
        refused(
            "invalid model name '.*', model name must not contain path traversal or control characters",
            triton=f"{_UNKNOWN}|load failed for model '.*': at least one version .*",
        ),
    ),
    "content-encoding-unknown": (status(501, 415, _UNKNOWN_ENCODING),),
    "content-encoding-case": (served(_UNKNOWN_ENCODING),),
    "content-encoding-control": (
        refused("a control request can not be compressed", when=_encoded_control, statuses=(415,)),
    ),
    "accept-encoding-form": (_accepted,),
    "transfer-encoding-case": (_transfer_encoding,),
    "header-blanks": (_blanks,),
    "header-reserved": (refused("Header '.*' is reserved for Triton usage and cannot be forwarded."),),
    "header-keys": (_keys,),
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
