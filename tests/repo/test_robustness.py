# SPDX-License-Identifier: Apache-2.0
"""The catalogue of docs/robustness.md: each row has its tests, and each test of a row is found in its row."""

from __future__ import annotations

import re
from pathlib import Path

from repo import tree
from repo.references import missing, names_in

PAGE = Path("docs/robustness.md")


def of_row(name: str) -> range:
    """The rows that a test is of by its name: ``test_row_23_chunks``, ``test_rows_12_to_16_requests``."""
    found = re.match(r"test_rows?_(\d+)_(?:to_(\d+)_)?", name)
    return range(int(found[1]), int(found[2] or found[1]) + 1) if found else range(0)


def rows() -> dict[int, list[str]]:
    """What the page names: files whose tests have the number of the row in their names, and single tests."""
    table = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", tree.read(PAGE), re.MULTILINE)
    return {int(number): re.findall("`([^`]+)`", cell) for number, cell in table}


def test_every_row_has_tests_and_they_are_there() -> None:
    catalogue = rows()
    assert len(catalogue) > 60
    for number, references in catalogue.items():
        assert references, f"row {number} has no test"
        single = [reference for reference in references if "::" in reference]
        assert not [reference for reference in single if missing(reference)], f"row {number}: there are no such tests"
        for path in set(references) - set(single):
            assert any(number in of_row(name) for name in names_in(path)), f"{path} has no test of row {number}"


def test_every_test_of_a_row_is_found_there() -> None:
    catalogue = rows()
    for file in tree.files(".py", under="tests"):
        path = str(file.relative_to("tests"))
        for name in names_in(path):
            for number in of_row(name):
                assert path in catalogue.get(number, ()), f"row {number} of {PAGE} does not name {path} ({name})"
