# SPDX-License-Identifier: Apache-2.0
"""docs/differences.md and the rules of tests/differential belong together, row by row."""

from __future__ import annotations

import pytest

from differential.documented import NOT_SHOWN, read_rows
from differential.rules import RULES


def test_each_key_has_one_row_and_a_rule() -> None:
    keys = [row.key for row in read_rows() if row.key != NOT_SHOWN]
    assert sorted(keys) == sorted(set(keys)), "a key stands for one row"
    assert set(keys) == set(RULES), "each key has a rule in tests/differential/rules, and each rule a row"


def test_a_row_without_a_key_is_refused() -> None:
    head = "| what | Triton | pyinfer | why | key |\n|---|---|---|---|---|\n"
    assert [row.key for row in read_rows(head + "| a | b | c \\| d | e | `a-key` |\n| f | g | h | i | - |\n")] == [
        "a-key",
        "-",
    ]
    with pytest.raises(ValueError, match="differences.md:3: a row is"):
        read_rows(head + "| a | b | c | d |\n")
    with pytest.raises(ValueError, match="differences.md:1: the tables of differences"):
        read_rows("| what | Triton | pyinfer | why |\n|---|---|---|---|\n| a | b | c | d |\n")
