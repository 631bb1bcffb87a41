# SPDX-License-Identifier: Apache-2.0
"""Directories made for a while, and names that must not leave them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.errors import InvalidArgument
from pyinfer.repository.overrides import Lease, bare_repository, check_model_name, write_override


@pytest.fixture(autouse=True)
def _own_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()


@pytest.mark.parametrize("name", ["a", "a b", "a.b", "..a", "...", "模型", "-", "1"])
def test_good_model_names(name: str) -> None:
    check_model_name(name)


@pytest.mark.parametrize("name", ["..", ".", "a/b", "../a", "/etc", "a/..", "a\\b", "a\0b", "/"])
def test_traversal_in_a_model_name(name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        check_model_name(name)
    assert str(caught.value) == (f"invalid model name '{name}', model name must not contain path traversal characters")


@pytest.mark.parametrize("name", ["n" * 256, "é" * 128, "n" * 1_000_000])
def test_model_names_that_no_directory_can_have(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"must not be longer than 255 bytes$") as caught:
        check_model_name(name)
    assert len(str(caught.value)) < 500
    check_model_name("n" * 255)


@pytest.mark.parametrize("name", ["", " ", "\n\t"])
def test_empty_model_names(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^Model name cannot be empty"):
        check_model_name(name)


def test_files_are_written_below_the_model() -> None:
    root = write_override("m", {"1/model.onnx": b"one", "1/a//b": b"two", "labels.txt": b""})
    assert (root / "m" / "1" / "model.onnx").read_bytes() == b"one"
    assert (root / "m" / "1" / "a" / "b").read_bytes() == b"two"
    assert root.stat().st_mode & 0o077 == 0
    shutil.rmtree(root)


@pytest.mark.parametrize(
    "path", ["../x", "1/../../x", "1/..", "/etc/passwd", "", ".", "1\\..\\x", "1/\0", "1/a\nb", "1/\ud800"]
)
def test_paths_that_leave_the_directory(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument) as caught:
        write_override("m", {"1/good": b"x", path: b"x"})
    assert str(caught.value) == f"Invalid file parameter 'file:{path}' must stay within model directory."
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("path", ["1/" + "n" * 256, "1/" + "é" * 128, "d/" * 12 + "x", "d/" * 100_000 + "x"])
def test_paths_that_no_file_system_takes(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"a path may have 12 parts of 255 bytes$"):
        write_override("m", {path: b"x"})
    assert list((tmp_path / "tmp").iterdir()) == []


@pytest.mark.parametrize("path", ["1/" + "n" * 255, "1/" + "é" * 127, ("n" * 255 + "/") * 11 + "x"])
def test_paths_that_are_just_short_enough(path: str) -> None:
    root = write_override("m", {path: b"x"})
    assert (root / "m" / path).read_bytes() == b"x"
    shutil.rmtree(root)


def test_a_file_that_is_also_a_directory(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="directory has been created as a file"):
        write_override("m", {"1": b"x", "1/model.onnx": b"x"})
    assert list((tmp_path / "tmp").iterdir()) == []


@given(st.text(alphabet="./\\a1\0\n", max_size=12))
def test_nothing_is_ever_written_elsewhere(path: str) -> None:
    with tempfile.TemporaryDirectory() as outer:
        before = tempfile.tempdir
        tempfile.tempdir = f"{outer}/tmp"
        Path(tempfile.tempdir).mkdir()
        try:
            root = write_override("m", {path: b"x"})
            assert all(file.is_relative_to(root / "m") for file in Path(outer).rglob("*") if file.is_file())
        except InvalidArgument:
            assert list(Path(tempfile.tempdir).iterdir()) == []
        finally:
            tempfile.tempdir = before
        assert [child.name for child in Path(outer).iterdir()] == ["tmp"]


def test_a_lease_ends_with_its_last_holder(tmp_path: Path) -> None:
    directory = tmp_path / "leased"
    directory.mkdir()
    lease = Lease(directory)
    lease.hold()
    lease.release()
    assert directory.exists()
    lease.release()
    assert not directory.exists()
    Lease(None).release()


def test_a_bare_file_becomes_a_repository(tmp_path: Path) -> None:
    file = tmp_path / "my net.onnx"
    file.write_bytes(b"graph")
    root = bare_repository(file)
    linked = root / "my net" / "1" / "model.onnx"
    assert linked.is_symlink()
    assert linked.read_bytes() == b"graph"


@pytest.mark.parametrize("name", ["absent.onnx", "model.txt", "onnx"])
def test_files_that_can_not_be_served_bare(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.txt").write_text("")
    (tmp_path / "onnx").write_text("")
    with pytest.raises(InvalidArgument, match="can not serve"):
        bare_repository(tmp_path / name)
