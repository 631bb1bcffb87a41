# SPDX-License-Identifier: Apache-2.0
"""Several repositories whose models may have the same names."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pyinfer.errors import InvalidArgument, NotFound
from pyinfer.repository.manager import ModelManager
from unit.repository.fakes import ensemble, write_model
from unit.repository.house import House, error_text

AMBIGUOUS = (
    "There are 2 identifiers of model 'two' in global map, model namespace must be provided to resolve ambiguity."
)


@pytest.fixture
def second(house: House, tmp_path: Path) -> Path:
    """``two`` is in both repositories, ``a`` in the first, ``b`` in the second."""
    house.write("a")
    house.write("two", 1)
    write_model(tmp_path / "second", "two", (2,))
    write_model(tmp_path / "second", "b")
    return tmp_path / "second"


def make(house: House, second: Path, mode: str = "explicit") -> ModelManager:
    return house.make(mode, repositories=(house.repository, second), namespacing=True, poll_seconds=0)


def served(manager: ModelManager) -> list[tuple[str, str, int]]:
    return [(Path(each.namespace).name, each.name, each.version) for each in manager.served()]


def test_all_are_served(house: House, second: Path) -> None:
    manager = make(house, second, "none")
    assert manager.start() == []
    assert served(manager) == [
        ("repository", "a", 1),
        ("repository", "two", 1),
        ("second", "b", 1),
        ("second", "two", 2),
    ]
    assert [(entry["name"], entry["version"], entry["state"]) for entry in manager.index()] == [
        ("a", "1", "READY"),
        ("two", "1", "READY"),
        ("b", "1", "READY"),
        ("two", "2", "READY"),
    ]
    assert manager.healthy()
    assert error_text(lambda: manager.find("two", None), InvalidArgument) == AMBIGUOUS
    assert error_text(lambda: manager.find("two", 1), InvalidArgument) == AMBIGUOUS
    assert house.publisher.refusals == {"a": "", "b": "", "two": AMBIGUOUS}
    assert house.publisher.reachable["two"] == {}
    assert manager.find("b", None).namespace == str(second)


def test_a_name_means_all_of_that_name(house: House, second: Path) -> None:
    manager = make(house, second)
    assert [entry["name"] for entry in manager.index()] == ["a", "two", "b", "two"]
    manager.load("two")
    assert served(manager) == [("repository", "two", 1), ("second", "two", 2)]
    manager.unload("two")
    assert served(manager) == []
    assert error_text(lambda: manager.find("two", None), NotFound).endswith("'two' has no available versions")
    assert house.publisher.refusals["two"] == ""
    shutil.rmtree(second / "two")
    manager.load("two")
    assert manager.find("two", None).version == 1
    assert list(house.publisher.reachable["two"]) == [1]


def test_a_name_becomes_ambiguous_and_clear_again(house: House, second: Path) -> None:
    manager = make(house, second, "poll")
    manager.start()
    write_model(second, "a")
    manager.poll()
    assert house.publisher.refusals["a"] == AMBIGUOUS.replace("two", "a")
    shutil.rmtree(house.repository / "a")
    manager.poll()
    assert house.publisher.refusals["a"] == ""
    assert manager.find("a", None).namespace == str(second)


def test_ensembles_mean_their_neighbours(house: House, second: Path) -> None:
    house.write("e", **ensemble("two", "b"))
    write_model(second, "f", (1,), ensemble("two"))
    manager = make(house, second, "none")
    assert manager.start() == []
    assert manager.close(60)
    third = house.repository.parent / "third"
    write_model(third, "g", (1,), ensemble("two"))
    manager = house.make("none", repositories=(house.repository, second, third), namespacing=True)
    (failure,) = manager.start()
    assert failure.endswith("ensemble g contains models that are not available or ambiguous: two")


def test_files_of_a_load_replace_the_one_model_of_that_name(house: House, second: Path) -> None:
    manager = make(house, second)
    manager.load("b")
    manager.load("b", config="{}", files={"7/model.bin": b"x"})
    assert served(manager) == [("second", "b", 7)]
    manager.load("b")
    assert served(manager) == [("second", "b", 1)]
