# SPDX-License-Identifier: Apache-2.0
"""Planted bugs (``make mutants``) can be planted: each patch still fits the source that it changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from repo import tree


@pytest.mark.parametrize("path", tree.files(".patch", under="tests/core/mutations"), ids=lambda path: path.stem)
def test_a_planted_bug_fits(path: Path) -> None:
    command = ["patch", "--dry-run", "--silent", "--strip=1", "--fuzz=0", f"--input={path}"]
    done = subprocess.run(command, cwd=tree.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{path} does not fit any more:\n{done.stdout}"
