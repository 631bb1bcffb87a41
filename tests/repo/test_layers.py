# SPDX-License-Identifier: Apache-2.0
"""Who may include or import whom: the tables of docs/design.md, held against the tree."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from repo import tree

DESIGN = Path("docs/design.md")
PACKAGE = "pyinfer"


def table(name: str) -> dict[str, list[str]]:
    """The fenced block ``name`` of the design: one layer a line, ``layer: what it may use``."""
    block = re.search(rf"^```{name}\n(.*?)^```", tree.read(DESIGN), re.DOTALL | re.MULTILINE)
    assert block, f"{DESIGN} has no block ```{name}"
    rows = [line.partition(":") for line in block[1].splitlines() if line.strip()]
    return {layer.strip(): allowed.replace("-", "").split() for layer, _, allowed in rows}


CPP = table("layers-cpp")
PYTHON = table("layers-python")


def test_tables_name_only_layers() -> None:
    for rows in (CPP, PYTHON):
        assert {name for allowed in rows.values() for name in allowed} <= {*rows, "_core", "*"}


def test_every_cpp_file_has_a_layer() -> None:
    assert {path.parts[1] for path in tree.files(".h", ".cc", under="csrc")} <= set(CPP)


@pytest.mark.parametrize("path", tree.files(".h", ".cc", under="csrc"), ids=str)
def test_cpp_includes(path: Path) -> None:
    layer = path.parts[1]
    allowed = {layer, *(CPP if "*" in CPP[layer] else CPP[layer])}
    for header in re.findall(r'^\s*#\s*include\s*"([^"]+)"', tree.read(path), re.MULTILINE):
        assert (tree.ROOT / "csrc" / header).is_file(), f'{path}: "{header}" is not a path from csrc/'
        used = header.split("/")[0]
        assert used in allowed, f"{path} ({layer}) includes {header}; {layer} may use {sorted(allowed)}"


MODULES = {tree.module_name(path) for path in tree.files(".py", ".pyx", ".pyi", under=PACKAGE)}


def python_layer(name: str) -> str:
    """The row that ``name`` (without the package's name) belongs to: the longest that fits; the root's if no module."""
    first = name.split(".")[0]
    if f"{PACKAGE}.{first}" not in MODULES and first not in {row.split(".")[0] for row in PYTHON}:
        return PACKAGE
    fitting = [row for row in PYTHON if name == row or name.startswith(row + ".")]
    row = max(fitting, key=len, default=first)
    return "backends.*" if row == "backends" and name != row else row


def imports(source: str, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what a module imports of the package; ``from x import y`` gives ``x.y``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base]).rstrip(".")
            names = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name == PACKAGE or name.startswith(PACKAGE + "."):
                yield node.lineno, name


def permitted(own: str, used: str) -> bool:
    """Whether module ``own`` may import ``used``, a module or a name of one (both without the package's name)."""
    layer, other = python_layer(own), python_layer(used)
    if layer == other:
        # backends are each other's strangers, although they share a row
        return layer != "backends.*" or own.split(".")[1] == used.split(".")[1]
    # a package's modules may use its own parts that have rows of their own
    if other.startswith(layer + "."):
        return True
    return any(name == "*" or other == name or other.startswith(name + ".") for name in PYTHON[layer])


@pytest.mark.parametrize("path", tree.files(".py", ".pyx", under=PACKAGE), ids=str)
def test_python_imports(path: Path) -> None:
    module = tree.module_name(path)
    own = module.removeprefix(PACKAGE).lstrip(".")
    assert python_layer(own) in PYTHON, f"{path} belongs to no layer of {DESIGN}"
    source = tree.read(path)
    if path.suffix == ".pyx":  # which ast can not read
        source = "\n".join(re.findall(r"^(?:from +pyinfer\S* +import +\w+|import +pyinfer\S*)", source, re.MULTILINE))
    for line, name in imports(source, module, path.stem == "__init__"):
        used = name.removeprefix(PACKAGE).lstrip(".")
        assert permitted(own, used), (
            f"{path}:{line} imports {name}; {python_layer(own)!r} may use {PYTHON[python_layer(own)]}"
        )


@pytest.mark.parametrize(
    ("own", "used", "expected"),
    [
        ("frontends.http", "service", True),
        ("frontends.http", "frontends.stream", True),
        ("frontends.http", "repository.manager", False),
        ("frontends.http", "config.options", True),
        ("frontends.http", "config.validate", False),
        ("backends.onnxruntime", "backends.base", True),
        ("backends.onnxruntime", "backends.python.utils", False),
        ("backends.python.utils", "backends.python._objects", True),
        ("backends.base", "frontends.http", False),
        ("config.validate", "config.messages", True),
        ("config.options", "errors", False),
        ("server", "frontends.grpc", True),
        ("errors", "config", False),
    ],
)
def test_the_rule_itself(own: str, used: str, expected: bool) -> None:
    assert permitted(own, used) is expected


def test_python_and_its_lock_stay_in_the_bindings() -> None:
    lock = re.compile(r"gil_scoped_|PyGILState|Py_(?:BEGIN|END)_ALLOW_THREADS|PyEval_(?:Save|Restore)Thread")
    for path in tree.files(".h", ".cc", under="csrc"):
        source = tree.strip_cpp(re.sub(r"#\s*include\s*", "include ", tree.read(path)).replace('"', ""))
        if path.parts[1] != "bindings":
            assert not re.search(r"include <?(?:pybind11/|Python\.h)", source), f"{path} includes Python"
        if path.name != "gil.h":
            found = lock.search(source)
            assert not found, f"{path} says {found and found[0]}: only csrc/bindings/gil.h may"
