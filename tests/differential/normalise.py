# SPDX-License-Identifier: Apache-2.0
"""What can not be the same in two runs: times, and the version of the server."""

from __future__ import annotations

import json
from typing import Any

from differential.case import Answer, Case

__all__ = ["events", "index", "metrics", "model_view", "output_order", "server_version", "statistics"]


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
    if "message" in answer:
        return _model_view_of_message(answer)
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


def _model_view_of_message(answer: Answer) -> Answer:
    """As JSON has it: what the outputs hold is with them."""
    message = dict(answer["message"])
    outputs = [
        {**output, "data": [json.loads(data[4:]) if output["name"] == "REQUEST" else int.from_bytes(data, "little")]}
        for output, data in zip(message.get("outputs", []), message.pop("raw_output_contents", []), strict=True)
    ]
    return {**answer, "message": {**message, "outputs": outputs}}


def output_order(case: Case, answer: Answer) -> Answer:
    """Outputs by name: the peer's ensembles send them in the order of a hash table."""
    answer = dict(answer)
    for part in ("json", "message"):
        if isinstance(answer.get(part), dict):
            answer[part] = _by_name(answer[part])
    return answer


def _by_name(document: dict[str, Any]) -> dict[str, Any]:
    outputs = document.get("outputs", [])
    order = sorted(range(len(outputs)), key=lambda place: str(outputs[place].get("name")))
    ordered = {**document, "outputs": [outputs[place] for place in order]} if outputs else document
    raw = document.get("raw_output_contents")
    return {**ordered, "raw_output_contents": [raw[place] for place in order]} if raw else ordered


def index(case: Case, answer: Answer) -> Answer:
    """The repository index by name and version: its order is not promised."""
    if isinstance(answer.get("json"), list):
        return {**answer, "json": sorted(map(_unloaded, answer["json"]), key=_entry)}
    message = answer.get("message")
    if isinstance(message, dict) and "models" in message:
        return {**answer, "message": {**message, "models": sorted(map(_unloaded, message["models"]), key=_entry)}}
    return answer


def _unloaded(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry that is being unloaded as it is soon: the peer may answer the request that unloads before."""
    return {**entry, "state": "UNAVAILABLE", "reason": "unloaded"} if entry.get("state") == "UNLOADING" else entry


def _entry(entry: dict[str, Any]) -> tuple[str, str]:
    return entry["name"], entry.get("version", "")


def events(case: Case, answer: Answer) -> Answer:
    """A stream of events as the list of the documents in it."""
    if not isinstance(answer.get("text"), bytes):
        return answer
    blocks = answer["text"].split(b"\n\n")
    documents = [json.loads(block[len(b"data: ") :]) for block in blocks if block.startswith(b"data: ")]
    rest = [block for block in blocks if not block.startswith(b"data: ")]
    return {key: value for key, value in answer.items() if key != "text"} | {"events": documents, "rest": rest}


def metrics(case: Case, answer: Answer) -> Answer:
    """Families with their help and type, and which series there are of one model; values are those of statistics."""
    if not isinstance(answer.get("text"), bytes):
        return answer
    lines = answer["text"].decode().splitlines()
    of_model = [line.rpartition(" ")[0] for line in lines if 'model="counted"' in line]
    lines = [line for line in lines if line.startswith("#")] + of_model
    return {**answer, "text": sorted(set(lines))}
