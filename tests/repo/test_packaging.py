# SPDX-License-Identifier: Apache-2.0
"""The package is what the tree says: metadata, source archive, commands."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from repo import tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT: dict[str, Any] = tomllib.loads(tree.read(Path("pyproject.toml")))
ALLOWED = {"numpy", "uvloop", "httptools", "protobuf"}


def test_runtime_dependencies_are_few_and_bounded() -> None:
    dependencies = PYPROJECT["project"]["dependencies"]
    assert {requirement.split(">=")[0] for requirement in dependencies} == ALLOWED
    assert all(">=" in requirement for requirement in dependencies)


def test_build_group_holds_the_build_requirements() -> None:
    assert set(PYPROJECT["build-system"]["requires"]) <= set(PYPROJECT["dependency-groups"]["build"])


def test_no_extra_asks_for_a_framework() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    names = {requirement.split(">=")[0] for requirements in extras.values() for requirement in requirements}
    assert not names & {"torch", "tensorflow", "jax", "silero-vad"}


@pytest.mark.parametrize("name", PYPROJECT["project"]["entry-points"]["pyinfer.backends"])
def test_backend_entry_point_leads_to_a_class(name: str) -> None:
    module, _, attribute = PYPROJECT["project"]["entry-points"]["pyinfer.backends"][name].partition(":")
    base = tree.ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    body = ast.parse(path.read_text()).body
    defined = {node.name for node in body if isinstance(node, ast.ClassDef)}
    imported = {alias.asname or alias.name for node in body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert attribute in defined | imported


def test_source_archive_is_the_tree(tmp_path: Path) -> None:
    build = "import sys; from scikit_build_core.build import build_sdist; print(build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=tree.ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()} - {"PKG-INFO"}
    assert members == {str(path) for path in tree.files()}


@pytest.mark.parametrize("name", [".ci/run", "scripts/system_packages.sh", "scripts/sanitize.sh"])
def test_script_is_executable(name: str) -> None:
    assert os.access(tree.ROOT / name, os.X_OK)


@pytest.mark.parametrize("target", ["run", "test", "lint", "types", "asan", "tsan", "bench", "wheel", "clean"])
def test_makefile_has_target(target: str) -> None:
    assert f"\n{target}:" in tree.read(Path("Makefile"))
