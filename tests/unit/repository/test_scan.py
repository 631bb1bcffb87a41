# SPDX-License-Identifier: Apache-2.0
"""Disk -> snapshot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.repository.contract import ModelId
from pyinfer.repository.scan import LocalRepository, list_models, parse_version_directory, scan, scan_model
from unit.repository.fakes import write_model


def local(*directories: Path) -> list[LocalRepository]:
    return [LocalRepository(directory) for directory in directories]


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("1", 1),
        ("0", 0),
        ("10", 10),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", None),
        ("1" * 300, None),
        ("01", None),
        ("00", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1abc", None),
        ("1.0", None),
        ("v1", None),
        ("١", None),  # a digit, of another script
        ("²", None),
    ],
)
def test_version_directory_names(name: str, version: int | None) -> None:
    assert parse_version_directory(name) == version


@given(st.text(max_size=24))
def test_a_version_directory_is_the_decimal_form_of_its_number(name: str) -> None:
    version = parse_version_directory(name)
    assert version is None or (str(version) == name and 0 <= version < 2**63)


def test_models_of_several_repositories(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    write_model(one, "alpha", (1, 3, 10))
    write_model(two, "beta", (2,))
    write_model(one, "both")
    write_model(two, "both")
    (one / "notes.txt").write_text("not a model")
    (one / ".git").mkdir()
    (one / "alpha" / "02").mkdir()
    (one / "alpha" / "7").write_text("a file, not a version")
    snapshot = scan(local(one, two))
    assert {model: entry.versions for model, entry in snapshot.models.items()} == {
        ModelId("", "alpha"): (1, 3, 10),
        ModelId("", "beta"): (2,),
    }
    assert snapshot.duplicates == {ModelId("", "both")}
    assert not snapshot.unreadable
    listing = list_models(local(one, two))
    assert {model.name for model in listing.models} == {"alpha", "beta", "both"}
    assert listing.duplicates == snapshot.duplicates


def test_with_namespaces_no_name_is_there_twice(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for repository in (one, two):
        write_model(repository, "both")
    snapshot = scan(local(one, two), namespacing=True)
    assert [(model.namespace, model.name) for model in snapshot.models] == [(str(one), "both"), (str(two), "both")]
    assert [entry.directory for entry in snapshot.models.values()] == [one / "both", two / "both"]
    assert not snapshot.duplicates
    listing = list_models(local(one, two), namespacing=True)
    assert listing.models == set(snapshot.models)
    assert not listing.duplicates


def test_only_the_wanted_models_are_read(tmp_path: Path) -> None:
    write_model(tmp_path, "alpha")
    write_model(tmp_path, "beta")
    assert [model.name for model in scan(local(tmp_path), only={"beta", "gamma"}).models] == ["beta"]


def test_models_that_are_asked_for_by_name_are_those_of_the_whole(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for name in ("plain", ".hidden", "with space", "line\nbreak", "ünï"):
        write_model(models, name)
    write_model(tmp_path, "outside")
    (models / "linked").symlink_to(tmp_path / "outside")
    (models / "nowhere").symlink_to(tmp_path / "absent")
    (models / "circle").symlink_to("circle")
    (models / "file").write_text("no model")
    [repository] = local(models)
    whole = repository.entries()
    assert set(whole) == {"plain", "with space", "ünï", "linked", "nowhere", "circle"}
    assert {name for name, entry in whole.items() if entry is None} == {"nowhere", "circle"}
    asked = [*whole, ".hidden", "line\nbreak", "file", "absent", "", ".", "..", "../outside", "plain/1", "x" * 5000]
    asked += ["/", str(tmp_path / "outside"), "plain\0", "\udcff"]
    assert repository.entries(asked) == whole
    for name in asked:
        assert repository.entries({name}) == {name: whole[name] for name in {name} & set(whole)}


def test_a_repository_that_is_named_twice_is_one(tmp_path: Path) -> None:
    write_model(tmp_path / "real", "alpha")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    snapshot = scan(local(tmp_path / "real", tmp_path / "link", tmp_path / "real"))
    assert list(snapshot.models) == [ModelId("", "alpha")]
    assert not snapshot.duplicates


def test_unreadable_repositories_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    snapshot = scan(local(tmp_path / "absent", tmp_path / "file"))
    assert snapshot.unreadable == {
        tmp_path / "absent": f"can not read the model repository '{tmp_path}/absent': No such file or directory",
        tmp_path / "file": f"can not read the model repository '{tmp_path}/file': Not a directory",
    }
    assert not list_models(local(tmp_path / "absent")).models


def test_symbolic_links_and_loops(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    directory = write_model(repository, "alpha")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "model.bin").write_text("x")
    (directory / "2").symlink_to(tmp_path / "elsewhere")  # a linked version counts
    (directory / "3").symlink_to(tmp_path / "gone")  # a dangling one does not
    (directory / "4").symlink_to(directory / "4")  # nor one that is its own target
    (directory / "1" / "up").symlink_to(directory)
    (directory / "1" / "here").symlink_to(".")
    (repository / "loop").symlink_to("loop")
    (repository / "gone").symlink_to(tmp_path / "gone")
    (repository / "file").symlink_to(tmp_path / "elsewhere" / "model.bin")
    snapshot = scan(local(repository))
    assert {model.name: entry.versions for model, entry in snapshot.models.items()} == {"alpha": (1, 2)}
    assert {model.name for model in snapshot.blocked} == {"loop", "gone"}
    assert {model.name for model in list_models(local(repository)).models} == {"alpha"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_permission_errors(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "alpha")
    (directory / "1").chmod(0)
    try:
        assert scan(local(tmp_path)).models[ModelId("", "alpha")].versions == (1,)
        directory.chmod(0)
        assert scan(local(tmp_path)).models[ModelId("", "alpha")].versions == ()
    finally:
        directory.chmod(0o755)
        (directory / "1").chmod(0o755)


def test_a_model_that_vanishes_has_no_versions(tmp_path: Path) -> None:
    assert scan_model("alpha", tmp_path / "alpha").versions == ()


def _touch(path: Path, ns: int) -> None:
    os.utime(path, ns=(ns, ns))


def test_names_that_no_request_can_say(tmp_path: Path) -> None:
    write_model(tmp_path, "alpha")
    for name in (b"broken\xff", b"two\nlines", b"escape\x1b[31m"):
        (tmp_path / os.fsdecode(name)).mkdir()
    repositories = local(tmp_path)
    assert [model.name for model in scan(repositories).models] == ["alpha"]
    assert [model.name for model in list_models(repositories).models] == ["alpha"]


def test_directories_without_end(tmp_path: Path) -> None:
    top = write_model(tmp_path, "alpha") / "1"
    deep = top
    for _ in range(1100):  # more than the interpreter recurses
        deep = deep / "d"
        deep.mkdir()
    try:
        assert scan([LocalRepository(tmp_path)]).models[ModelId("", "alpha")].versions == (1,)
    finally:
        while deep != top:  # deeper than what removes the directories of tests can go
            deep.rmdir()
            deep = deep.parent


def test_fingerprints_tell_which_part_changed(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "alpha", (1, 2), {"x": 1})
    (directory / "labels.txt").write_text("cat")
    first = scan_model("alpha", directory)
    assert scan_model("alpha", directory).fingerprint == first.fingerprint

    _touch(directory / "2" / "model.bin", 5)
    second = scan_model("alpha", directory)
    assert second.version_fingerprints[1] == first.version_fingerprints[1]
    assert second.version_fingerprints[2] != first.version_fingerprints[2]
    assert second.common_fingerprint == first.common_fingerprint
    assert second.fingerprint != first.fingerprint

    (directory / "labels.txt").write_text("a dog")
    third = scan_model("alpha", directory)
    assert third.common_fingerprint != second.common_fingerprint
    assert third.version_fingerprints == second.version_fingerprints

    _touch(directory / "config.pbtxt", 5)
    fourth = scan_model("alpha", directory)
    assert fourth.config_fingerprint != third.config_fingerprint
    assert fourth.common_fingerprint == third.common_fingerprint
    assert fourth.fingerprint != third.fingerprint


def test_a_file_deep_in_a_version_counts(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "alpha")
    deep = directory / "1" / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "weights").write_text("12")
    first = scan_model("alpha", directory).fingerprint
    (deep / "weights").write_text("123")
    second = scan_model("alpha", directory).fingerprint
    (deep / "weights").unlink()
    third = scan_model("alpha", directory).fingerprint
    assert len({first, second, third}) == 3
