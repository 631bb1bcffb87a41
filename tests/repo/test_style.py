# SPDX-License-Identifier: Apache-2.0
"""Lint, format and types are tests; so is what no file of the tree may say."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from repo import tree

SCRIPTS = Path(sysconfig.get_path("scripts"))
TYPED = [name for name in ("pyinfer", "perf", "triton_python_backend_utils") if (tree.ROOT / name).is_dir()]
CPP = [*tree.files(".h", ".cc", under="csrc"), *tree.files(".h", ".cc", under="tests/core")]


def succeeds(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command[:3]))}:\n{done.stdout}\n{done.stderr}"


def test_ruff_check() -> None:
    succeeds(SCRIPTS / "ruff", "check", ".")


def test_ruff_format() -> None:
    succeeds(SCRIPTS / "ruff", "format", "--check", ".")


@pytest.mark.timeout(300)
def test_mypy_strict() -> None:
    succeeds(sys.executable, "-m", "mypy", *TYPED)


def test_clang_format() -> None:
    assert CPP
    succeeds(SCRIPTS / "clang-format", "--dry-run", "-Werror", *CPP)


# Written in parts, so that this file does not say them itself.
REGISTRIES = ["py" + r"pi\.org", "python" + r"hosted\.org", "deb" + r"ian\.org", "npm" + r"js\.(?:org|com)"]
MACHINE = ["wo" + "rk", "ro" + "ot"]
FORBIDDEN = {
    "a host of a package registry": re.compile(r"\b(?:[a-z0-9-]+\.)*(?:" + "|".join(REGISTRIES) + r")\b"),
    "a path of one machine": re.compile(r"(?<![\w.$}/])/(?:" + "|".join(MACHINE) + r")/"),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    for path in tree.files():
        try:
            text = tree.read(path)
        except UnicodeDecodeError:
            continue
        found = FORBIDDEN[what].search(text)
        assert not found, f"{path}: {found and found[0]!r} is {what}"


COMMENTED = tree.files(".py", ".pyi", ".pyx", ".pxd", ".c", ".cc", ".h", ".proto", ".sh", ".toml", ".supp")


def test_licence_line() -> None:
    files = [*COMMENTED, Path("Makefile"), Path("CMakeLists.txt"), Path(".ci/run")]
    heads = {path: tree.read(path).splitlines()[:3] for path in files}
    without = [path for path in files if not any("SPDX-License-Identifier: Apache-2.0" in line for line in heads[path])]
    assert not without, f"no SPDX line at the top: {', '.join(map(str, without))}"


# What comes from sockets, workers and files of models is data: nothing makes objects, code or a command line of it.
DANGEROUS = re.compile(
    r"^\s*(?:c?import|from)\s+(?:pickle|marshal|shelve|dill|cloudpickle|multiprocessing)\b"
    r"|(?<!def )(?<![.\w])(?:eval|exec)\(|shell=True|os\.(?:system|popen)\(",
    re.MULTILINE,
)


def test_nothing_is_unpickled_or_evaluated() -> None:
    found = {path: DANGEROUS.search(tree.read(path)) for path in tree.files(".py", ".pyx", under="pyinfer")}
    said = [f"{path} says {one[0].strip()}" for path, one in found.items() if one]
    assert found and not said, "\n".join(said)
    for line in ("import pickle", "  from marshal import loads", "eval(text)", "run(line, shell=True)", "os.system(x)"):
        assert DANGEROUS.search(line), line
    assert not DANGEROUS.search("loader.exec_module(module)\nanswer = call.exec()\nno pickle\n")


def test_no_unfinished_work() -> None:
    words = re.compile("|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "Not" + "ImplementedError"]))
    found = {path: words.search(tree.read(path)) for path in tree.files(".py", under="pyinfer")}
    said = [f"{path} says {one[0]}" for path, one in found.items() if one]
    assert found and not said, "\n".join(said)


def test_header_opens_with_its_name_and_purpose() -> None:
    headers = tree.files(".h", under="csrc")
    second = {path: tree.read(path).splitlines()[1] for path in headers}
    wrong = [path for path in headers if not re.match(rf"// {re.escape(path.name)} - \w", second[path])]
    assert headers and not wrong, "\n".join(f"{path}: line 2 is not '// {path.name} - purpose'" for path in wrong)
