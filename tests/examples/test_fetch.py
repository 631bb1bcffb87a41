# SPDX-License-Identifier: Apache-2.0
"""``fetch.py`` as a user runs it, in a folder of its own and without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

#: pip asks nobody, and no package but those of this environment is importable
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PYTHONPATH": ""}


@pytest.fixture
def fetch(repository_root: Path, tmp_path: Path):
    shutil.copy(repository_root / "model_repository" / "fetch.py", tmp_path)

    def run(*models: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, tmp_path / "fetch.py", *models]
        return subprocess.run(command, env={**os.environ, **OFFLINE}, capture_output=True, text=True, check=False)

    return run


def test_made_and_extracted_files_are_written_once(fetch, tmp_path: Path) -> None:
    done = fetch("magika", "simple_mlp")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == sorted(
        ["wrote", "magika/1/model.onnx", "wrote", "magika/labels.json", "wrote", "simple_mlp/1/model.onnx"]
    )
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = fetch("magika", "simple_mlp")
    assert (again.returncode, again.stdout) == (0, "")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == written


def test_a_file_of_the_wrong_size_is_replaced(fetch, tmp_path: Path) -> None:
    assert fetch("magika").returncode == 0
    model = tmp_path / "magika/1/model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[:1000])
    assert fetch("magika").stdout == "wrote magika/1/model.onnx\n"
    assert model.read_bytes() == whole


def test_the_mlp_is_the_same_each_time(fetch, tmp_path: Path, models: Path) -> None:
    assert fetch("simple_mlp").returncode == 0
    assert (tmp_path / "simple_mlp/1/model.onnx").read_bytes() == (models / "simple_mlp/1/model.onnx").read_bytes()


def test_offline_says_what_is_missing_and_what_to_do(fetch, tmp_path: Path) -> None:
    done = fetch("silero_vad")
    assert done.returncode == 1
    assert "could not download silero-vad==6.2.3" in done.stderr
    assert "pip install --no-deps silero-vad==6.2.3" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fetch.py"]


def test_an_unknown_model_is_told_the_names(fetch) -> None:
    done = fetch("nobody")
    assert done.returncode == 2
    assert "nothing to fetch for nobody; there are: magika, silero_vad, silero_vad_stream, simple_mlp, " in done.stderr


def test_no_model_file_is_under_version_control(models: Path, repository_root: Path) -> None:
    command = [
        "git",
        "-C",
        repository_root,
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "model_repository",
    ]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "model_repository/identity/config.pbtxt" in listed
    assert not [path for path in listed if path.endswith((".onnx", "labels.json", ".part", ".pyc"))]
    sizes = {path: (repository_root / path).stat().st_size for path in listed}
    assert max(sizes.values()) < 50_000
