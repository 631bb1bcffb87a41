# SPDX-License-Identifier: Apache-2.0
"""What can not be the same in two runs: times, and the version of the server."""

from __future__ import annotations

import json
from typing import Any

from differential.case import Answer, Case

__all__ = ["model_view", "server_version", "statistics"]


def server_version(case: Case, answer: Answer) -> Answer:
    """Server metadata without the version of the server."""
    for part in ("json", "message"):
        document = answer.get(part)
        if isinstance(document, dict) and {"extensions", "version"} <= document.keys():
            return {**answer, part: {**document, "version": "<version>"}}
    return answer


def statistics(case: Case, answer: Answer) -> Answer:
    """Statistics with their counts only: a time says whether it is zero."""
    for part in ("json", "message"):
        document = answer.get(part)
        if isinstance(document, dict) and "model_stats" in document:
            return {**answer, part: _without_times(document)}
    return answer


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: "<time>" if key in {"ns", "last_inference"} and entry else _without_times(entry)
            for key, entry in value.items()
        }
    return [_without_times(entry) for entry in value] if isinstance(value, list) else value


def model_view(case: Case, answer: Answer) -> Answer:
    """Not a difference in itself: the text that the model ``inspect`` answers is compared as the JSON it is."""
    document = answer.get("json")
    if not isinstance(document, dict):
        return answer
    outputs = [
        {**output, "data": [json.loads(output["data"][0])]}
        if output["name"] == "REQUEST" and "data" in output
        else output
        for output in document.get("outputs", [])
    ]
    return {**answer, "json": {**document, "outputs": outputs}}
