# SPDX-License-Identifier: Apache-2.0
"""Files and functions have a horizon: 400 lines a file, 60 a function, 1 MB whatever it is.

A file may be longer where cutting it would hurt its reader. It then says so within its first ten lines, as
``Longer than 400 lines: <reason>`` in a comment or docstring.
"""

from __future__ import annotations

import re

import pytest

from repo import tree

SOURCES = tree.files(".py", ".pyi", ".pyx", ".cc", ".h", ".proto")
FILE_LINES = 400
FUNCTION_LINES = 60
FILE_BYTES = 1 << 20
REASON = re.compile(rf"Longer than {FILE_LINES} lines: \w+")


def test_file_length() -> None:
    texts = {path: tree.read(path).splitlines() for path in SOURCES}
    long = {path: lines for path, lines in texts.items() if len(lines) > FILE_LINES}
    without = [path for path, lines in long.items() if not REASON.search("\n".join(lines[:10]))]
    assert not without, "\n".join(
        f"{path} has {len(long[path])} lines and gives no reason at its top" for path in without
    )


FINDERS = {
    ".py": tree.python_functions,
    ".pyx": tree.cython_functions,
    ".cc": tree.cpp_functions,
    ".h": tree.cpp_functions,
}


@pytest.mark.parametrize("suffix", FINDERS)
def test_function_length(suffix: str) -> None:
    found = [(path, f) for path in tree.files(suffix) for f in FINDERS[suffix](tree.read(path))]
    assert found
    long = [f"{path}:{f.line} {f.name} has {f.length} lines" for path, f in found if f.length > FUNCTION_LINES]
    assert not long, "\n".join(long)


def test_file_bytes() -> None:
    large = [path for path in tree.files() if (tree.ROOT / path).stat().st_size > FILE_BYTES]
    assert not large, f"larger than 1 MB: {large}"


CPP = """
namespace a {
class B final : public C {
 public:
  B(int x) : x_(x), y_{x}, z_(x) {
    if (x) { y_ = {1, 2}; }
  }
  int x() const { return x_; }
  std::vector<int> v_{1, 2};
};
// void not_a_function() {
const char* kText = "void nor_this() {";
template <class T>
T Sum(const std::vector<T>& v,
      T zero) noexcept {
  for (auto t : v) {
    zero += t;
  }
  return zero;
}
constexpr int kTable[] = {1, 2};
}  // namespace a
"""


def test_the_finder_of_cpp_functions() -> None:
    found = [(f.name, f.length) for f in tree.cpp_functions(CPP)]
    assert found == [("B", 3), ("x", 1), ("Sum", 8)]


PYTHON = '''
def f(a):
    """Doc.

    More."""
    return a


class C:
    def g(self):
        x = 1

        return x
'''


def test_the_finders_of_python_functions() -> None:
    assert [(f.name, f.length) for f in tree.python_functions(PYTHON)] == [("f", 2), ("g", 4)]
    assert [(f.name, f.length) for f in tree.cython_functions(PYTHON)] == [("f", 5), ("g", 4)]
