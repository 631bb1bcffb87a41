# SPDX-License-Identifier: Apache-2.0
"""Rules for what a model sees of the models that it calls: the notes of ``caller``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from differential.case import Answer, Case
from differential.documented import Rule

__all__ = ["RULES"]

Notes = list[Any]


def _notes(answer: Answer) -> Notes | None:
    """What the model tells; None where the answer is not one of these."""
    body = answer.get("json")
    outputs = body.get("outputs", []) if isinstance(body, dict) else []
    if len(outputs) != 1 or outputs[0]["name"] != "NOTES" or body["model_name"] != "caller":
        return None
    found: Notes = json.loads(outputs[0]["data"][0])
    return found


def _told(change: Callable[[Notes, Notes], bool]) -> Rule:
    """Takes our notes for theirs where ``change(theirs, ours)`` says that they differ in nothing else."""

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        one, other = _notes(theirs), _notes(ours)
        if one is None or other is None or not change(one, other):
            return theirs
        return {**theirs, "json": {**theirs["json"], "outputs": ours["json"]["outputs"]}}

    return rule


def _traceback(theirs: Notes, ours: Notes) -> bool:
    """One error, with a traceback behind it."""
    text = theirs[0][2] if theirs[0][0] == "error" else ""
    bare = re.fullmatch(r"([^\n]*)\n\nAt:\n.*", text, re.DOTALL)
    return bare is not None and ours == [["error", theirs[0][1], bare[1]]]


def _code(theirs: Notes, ours: Notes) -> bool:
    """One error, of which only the code differs, and theirs is INTERNAL."""
    return theirs[0][:2] == ["error", 1] and ours[0][0] == "error" and theirs[0][2:] == ours[0][2:]


def _lost(theirs: Notes, ours: Notes) -> bool:
    """Responses of a decoupled model, of which theirs are without the errors."""
    return isinstance(ours[0][0], list) and theirs[0] == [told for told in ours[0] if told[0] != "error"]


RULES: dict[str, Sequence[Rule]] = {
    "call-traceback": (_told(_traceback),),
    "call-code": (_told(_code),),
    "call-lost-error": (_told(_lost),),
}
