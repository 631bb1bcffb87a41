# SPDX-License-Identifier: Apache-2.0
"""The source tree as data, for the tests that police it: which files belong to it, what they define and import."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = [
    "ROOT",
    "Function",
    "cpp_functions",
    "cython_functions",
    "files",
    "module_name",
    "python_functions",
    "read",
    "strip_cpp",
]

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def _listed() -> tuple[Path, ...]:
    """Every file that is, or will be, under version control; relative to the root."""
    output = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return tuple(sorted(Path(name) for name in output.split("\0") if name and (ROOT / name).is_file()))


def files(*suffixes: str, under: str = "") -> list[Path]:
    """Files of the tree with one of ``suffixes`` (all where none is given), below the folder ``under``."""
    return [
        path
        for path in _listed()
        if (not suffixes or path.suffix in suffixes) and (not under or path.is_relative_to(under))
    ]


@cache
def read(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def module_name(path: Path) -> str:
    """``pyinfer/config/pbtxt.py`` -> ``pyinfer.config.pbtxt``."""
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@dataclass(frozen=True)
class Function:
    """One function and how long it is, docstring aside."""

    name: str
    line: int
    length: int


def python_functions(source: str) -> Iterator[Function]:
    """Functions and methods; a nested one counts as part of the outer one, and for itself."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        first = node.body[0]
        if ast.get_docstring(node, clean=False) is not None:
            length -= (first.end_lineno or first.lineno) - first.lineno + 1
        yield Function(node.name, node.lineno, length)


def cython_functions(source: str) -> Iterator[Function]:
    """Functions and methods by indentation: enough for Cython, which ``ast`` can not read."""
    lines = source.splitlines()
    for number, line in enumerate(lines):
        head = re.match(r"( *)(?:async )?(?:def|cpdef|cdef)\b[^=]*?(\w+)\(", line)
        if not head:
            continue
        last = number
        for below in range(number + 1, len(lines)):
            text = lines[below]
            if text.strip() and not text.startswith(head[1] + " ") and not text.lstrip().startswith(")"):
                break
            if text.strip():
                last = below
        yield Function(head[2], number + 1, last - number + 1)


_CPP_NOISE = re.compile(
    r"""
    //[^\n]* | /\*.*?\*/                                   # comments
    | R"(?P<mark>[^()\s\\]{0,16})\(.*?\)(?P=mark)"          # raw strings
    | "(?:\\.|[^"\\\n])*" | (?<![0-9A-Fa-f])'(?:\\.|[^'\\\n])*'
    | ^[ \t]*\#(?:\\\n|[^\n])*                              # preprocessor
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def strip_cpp(source: str) -> str:
    """C++ without comments, strings and preprocessor lines; every line keeps its number."""
    return _CPP_NOISE.sub(lambda match: '""' + "\n" * match[0].count("\n"), source)


_SCOPE = re.compile(
    r'^\s*(?:template\s*<.*>\s*)?(?:inline\s+)?(?:(?:namespace|class|struct|union|enum)\b|extern\s*"")', re.DOTALL
)
# Foo(int a) : a_(a), b_{   -- the brace belongs to a member of the initializer list, not to the body
_MEMBER_INITIALIZER = re.compile(r"\)\s*(?:noexcept\s*)?:(?!:)(?:.*,)?\s*[\w:<>]+\s*$", re.DOTALL)
_LABELS = re.compile(r"^(?:\s*(?:public|private|protected):)+")


def cpp_functions(source: str) -> Iterator[Function]:
    """Function definitions outside functions, found by their braces; what is inside a function counts as part of it."""
    text = strip_cpp(source)
    stack: list[tuple[str, str, int]] = []  # kind, name, line
    head, line = "", 1
    for piece in re.split("([{};])", text):
        line += piece.count("\n")
        inside = any(kind == "function" for kind, _, _ in stack)
        if piece == "{":
            kind, name = ("block", "") if inside else _classify(head)
            stack.append((kind, name, line - head.lstrip().count("\n")))
            head = head + piece if kind == "value" else ""
        elif piece == "}" and stack:
            kind, name, start = stack.pop()
            if kind == "function":
                yield Function(name, start, line - start + 1)
            head = head + piece if kind == "value" else ""
        elif piece == ";":
            head = ""
        elif not inside:
            head = _LABELS.sub("", head + piece)


def _classify(head: str) -> tuple[str, str]:
    """What a brace after ``head`` opens: a scope, a function (with its name) or a value."""
    if _SCOPE.match(head):
        return "scope", ""
    name = re.search(r"([\w:~]+|operator\s*\S+?)\s*\(", head)
    if not name or _MEMBER_INITIALIZER.search(head) or head.rstrip().endswith(("=", ",", "(")):
        return "value", ""
    return "function", name[1]
