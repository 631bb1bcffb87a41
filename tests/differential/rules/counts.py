# SPDX-License-Identifier: Apache-2.0
"""Differences in statistics and metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from differential.case import Answer, Case
from differential.documented import Rule

__all__ = ["RULES"]


def _no_copies(case: Case, theirs: Answer, ours: Answer) -> Answer:
    """Statistics: the times that Triton needs to hand tensors to a model's process and back."""
    if _statistics(theirs) is None or _statistics(ours) is None:
        return theirs
    return dict(_without_copies(theirs, ours))


def _statistics(answer: Answer) -> Any:
    document = answer.get("json", answer.get("message"))
    return document.get("model_stats") if isinstance(document, dict) else None


def _at(times: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """A count and a time, with the time that pyinfer has."""
    others = {name: value for name, value in times.items() if name != "ns"}
    return {**others, "ns": ours["ns"]} if "ns" in ours else others


def _without_copies(theirs: Any, ours: Any) -> Any:
    if isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        return [_without_copies(one, other) for one, other in zip(theirs, ours, strict=True)]
    if not isinstance(theirs, dict) or not isinstance(ours, dict):
        return theirs
    return {
        key: _at(value, ours.get(key, {}))
        if key in {"compute_input", "compute_output"} and ours.get(key, {}).get("ns", 0) == 0
        else _without_copies(value, ours.get(key))
        for key, value in theirs.items()
    }


def _more_metrics(prefix: str) -> Rule:
    """Lines of a family that pyinfer has in addition."""

    def rule(case: Case, theirs: Answer, ours: Answer) -> Answer:
        one, other = theirs.get("text"), ours.get("text")
        if not isinstance(one, list) or not isinstance(other, list):
            return theirs
        more = [line for line in other if re.match(rf"(# (HELP|TYPE) )?{prefix}", line)]
        return {**theirs, "text": sorted({*one, *more})}

    return rule


RULES: dict[str, Sequence[Rule]] = {
    "metrics-own": (_more_metrics("pyinfer_"),),
    "metrics-load": (_more_metrics("nv_model_load_duration_secs"),),
    "statistics-copies": (_no_copies,),
}
