# SPDX-License-Identifier: Apache-2.0
"""docs/scheduling-rules.md names tests that exist, and the texts that it lists are in their files."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from repo import tree
from repo.references import missing

PAGE = Path("docs/scheduling-rules.md")


class Row(NamedTuple):
    """What is said of a rule or text, and the tests that show it."""

    line: int
    cells: list[str]
    tests: list[str]


def rows() -> list[Row]:
    found, head = [], ""
    for number, line in enumerate(tree.read(PAGE).splitlines(), 1):
        cells = [cell.strip() for cell in line.split("|")[1:-1]] if line.startswith("| ") else []
        if cells and cells[-1] in ("test", "tests"):
            head = cells[0]
        elif cells:
            assert head, f"{PAGE}:{number} belongs to no table"
            found.append(Row(number, cells, re.findall(r"`([^`]+)`", cells[-1])))
    return found


ROWS = rows()


@cache
def sections() -> set[str]:
    return set(re.findall(r'Section\(\s*"([^"]+)"', tree.read(Path("tests/differential/sections.py"))))


def exists(test: str) -> bool:
    kind, _, name = test.partition("/")
    if test == "simulation":
        return True
    if kind == "mutations":
        return (tree.ROOT / "tests/core/mutations" / f"{name}.patch").is_file()
    place, _, name = test.partition("::")
    return name in sections() if place == "differential" else not missing(test)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.line))
def test_each_rule_has_tests_that_exist(row: Row) -> None:
    assert row.tests, f"{PAGE}:{row.line} names no test"
    assert not [test for test in row.tests if not exists(test)], f"{PAGE}:{row.line}: there are no such tests"


@pytest.mark.parametrize("row", [row for row in ROWS if len(row.cells) == 3], ids=lambda row: str(row.line))
def test_each_text_is_in_its_test(row: Row) -> None:
    """Between names and numbers, and whatever quotes and line breaks the source has inside of it."""
    path = Path("tests") / row.tests[0].partition("::")[0]
    source = re.sub(r"\bf(?=[\"'])|[\s\"'\\]", "", tree.read(path))
    for part in re.split(r"<[^>]+>", row.cells[0].strip("`")):
        wanted = re.sub(r"[\s\"'\\]", "", part)
        assert wanted in source, f"{PAGE}:{row.line}: {path} has no text '{part}'"
