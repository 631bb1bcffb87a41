# SPDX-License-Identifier: Apache-2.0
"""Which models get a process, and environments that they bring along: nothing of an archive leaves its place."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from pyinfer.backends.python.environment import find_environment
from pyinfer.backends.python.settings import Settings
from pyinfer.errors import ConfigError, ModelError


def parameters(**values: str) -> dict[str, Any]:
    return {"parameters": {name: {"string_value": value} for name, value in values.items()}}


@pytest.mark.parametrize(
    ("config", "options", "expected"),
    [
        ({}, {}, "process"),
        ({}, {"isolation": "thread"}, "thread"),
        (parameters(ISOLATION="thread"), {"isolation": "process"}, "thread"),
        (parameters(ISOLATION="process"), {"isolation": "thread"}, "process"),
        (parameters(EXECUTION_ENV_PATH="x"), {}, "process"),
        (parameters(FORCE_CPU_ONLY_INPUT_TENSORS="no"), {}, "thread"),
        (parameters(FORCE_CPU_ONLY_INPUT_TENSORS="no"), {"isolation": "process"}, "process"),
        (parameters(FORCE_CPU_ONLY_INPUT_TENSORS="no", EXECUTION_ENV_PATH="x"), {}, "process"),
    ],
)
def test_who_gets_a_process(config: dict[str, Any], options: dict[str, str], expected: str) -> None:
    assert Settings.of(config, options).isolation == expected


@pytest.mark.parametrize(
    ("config", "options", "text"),
    [
        (parameters(ISOLATION="fork"), {}, "model parameter ISOLATION must be thread or process, got 'fork'"),
        ({}, {"isolation": ""}, "backend option isolation of the python backend must be thread or process, got ''"),
        (parameters(EXECUTION_ENV_PATH="x", ISOLATION="thread"), {}, "EXECUTION_ENV_PATH needs a process of its own"),
        (parameters(EXECUTION_ENV_PATH="x"), {"isolation": "thread"}, "needs a process of its own"),
    ],
)
def test_what_can_not_be_chosen(config: dict[str, Any], options: dict[str, str], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings.of(config, options)
    assert text in str(caught.value)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pyinfer" / "environments"


def archive(file: Path, *members: tarfile.TarInfo) -> None:
    with tarfile.open(file, "w:gz") as tar:
        for member in members:
            member.size = 1 if member.isreg() else 0
            tar.addfile(member, io.BytesIO(b"x") if member.isreg() else None)


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    return made


def test_an_archive_is_unpacked_once(tmp_path: Path, cache: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    inside = (member("bin/python3"), member("bin/python", tarfile.SYMTYPE, "python3"))
    archive(model / "one.tar.gz", *inside)
    found = find_environment("$$TRITON_MODEL_DIRECTORY/one.tar.gz", model)
    assert found is not None and (found / "bin/python").read_text() == "x"
    (found / "mark").touch()
    assert find_environment("one.tar.gz", model) == found
    assert (found / "mark").exists()
    assert [path.name for path in cache.iterdir()] == [found.name]


def test_a_directory_is_used_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    assert find_environment("env", tmp_path) == tmp_path / "env"
    assert find_environment("", tmp_path) is None
    with pytest.raises(ModelError, match="EXECUTION_ENV_PATH 'absent' is neither a directory nor a file"):
        find_environment("absent", tmp_path)


@pytest.mark.parametrize(
    "members",
    [
        [member("../escaped")],
        [member("a/../../escaped")],
        [member("link", tarfile.SYMTYPE, "../.."), member("link/escaped")],
        [member("link", tarfile.SYMTYPE, "/tmp"), member("link/escaped")],
        [member("link", tarfile.LNKTYPE, "../../escaped")],
        [member("device", tarfile.CHRTYPE)],
        [member("device", tarfile.BLKTYPE)],
        [member("pipe", tarfile.FIFOTYPE)],
    ],
    ids=lambda members: f"{members[0].name} {members[0].linkname}",
)
def test_nothing_leaves_its_place(tmp_path: Path, cache: Path, members: list[tarfile.TarInfo]) -> None:
    archive(tmp_path / "bad.tar.gz", *members)
    before = set(Path("/tmp").iterdir())
    with pytest.raises(ModelError, match="EXECUTION_ENV_PATH 'bad.tar.gz' can not be unpacked: ") as caught:
        find_environment("bad.tar.gz", tmp_path)
    assert str(tmp_path) not in str(caught.value)
    assert not list(cache.iterdir())
    assert not list(tmp_path.rglob("escaped"))
    assert not [path for path in set(Path("/tmp").iterdir()) - before if path.name == "escaped"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08"])
def test_what_is_no_archive(tmp_path: Path, cache: Path, content: bytes) -> None:
    (tmp_path / "bad.tar.gz").write_bytes(content)
    with pytest.raises(ModelError, match="can not be unpacked"):
        find_environment("bad.tar.gz", tmp_path)
    assert not list(cache.iterdir())
