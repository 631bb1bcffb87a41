# SPDX-License-Identifier: Apache-2.0
"""Texts for clients hold no path outside of the repository; model files lie inside of their version."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinfer.backends.paths import lowest_version, model_file, without_paths
from pyinfer.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("can not open /srv/models/m/1/model.onnx: gone", "can not open m/1/model.onnx: gone"),
        ("No such file or directory: '/home/jane/secret/weights.bin'", "No such file or directory: 'weights.bin'"),
        ("cannot import name 'x' from 'y' (/usr/lib/python3/y.py)", "cannot import name 'x' from 'y' (y.py)"),
        ("see https://example.org/a/b and 3/4 of a/b/c", "see https://example.org/a/b and 3/4 of a/b/c"),
        ("/a/b", "b"),
    ],
)
def test_without_paths(text: str, expected: str) -> None:
    assert without_paths(text, Path("/srv/models/m")) == expected


def test_lowest_version(tmp_path: Path) -> None:
    assert lowest_version(tmp_path) is None
    for name in ("10", "9", "03", "warmup", "x1"):
        (tmp_path / name).mkdir()
    (tmp_path / "1").write_text("a file is no version")
    assert lowest_version(tmp_path) == 9


def test_model_file() -> None:
    directory = Path("m")
    assert model_file(directory, 2, {}, "model.py") == Path("m/2/model.py")
    assert model_file(directory, 2, {"default_model_filename": "a/b.py"}, "model.py") == Path("m/2/a/b.py")
    for name in ("../x", "a/../../x", "/etc/passwd", "x\0"):
        with pytest.raises(ConfigError, match="inside the version directory"):
            model_file(directory, 2, {"default_model_filename": name}, "model.py")
