# SPDX-License-Identifier: Apache-2.0
"""What the manager serves, refuses and tells: a loader that records, real threads and real files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinfer.errors import InvalidArgument, ModelError, NotFound, Unavailable
from unit.repository.fakes import write_model
from unit.repository.house import House, error_text


def test_mode_none_loads_everything_there_is(house: House) -> None:
    house.write("a", 1, 2)
    house.write("b")
    manager = house.make("none")
    assert manager.start() == []
    assert manager.index() == [
        {"name": "a", "version": "2", "state": "READY"},
        {"name": "b", "version": "1", "state": "READY"},
    ]
    assert list(house.publisher.reachable["a"]) == [2]
    assert manager.healthy()
    assert manager.table() == [("a", "2", "READY"), ("b", "1", "READY")]
    assert error_text(manager.require_explicit, Unavailable) == (
        "explicit model load / unload is not allowed if polling is enabled"
    )


def test_explicit_mode_loads_what_is_named(house: House) -> None:
    for name in ("a", "b", "c"):
        house.write(name)
    manager = house.make(startup_models=("b", "nowhere"))
    assert manager.start() == ["nowhere: failed to load 'nowhere', failed to poll from model repository"]
    assert manager.index() == [
        {"name": "a"},
        {"name": "b", "version": "1", "state": "READY"},
        {"name": "c"},
    ]
    manager.require_explicit()


def test_a_star_stands_for_all(house: House) -> None:
    house.write("a")
    house.write("b")
    assert house.make(startup_models=("*",)).start() == []
    assert sorted(house.publisher.reachable) == ["a", "b"]


def test_a_repository_that_is_not_there_ends_the_start(house: House) -> None:
    manager = house.make(repositories=(house.repository / "absent",))
    with pytest.raises(InvalidArgument, match="can not read the model repository .*absent': No such file or directory"):
        manager.start()


def test_a_model_in_two_repositories(house: House, tmp_path: Path) -> None:
    house.write("a")
    write_model(tmp_path / "second", "a")
    manager = house.make(repositories=(house.repository, tmp_path / "second"))
    assert manager.index() == [
        {"name": "a", "state": "UNAVAILABLE", "reason": "model appears in two or more repositories"}
    ]
    text = error_text(lambda: manager.load("a"), ModelError)
    assert text == (
        "failed to load 'a', failed to poll from model repository: model appears in two or more repositories"
    )
    manager = house.make("none", repositories=(house.repository, tmp_path / "second"))
    assert manager.start() == ["a: model appears in two or more repositories"]
    assert manager.table() == [("a", "-", "UNAVAILABLE: model appears in two or more repositories")]
    assert manager.healthy(), "as in Triton, what was never configured does not count"
    assert house.loader.built == []


def test_a_failure_leaves_its_reason(house: House) -> None:
    (house.write("a", 1, 2, version_policy={"all": {}}) / "2" / "fail").write_text("no weights")
    text = error_text(lambda: house.manager.load("a"), InvalidArgument)
    assert text == "load failed for model 'a': version 2 is at UNAVAILABLE state: no weights;\n"
    # all or nothing: version 1 could be built, and was taken down again
    assert house.rows("a") == [("1", "UNAVAILABLE", "unloaded"), ("2", "UNAVAILABLE", "no weights")]
    assert house.loader.alive() == []
    assert not house.manager.healthy()
    assert house.publisher.not_ready["a"] == [1, 2]
    assert error_text(lambda: house.manager.find("a", 2), Unavailable) == (
        "Request for unknown model: 'a' version 2 is not at ready state"
    )
    assert error_text(lambda: house.manager.find("a", None), NotFound) == (
        "Request for unknown model: 'a' has no available versions"
    )


def test_a_bad_configuration_leaves_its_reason(house: House) -> None:
    write_model(house.repository, "a", (1,), "{")
    text = error_text(lambda: house.manager.load("a"), ModelError)
    assert text == "failed to load 'a', failed to poll from model repository: bad configuration"
    assert house.manager.index() == [{"name": "a", "state": "UNAVAILABLE", "reason": "bad configuration"}]
    assert error_text(lambda: house.manager.find("a", None), NotFound) == "Request for unknown model: 'a' is not found"
    house.write("a", x=1)
    house.manager.load("a")
    assert house.rows("a") == [("1", "READY", None)]
    assert house.manager.healthy()


def test_the_newest_reason_is_told(house: House) -> None:
    directory = house.write("a", 1, 2, version_policy={"all": {}})
    (directory / "2" / "fail").write_text("no weights")
    with pytest.raises(InvalidArgument):
        house.manager.load("a")
    (directory / "config.pbtxt").write_text("{")
    with pytest.raises(ModelError):
        house.manager.load("a")
    assert house.rows("a") == [("1", "UNAVAILABLE", "unloaded"), ("2", "UNAVAILABLE", "bad configuration")]


def test_an_unloaded_failure_keeps_its_reason(house: House) -> None:
    (house.write("a") / "1" / "fail").write_text("no weights")
    with pytest.raises(InvalidArgument):
        house.manager.load("a")
    house.manager.unload("a")
    assert house.rows("a") == [("1", "UNAVAILABLE", "no weights")]
    assert not house.manager.healthy(), "as in Triton"
    (house.repository / "a" / "1" / "fail").unlink()
    house.manager.load("a")
    assert house.manager.healthy()


def test_no_version_fits_the_policy(house: House) -> None:
    house.write("a", 1, version_policy={"specific": {"versions": [4]}})
    text = error_text(lambda: house.manager.load("a"), InvalidArgument)
    reason = "at least one version must be available under the version policy of model 'a'"
    assert text == f"load failed for model 'a': {reason}\n"
    assert house.rows("a") == [(None, "UNAVAILABLE", reason)]


@pytest.mark.parametrize("name", ["", "..", "a/b", "../repository/a"])
def test_bad_names(house: House, name: str) -> None:
    for operation in (house.manager.load, house.manager.unload):
        with pytest.raises(InvalidArgument):
            operation(name)


def test_unknown_models(house: House) -> None:
    text = error_text(lambda: house.manager.load("a"), ModelError)
    assert text == "failed to load 'a', failed to poll from model repository"
    house.manager.unload("a")
    assert house.manager.index() == []
    assert not house.manager.known("a")
    assert house.manager.healthy()


def test_unload_and_load_again(house: House) -> None:
    house.write("a", 3)
    house.manager.load("a")
    first = house.manager.find("a", 3).core
    house.manager.unload("a")
    assert first.drained
    assert first.closed.is_set()
    assert house.rows("a") == [("3", "UNAVAILABLE", "unloaded")]
    assert house.manager.index(ready_only=True) == []
    assert house.publisher.reachable["a"] == {}
    assert house.publisher.not_ready["a"] == [3]
    assert house.manager.healthy()
    house.manager.unload("a")
    house.manager.load("a")
    assert house.manager.find("a", None).core is not first
    assert house.rows("a") == [("3", "READY", None)]
