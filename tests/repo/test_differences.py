# SPDX-License-Identifier: Apache-2.0
"""docs/differences.md and what shows it belong together, row by row: rules of tests/differential, or other tests."""

from __future__ import annotations

import pytest

from differential.documented import Row, read_rows
from differential.rules import RULES
from repo.references import missing


def test_each_key_has_one_row_and_a_rule() -> None:
    keys = [row.key for row in read_rows() if row.key]
    assert sorted(keys) == sorted(set(keys)), "a key stands for one row"
    assert set(keys) == set(RULES), "each key has a rule in tests/differential/rules, and each rule a row"


def test_the_tests_that_rows_name_are_there() -> None:
    rows = read_rows()
    assert rows
    gone = [f"differences.md:{row.line}: {test}" for row in rows for test in row.tests if missing(test)]
    assert not gone, "there are no such tests: " + ", ".join(gone)


def test_a_row_that_nothing_shows_is_refused() -> None:
    head = "| what | Triton | pyinfer | why | shown by |\n|---|---|---|---|---|\n"
    assert read_rows(head + "| a | b | c \\| d | e | `a-key` |\n| f | g | h | i | `a/b.py::c`, `d.cc::E.F` |\n") == [
        Row(3, "a", "a-key"),
        Row(4, "f", "", ("a/b.py::c", "d.cc::E.F")),
    ]
    for row in ("| a | b | c | d |", "| a | b | c | d | - |", "| a | b | c | d | a/b.py |", "| a | b | c | d | |"):
        with pytest.raises(ValueError, match="differences.md:3: a row is"):
            read_rows(f"{head}{row}\n")
    with pytest.raises(ValueError, match="differences.md:1: the tables of differences"):
        read_rows("| what | Triton | pyinfer | why |\n|---|---|---|---|\n| a | b | c | d |\n")
