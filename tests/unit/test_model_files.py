# SPDX-License-Identifier: Apache-2.0
"""Label files: what their lines mean, and which files are never read. What a digest of a model counts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from pyinfer.errors import ConfigError
from pyinfer.model_files import model_digest, read_labels


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "1").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    return made


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"cat\ndog\n", [b"cat", b"dog"]),
        (b"cat\ndog", [b"cat", b"dog"]),
        (b"cat\n\ndog\n\n", [b"cat", b"", b"dog", b""]),
        (b" a:b \r\n\xff", [b" a:b \r", b"\xff"]),
    ],
)
def test_one_label_a_line(directory: Path, text: bytes, labels: list[bytes]) -> None:
    (directory / "labels.txt").write_bytes(text)
    assert read_labels(directory, "labels.txt") == labels


def test_files_of_subdirectories_and_links_that_stay(directory: Path) -> None:
    (directory / "1" / "labels.txt").write_text("cat")
    (directory / "link").symlink_to("1/labels.txt")
    assert read_labels(directory, "1/labels.txt") == [b"cat"]
    assert read_labels(directory, "./1/../link") == [b"cat"]


def test_the_model_directory_may_be_a_link(directory: Path) -> None:
    (directory / "labels.txt").write_text("cat")
    (directory.parent / "linked").symlink_to(directory)
    assert read_labels(directory.parent / "linked", "labels.txt") == [b"cat"]


@pytest.mark.parametrize(
    "name", ["../secret", "1/../../secret", "/etc/passwd", "out", "circle", "a\0b", "none", "x" * 300]
)
def test_nothing_outside_the_model_directory(directory: Path, name: str) -> None:
    (directory / "out").symlink_to(directory.parent / "secret")
    (directory / "circle").symlink_to("circle")
    with pytest.raises(ConfigError, match="label file") as caught:
        read_labels(directory, name)
    assert str(directory.parent) not in str(caught.value)


def test_only_regular_files(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    for name in ("pipe", "1"):
        with pytest.raises(ConfigError, match="label file"):
            read_labels(directory, name)


def test_no_file_is_read_that_is_too_large(directory: Path) -> None:
    with (directory / "weights").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(ConfigError, match="at most 67108864 bytes"):
        read_labels(directory, "weights")


def test_a_digest_is_of_what_the_model_is_and_of_nothing_else(tmp_path: Path) -> None:
    for name, text in (
        ("m/config.pbtxt", "a"),
        ("m/1/model.py", "b"),
        ("m/1/deep/weights", "c"),
        ("m/2/model.py", "d"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    shutil.copytree(tmp_path / "m", tmp_path / "copy")
    model, config = tmp_path / "m", {"name": "m", "parameters": {"a": 1, "b": 2}}
    first = model_digest(model, 1, config)
    # the same elsewhere, whatever the order of the configuration, other versions and what Python leaves behind
    (tmp_path / "copy/2/model.py").write_text("another")
    (tmp_path / "copy/1/__pycache__").mkdir()
    (tmp_path / "copy/1/__pycache__/model.pyc").write_text("x")
    os.utime(tmp_path / "copy/1/model.py", (1, 1))
    assert model_digest(tmp_path / "copy", 1, {"parameters": {"b": 2, "a": 1}, "name": "m"}) == first
    digests = {first, model_digest(model, 1, config | {"name": "n"}), model_digest(model, 2, config)}
    (model / "1/deep/weights").write_text("C")
    digests.add(model_digest(model, 1, config))
    (model / "1/deep/weights").rename(model / "1/deep/weight")
    digests.add(model_digest(model, 1, config))
    (model / "1/more").touch()
    digests.add(model_digest(model, 1, config))
    (model / "1/circle").symlink_to("..")  # goes to where it has been
    (model / "1/nowhere").symlink_to("nothing")
    digests.add(model_digest(model, 1, config))
    assert len(digests) == 6
