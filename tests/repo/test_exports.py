# SPDX-License-Identifier: Apache-2.0
"""Public surfaces are written lists: ``__all__`` of every module, and the stub of the compiled one."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from repo import tree

MODULES = [
    *tree.files(".py", ".pyi", under="pyinfer"),
    *tree.files(".py", under="perf"),
    *tree.files(".py", under="triton_python_backend_utils"),
]


def exported(body: list[ast.stmt]) -> list[str] | None:
    """The literal ``__all__`` of a module, or None."""
    for node in body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]:
            return list(ast.literal_eval(node.value))
    return None


def defined(body: list[ast.stmt]) -> set[str]:
    """Names that a module's top level defines itself: not what it imports. Opens ``if`` and ``try``."""
    names: set[str] = set()
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign) and not type_variable(node.value):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.If | ast.Try):
            names |= defined([*node.body, *node.orelse])
    return names


def type_variable(value: ast.expr) -> bool:
    """A tool for annotations, which is of no use to an importer."""
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in {"TypeVar", "ParamSpec"}


def imported(body: list[ast.stmt]) -> set[str]:
    return {
        alias.asname or alias.name.split(".")[0]
        for node in ast.walk(ast.Module(body, []))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_all_is_exact(path: Path) -> None:
    body = ast.parse(tree.read(path)).body
    names = exported(body)
    if names is None and (path.stem == "__main__" or not imported(body)):
        names = []  # nothing to export: a script, or a package that only holds its modules
    assert names is not None, f"{path} has no literal __all__"
    assert len(names) == len(set(names)), f"{path} lists a name twice"
    own = {name for name in defined(body) if not name.startswith("_")}
    missing, unknown = own - set(names), set(names) - defined(body) - imported(body)
    assert not missing, f"{path} defines public names that __all__ does not list: {sorted(missing)}"
    assert not unknown, f"{path} lists names that it does not have: {sorted(unknown)}"


STUB = tree.read(Path("pyinfer/_core.pyi"))
STUB_CLASSES = [node for node in ast.parse(STUB).body if isinstance(node, ast.ClassDef)]
STUB_FUNCTIONS = [node for node in ast.parse(STUB).body if isinstance(node, ast.FunctionDef)]
#: special methods that are part of a surface where they exist
SPECIAL = {"__call__", "__len__"}


def public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("_") or name in SPECIAL}


def signature(docstring: str | None) -> list[str] | None:
    """Parameter names from the first line of a docstring of pybind11, without self; None where it has no such line."""
    line = (docstring or "").splitlines()[0] if docstring else ""
    found = re.match(r"\w+\((.*)\)(?: ->.*)?$", line)
    if not found:
        return None
    plain, nested = re.sub("'[^']*'", "", found[1]), 1
    while nested:
        plain, nested = re.subn(r"\[[^][]*\]|\([^()]*\)", "", plain)
    names = [re.match(r"\s*\**(\w+)", part) for part in plain.split(",")]
    return [name[1] for name in names if name and name[1] != "self"]


def parameters(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs) if each.arg != "self"]


@pytest.fixture(scope="module")
def core() -> object:
    return importlib.import_module("pyinfer._core")


def test_stub_names_what_the_module_has(core: object) -> None:
    names = exported(ast.parse(STUB).body)
    assert names is not None
    assert public(set(dir(core))) == set(names)


@pytest.mark.parametrize("stub", STUB_CLASSES, ids=lambda node: node.name)
def test_stub_class_is_the_compiled_class(core: object, stub: ast.ClassDef) -> None:
    compiled = vars(getattr(core, stub.name))
    methods = {node.name: node for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert public(set(compiled)) == public(set(methods))
    for name, node in methods.items():
        is_property = any(ast.unparse(mark) == "property" for mark in node.decorator_list)
        if not is_property:
            compare(f"{stub.name}.{name}", parameters(node), compiled[name].__doc__)


@pytest.mark.parametrize("stub", STUB_FUNCTIONS, ids=lambda node: node.name)
def test_stub_function_is_the_compiled_function(core: object, stub: ast.FunctionDef) -> None:
    compare(stub.name, parameters(stub), getattr(core, stub.name).__doc__)


def compare(name: str, written: list[str], docstring: str | None) -> None:
    found = signature(docstring)
    if found is not None:
        assert found == written, f"{name}: the stub has parameters {written}, the module {found}"


def test_signature_of_a_docstring() -> None:
    text = "f(self: m.C, a: int, *, b: a.Mapping[str, tuple[int, str]] = {}, c: str = '') -> list[tuple[int, bytes]]"
    assert signature(text) == ["a", "b", "c"]
    assert signature("f() -> None") == []
    assert signature("Says what it does.") is None
