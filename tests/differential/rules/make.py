# SPDX-License-Identifier: Apache-2.0
"""Forms of rules. A rule that does not apply returns Triton's answer as it is."""

from __future__ import annotations

import re
from collections.abc import Callable

from differential.case import NO_ANSWER, Answer, Case, Http, error_text
from differential.documented import Rule

__all__ = ["When", "is_fault", "reads", "refused", "same_fault", "served", "status"]

#: a condition on the request
When = Callable[[Case], bool]

_OK = (200, "OK")
#: the statuses of a fault of the client
_FAULTS = (400, "INVALID_ARGUMENT")


def is_fault(answer: Answer) -> bool:
    return answer["status"] not in _OK


def _protocol(case: Case) -> str:
    return "http" if isinstance(case.request, Http) else "grpc"


def reads(pattern: str, text: str) -> bool:
    """Whether ``text`` has the form ``pattern``, as a whole."""
    return re.fullmatch(pattern, text, re.DOTALL) is not None


def refused(
    pyinfer: str, *, when: When | None = None, statuses: tuple[object, ...] = _FAULTS, triton: str = ""
) -> Rule:
    """pyinfer refuses, in the form ``pyinfer``, what Triton serves or refuses in the form ``triton``."""

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        if ours["status"] not in statuses or not reads(pyinfer, error_text(ours)) or (when and not when(case)):
            return theirs
        if theirs["status"] in NO_ANSWER and "error" not in theirs:
            return theirs
        fitting = not is_fault(theirs) or (triton and reads(triton, error_text(theirs)))
        return ours if fitting else theirs

    return rule


def served(triton: str, *, when: When | None = None) -> Rule:
    """Triton refuses the request with a text of the form ``triton``, pyinfer serves it."""

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        applies = is_fault(theirs) and not is_fault(ours) and reads(triton, error_text(theirs))
        return ours if applies and (when is None or when(case)) else theirs

    return rule


def status(before: object, after: object, triton: str, *, when: When | None = None) -> Rule:
    """An error of the form ``triton`` has another status."""

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        if theirs["status"] != before or ours["status"] != after or not reads(triton, error_text(theirs)):
            return theirs
        return {**theirs, "status": after} if when is None or when(case) else theirs

    return rule


def same_fault(triton: str, pyinfer: str = "") -> Rule:
    """One fault, two texts; ``pyinfer`` is of the same form where it is empty.

    Groups of the same name must have matched the same text. Statuses are left alone.
    """

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        one = re.fullmatch(triton, error_text(theirs), re.DOTALL)
        other = re.fullmatch(pyinfer or triton, error_text(ours), re.DOTALL)
        if not one or not other or not is_fault(theirs) or not is_fault(ours):
            return theirs
        groups, others = one.groupdict(), other.groupdict()
        if any(groups[name] != others[name] for name in groups.keys() & others.keys()):
            return theirs
        return {**theirs, "error": ours["error"]}

    return rule
