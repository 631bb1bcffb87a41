# SPDX-License-Identifier: Apache-2.0
"""Differences of ensembles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from differential.case import Answer, Call, Case, Http, StreamCall, same
from differential.corpus.build import grpc_infer
from differential.documented import Rule

__all__ = ["RULES"]

_NO_ELEMENTS = ([("IN", "FP32", [2, 0])], [b""])


def _limit(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """A field of the configuration that there was not in 2.51."""
    config = theirs.get("json")
    if not isinstance(config, dict) or "ensemble_scheduling" not in config:
        return theirs
    scheduling = {**config["ensemble_scheduling"], "max_inflight_requests": 0}
    return {**theirs, "json": {**config, "ensemble_scheduling": scheduling}}


def _has_no_elements(case: Case) -> bool:
    if isinstance(case.request, Http):
        return "/chain/" in case.request.target and b'"shape": [2, 0]' in case.request.body
    return isinstance(case.request, Call) and case.request.request == grpc_infer("chain", *_NO_ELEMENTS).request


def _parameters(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """What an ensemble says of its sequence: Triton says it with data alone."""
    for part in ("json", "message"):
        one, other = theirs.get(part), ours.get(part)
        if _has_no_elements(case) and isinstance(one, dict) and isinstance(other, dict) and "parameters" not in one:
            told = other.get("parameters", {})
            if told.keys() <= {"sequence_id", "sequence_start", "sequence_end"}:
                return {**theirs, part: {**one, "parameters": told}}
    return theirs


def _final(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Which response of a decoupled step is the final one: the last one or, later, one without outputs."""
    if not isinstance(case.request, StreamCall) or theirs["status"] != "OK" or not theirs.get("messages"):
        return theirs
    if any(data[2:6] != b"each" for data in case.request.requests):
        return theirs
    fits = same(_unmarked(theirs), _unmarked(ours)) and _finals(theirs) in ([], [len(theirs["messages"]) - 1])
    return ours if fits else theirs


def _unmarked(answer: Answer) -> list[dict[str, Any]]:
    """The responses with outputs, without what says which one is the final one."""
    responses = [entry["infer_response"] for entry in answer["messages"] if "infer_response" in entry]
    kept = [response for response in responses if "outputs" in response]
    return [
        {
            **response,
            "parameters": {k: v for k, v in response.get("parameters", {}).items() if k != "triton_final_response"},
        }
        for response in kept
    ]


def _finals(answer: Answer) -> list[int]:
    return [
        place
        for place, entry in enumerate(answer["messages"])
        if entry["infer_response"].get("parameters", {}).get("triton_final_response") == {"bool_param": True}
    ]


RULES: dict[str, Sequence[Rule]] = {
    "ensemble-limit": (_limit,),
    "ensemble-no-elements": (_parameters,),
    "ensemble-final": (_final,),
}
