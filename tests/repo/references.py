# SPDX-License-Identifier: Apache-2.0
"""Tests that documents name: ``contract/http/test_limits.py::test_slow_head``, ``core/test_pack.cc::Pack.Splits``."""

from __future__ import annotations

import ast
import re
from functools import cache

from repo.tree import ROOT

__all__ = ["missing", "names_in"]

_TESTS = ROOT / "tests"


@cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file below ``tests``, as a reference has them; none where there is no such file."""
    file = _TESTS / path
    if not file.is_file():
        return frozenset()
    if file.suffix == ".cc":
        return frozenset(
            f"{group}.{name}" for group, name in re.findall(r"^TEST\((\w+), (\w+)\)", file.read_text(), re.MULTILINE)
        )
    functions = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.FunctionDef)]
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def missing(reference: str) -> bool:
    """Whether a document names a test that is not there."""
    path, _, name = reference.partition("::")
    return name not in names_in(path)
