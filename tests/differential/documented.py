# SPDX-License-Identifier: Apache-2.0
"""Differences that docs/differences.md explains: its rows, and the rules that recognise them in two answers.

A row's last column says what shows it. Mostly that is a key of this suite: a rule of that key says what Triton's answer
becomes under the documented difference; rules are applied until nothing changes, and where the outcome is what pyinfer
answers, the difference is explained by the rules that took part. What no request can show, such as flags and limits, is
shown by other tests, which the row names: ``contract/http/test_limits.py::test_slow_head``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from differential.case import Answer, Case, same

__all__ = ["PAGE", "Row", "Rule", "explain", "read_rows"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "differences.md"

#: (case, Triton's answer, pyinfer's answer) -> Triton's answer under the difference; the same one where it is none
Rule = Callable[[Case, Answer, Answer], Answer]

_COLUMNS = ("what", "Triton", "pyinfer", "why", "shown by")


@dataclass(frozen=True)
class Row:
    """A row of the page."""

    line: int
    what: str
    #: under which this suite knows it; empty for a row that other tests show
    key: str
    #: those other tests, as documents name them
    tests: tuple[str, ...] = ()


def read_rows(text: str | None = None) -> list[Row]:
    """The rows of all tables of differences. Raises ValueError, with the line, for a row that has another form."""
    rows: list[Row] = []
    inside = False
    for number, line in enumerate((PAGE.read_text() if text is None else text).splitlines(), 1):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("|") else []
        if not cells:
            inside = False
        elif cells == list(_COLUMNS):
            inside = True
        elif not inside and cells[:4] == list(_COLUMNS[:4]):
            raise ValueError(f"{PAGE.name}:{number}: the tables of differences have the columns {', '.join(_COLUMNS)}")
        elif inside and set(cells[0]) != {"-"}:
            shown_by = [part.strip("`") for part in cells[-1].split(", ")]
            is_key = len(shown_by) == 1 and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", shown_by[0]) is not None
            if len(cells) != len(_COLUMNS) or not (is_key or all("::" in part for part in shown_by)):
                raise ValueError(
                    f"{PAGE.name}:{number}: a row is | {' | '.join(_COLUMNS)} |, shown by a key in small letters, or "
                    "by tests: `folder/test_file.py::test_name`, `core/test_file.cc::Group.Name`"
                )
            rows.append(Row(number, cells[0], shown_by[0]) if is_key else Row(number, cells[0], "", tuple(shown_by)))
    return rows


def explain(
    rules: Mapping[str, Iterable[Rule]], case: Case, triton: Answer, pyinfer: Answer
) -> tuple[Answer, frozenset[str]]:
    """Triton's answer with all documented differences applied, and the keys of those that took part."""
    keys: set[str] = set()
    changed = not same(triton, pyinfer)
    while changed:
        changed = False
        for key, group in rules.items():
            for rule in group:
                after = rule(case, triton, pyinfer)
                if not same(after, triton):
                    triton, changed = after, True
                    keys.add(key)
    for part, member in _ERRORS.items():
        for place, (one, other) in enumerate(zip(triton.get(part, ()), pyinfer.get(part, ()), strict=False)):
            entry, more = _explain_error(rules, case, one, other, member)
            if more:
                triton = {**triton, part: [*triton[part][:place], entry, *triton[part][place + 1 :]]}
                keys |= more
    return triton, frozenset(keys)


#: the parts of an answer that are streams, and which member of their entries is an error
_ERRORS = {"messages": "error_message", "events": "error"}


def _explain_error(
    rules: Mapping[str, Iterable[Rule]], case: Case, triton: dict[str, Any], pyinfer: dict[str, Any], member: str
) -> tuple[dict[str, Any], frozenset[str]]:
    """The errors of one entry of a stream, as if they were those of a call."""
    errors = [entry.get(member, "") for entry in (triton, pyinfer)]
    if not all(errors) or errors[0] == errors[1]:
        return triton, frozenset()
    one, other = ({"status": "in the stream", "error": text} for text in errors)
    explained, keys = explain(rules, case, one, other)
    return {**triton, member: explained["error"]}, keys
