# SPDX-License-Identifier: Apache-2.0
"""Whether the code of a model can keep anything with the thread that runs it, as far as its text shows.

What belongs to a thread (connections of ``sqlite3``, ``threading.local``, event loops, the modes and the device of
torch) comes from modules. Code that imports none but those listed here, and has no way around ``import``, has nothing
of that kind: to such a model it is all the same which thread executes it.
"""

from __future__ import annotations

import ast

import numpy as np

__all__ = ["minds_its_thread"]

#: they keep nothing with a thread but what is in context variables, and give access to no module that does
_HARMLESS = frozenset(
    {
        "__future__",
        "array",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "collections.abc",
        "copy",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "numbers",
        "operator",
        "random",
        "re",
        "statistics",
        "string",
        "struct",
        "textwrap",
        "time",
        "triton_python_backend_utils",
        "typing",
        "unicodedata",
        "uuid",
        "zlib",
    }
)
#: before 2.0, what ``errstate`` sets belongs to the thread, and the callee would see its caller's
_HARMLESS_NUMPY = frozenset({"numpy", "numpy.fft", "numpy.linalg", "numpy.random", "numpy.typing"})
#: built-in ways around ``import``
_SUSPECT_NAMES = frozenset(
    {"__builtins__", "__import__", "__loader__", "__spec__", "compile", "eval", "exec", "getattr", "globals", "locals"}
    | {"vars"}
)
#: ways out of the modules above, and the clocks of threads
_SUSPECT_ATTRIBUTES = frozenset(
    {"__builtins__", "__dict__", "__globals__", "__loader__", "__spec__", "__subclasses__", "ctypeslib", "f2py"}
    | {"modules", "sys", "testing", "thread_time", "thread_time_ns"}
)


def minds_its_thread(source: bytes) -> bool:
    """False only where nothing in the text of a ``model.py`` could tell one thread from another, or is told apart."""
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    harmless = _HARMLESS | (_HARMLESS_NUMPY if int(np.__version__.partition(".")[0]) >= 2 else frozenset())
    return not all(_is_harmless(node, harmless) for node in nodes)


def _is_harmless(node: ast.AST, modules: frozenset[str]) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name in modules for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return node.level == 0 and node.module in modules and not names & (_SUSPECT_ATTRIBUTES | {"*"})
    if isinstance(node, ast.Attribute):
        return node.attr not in _SUSPECT_ATTRIBUTES
    return not isinstance(node, ast.Name) or node.id not in _SUSPECT_NAMES
