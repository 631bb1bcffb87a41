# SPDX-License-Identifier: Apache-2.0
"""A section sent to both servers: which cases differ and why that is, or is not, as documented."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from differential.case import Answer, Call, Case, Http, Section, same
from differential.documented import explain
from differential.over_http import request_bytes
from differential.rules import RULES
from differential.servers import Pair

__all__ = ["Difference", "Outcome", "report", "run_section"]


@dataclass(frozen=True)
class Difference:
    """A case whose answers differ although the documented differences are taken into account."""

    case: Case
    triton: Answer
    pyinfer: Answer


@dataclass(frozen=True)
class Outcome:
    """What a section has shown."""

    section: Section
    count: int
    differences: list[Difference]
    #: key of each documented difference that was seen -> name of the first case that showed it
    shown: dict[str, str]


def run_section(section: Section, pair: Pair) -> Outcome:
    """Send the section and compare. Raises RuntimeError where a server has ended."""
    cases = list(section.cases())
    for name, count in Counter(case.name for case in cases).items():
        if count > 1:
            raise ValueError(f"section {section.name} has {count} cases of the name {name!r}")
    differences: list[Difference] = []
    shown: dict[str, str] = {}
    with section.within():
        answers = pair.ask(cases)
    for case, triton, pyinfer in answers:
        for normalise in section.normalise:
            triton, pyinfer = normalise(case, triton), normalise(case, pyinfer)
        explained, keys = explain(RULES, case, triton, pyinfer)
        for key in keys:
            shown.setdefault(key, case.name)
        if not same(explained, pyinfer):
            differences.append(Difference(case, explained, pyinfer))
    return Outcome(section, len(cases), differences, shown)


def report(outcome: Outcome) -> str:
    """What differs, for a reader: answers that differ in the same way together, and only the parts that do."""
    groups: dict[tuple[str, ...], list[Case]] = {}
    for difference in outcome.differences:
        lines: list[str] = []
        for path, triton, pyinfer in _parts(difference.triton, difference.pyinfer, ""):
            lines += [f"  {path}", f"    Triton   {_shorten(triton)}", f"    pyinfer  {_shorten(pyinfer)}"]
        groups.setdefault(tuple(lines), []).append(difference.case)
    text = [f"{len(outcome.differences)} of {outcome.count} answers of section '{outcome.section.name}' differ:"]
    for lines, cases in sorted(groups.items(), key=lambda group: -len(group[1])):
        text += [f"{len(cases)} answers: {_shorten('; '.join(case.name for case in cases), 300)}", *lines]
        text.append(f"  the first request: {_shorten(_request(cases[0]), 400)}")
    return "\n".join(text)


def _request(case: Case) -> object:
    request = case.request
    return (
        request_bytes(request)
        if isinstance(request, Http)
        else request.request
        if isinstance(request, Call)
        else request
    )


def _parts(one: Any, other: Any, path: str) -> Iterator[tuple[str, object, object]]:
    if same(one, other):
        return
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted({*one, *other}):
            yield from _parts(one.get(key, _NOTHING), other.get(key, _NOTHING), f"{path}.{key}" if path else str(key))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _parts(a, b, f"{path}[{index}]")
    else:
        yield path, one, other


class _Nothing:
    def __repr__(self) -> str:
        return "(absent)"


_NOTHING = _Nothing()


def _shorten(value: object, limit: int = 600) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit // 2]} ... {text[-limit // 2 :]}"
