# SPDX-License-Identifier: Apache-2.0
"""Differences in gRPC itself: messages that are none, methods that there are not, versions, contents."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from differential.case import Answer, Call, Case, StreamCall, error_text
from differential.documented import Rule
from differential.rules.make import reads, refused, same_fault, served
from pyinfer.config.messages import message

__all__ = ["RULES"]

#: errors of the scheduler, when a request is put into a queue
_SCHEDULER = r".* must specify .*|\[request id: .*\] Exceeds maximum queue size"
_NOT_FOUND = "Request for unknown model: '.*' version [01] is not found"
_VERSION_FORM = r"failed to get model version from specified version string '(?P<version>.*)' .*"
_NO_MESSAGE = (
    "failed to parse the [A-Za-z]+ request message"
    "|failed to parse the request: (it|a string field of [A-Za-z]+) is not (a valid [A-Za-z]+ message|valid UTF-8)"
)


def _parsed(case: Case) -> Any:
    """The ModelInferRequest of a case; None where it has none."""
    if not isinstance(case.request, Call) or case.request.rpc != "ModelInfer":
        return None
    try:
        return message("ModelInferRequest").FromString(case.request.request)
    except ValueError:
        return None


def _malformed(case: Case, theirs: Answer, ours: Answer) -> Answer:
    if (theirs["status"], error_text(theirs)) != ("INTERNAL", "Unable to parse request"):
        return theirs
    fits = ours["status"] == "INVALID_ARGUMENT" and re.fullmatch(_NO_MESSAGE, error_text(ours))
    return ours if fits else theirs


def _has_group(case: Case) -> bool:
    return isinstance(case.request, Call) and case.request.request == b"\x0b\x0c"


def _is_lenient(case: Case) -> bool:
    """Whether C reads a number at the start of the version that is not all of it."""
    version = getattr(_parsed(case), "version", None) or getattr(_parsed(case), "model_version", "")
    if isinstance(case.request, Call) and not version:
        version = case.request.request.decode("latin-1").rsplit("\x12", 1)[-1][1:]
    return re.match(r"\s*[+]?\d", version) is not None and re.fullmatch(r"\d+", version) is None


def _no_elements(case: Case) -> bool:
    request = _parsed(case)
    return request is not None and any(0 in tensor.shape for tensor in request.inputs)


_CONTENTS = {"int_contents", "uint_contents"}


def _beyond(case: Case) -> bool:
    request = _parsed(case)
    if request is None:
        return False
    for tensor in request.inputs:
        bits = re.fullmatch(r"(U?)INT(8|16)", tensor.datatype)
        if bits:
            size = int(bits[2])
            low, high = (0, 2**size) if bits[1] else (-(2 ** (size - 1)), 2 ** (size - 1))
            values = (*tensor.contents.int_contents, *tensor.contents.uint_contents)
            if any(not low <= value < high for value in values):
                return True
    return False


def _as_status(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """The first error ends the stream: what Triton says in a message is the status of pyinfer."""
    if not isinstance(case.request, StreamCall) or ("triton_grpc_error", "true") not in case.request.metadata:
        return theirs
    errors = [message["error_message"] for message in theirs.get("messages", ()) if "error_message" in message]
    if theirs["status"] != "OK" or len(errors) != 1 or ours["status"] not in {"INVALID_ARGUMENT", "NOT_FOUND"}:
        return theirs
    return {"status": ours["status"], "error": errors[0], "messages": []}


def _refused_in_stream(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Errors of the scheduler: pyinfer says whose they are, as it does for all errors after the request was read."""
    told = {"triton_final_response": {"bool_param": True}}
    messages = []
    for one, other in zip(theirs.get("messages", ()), ours.get("messages", ()), strict=False):
        inner = one.get("infer_response", {})
        fuller = {**inner, "model_name": other.get("infer_response", {}).get("model_name"), "parameters": told}
        scheduler = reads(_SCHEDULER, one.get("error_message", "")) and "model_name" not in inner
        messages.append({**one, "infer_response": fuller} if scheduler else one)
    return {**theirs, "messages": messages} if messages and len(messages) == len(theirs["messages"]) else theirs


def _closed(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A message of a stream that is none: Triton takes it for the end of the client's requests."""
    malformed = isinstance(case.request, StreamCall) and any(data.startswith(b"\xff") for data in case.request.requests)
    if not malformed or theirs != {"status": "OK", "messages": []} or ours["status"] != "OK":
        return theirs
    return (
        ours
        if [message.get("error_message", "")[:15] for message in ours["messages"]] == ["failed to parse"]
        else theirs
    )


RULES: dict[str, Sequence[Rule]] = {
    "grpc-malformed": (_malformed,),
    "stream-malformed": (_closed,),
    "stream-as-status": (_as_status,),
    "stream-refused": (_refused_in_stream,),
    "grpc-groups": (refused(_NO_MESSAGE, when=_has_group, triton=".*"),),
    "grpc-unknown-method": (same_fault("", "unknown method /.*"),),
    "version-lenient": (
        refused(
            _VERSION_FORM,
            when=_is_lenient,
            triton="Request for unknown model: .* is not found|requested model version is not available for model .*",
        ),
    ),
    "version-beyond": (
        refused(
            r"Request for unknown model: version \d{19,} is not found",
            statuses=("NOT_FOUND",),
            triton=r"failed to get model version from specified version string '\d{19,}' .*",
        ),
    ),
    "text-version": (
        same_fault(_VERSION_FORM),
        same_fault(r"invalid model version specified '(?P<version>.*)' , .*", _VERSION_FORM),
    ),
    "grpc-raw-extra": (refused(r"raw_input_contents has \d+ entries for \d+ inputs of model '.*'"),),
    "grpc-contents-range": (
        refused("an element of input tensor '.*' for model '.*' does not fit datatype '.*'", when=_beyond),
    ),
    "grpc-no-elements": (
        served("unable to find data for input tensor '.*' for model '.*' in request.", when=_no_elements),
    ),
    "text-datatype": (
        same_fault(
            r"\[request id: .*\] inference input '(?P<name>.*)' data-type is '<invalid>', "
            "but model '(?P<model>.*)' expects '.*'",
            "invalid datatype '.*' of input tensor '(?P<name>.*)' for model '(?P<model>.*)'",
        ),
        same_fault(
            "unable to find data for input tensor '(?P<name>.*)' for model '(?P<model>.*)' in request.",
            "invalid datatype '.*' of input tensor '(?P<name>.*)' for model '(?P<model>.*)'",
        ),
    ),
    "timeout-negative": (
        refused(
            "parameter 'timeout' has invalid type, expecting a non-negative integer",
            when=lambda case: b"timeout" in getattr(case.request, "request", b""),
        ),
    ),
}
