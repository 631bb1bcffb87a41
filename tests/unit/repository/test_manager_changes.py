# SPDX-License-Identifier: Apache-2.0
"""Changes of ``instance_group`` and ``version_policy`` alone: nothing that serves is built anew."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyinfer.errors import InvalidArgument, ModelError
from unit.repository.house import House, error_text

ONE, TWO = [{"count": 1}], [{"count": 2}]
ALL = {"all": {}}


def cores(house: House) -> dict[int, Any]:
    return {served.version: served.core for served in house.manager.served("a")}


def test_instances_change_in_place(house: House) -> None:
    house.write("a", 1, 2, version_policy=ALL, instance_group=ONE)
    house.manager.load("a")
    before = cores(house)
    house.configure("a", version_policy=ALL, instance_group=TWO)
    house.manager.load("a")
    assert cores(house) == before
    assert house.loader.attempts == 2
    assert [core.instances for core in before.values()] == [TWO, TWO]
    assert [core.prepared for core in before.values()] == [0, 0]
    assert house.manager.find("a", 1).config["instance_group"] == TWO
    assert house.rows("a") == [("1", "READY", None), ("2", "READY", None)]
    house.manager.load("a")
    assert house.loader.attempts == 2


def test_versions_come_and_go_beside_those_that_stay(house: House) -> None:
    house.write("a", 1, 2, instance_group=ONE)
    house.manager.load("a")
    second = cores(house)[2]
    house.configure("a", version_policy=ALL, instance_group=TWO)
    house.manager.load("a")
    assert cores(house)[2] is second
    assert second.instances == TWO
    first = cores(house)[1]
    house.configure("a", version_policy={"specific": {"versions": [1]}}, instance_group=TWO)
    house.manager.load("a")
    assert cores(house) == {1: first}
    assert second.closed.wait(60)
    assert house.manager.drain(60)
    assert house.rows("a") == [("1", "READY", None), ("2", "UNAVAILABLE", "unloaded")]


def test_any_other_change_builds_anew(house: House) -> None:
    house.write("a", 1, instance_group=ONE)
    house.manager.load("a")
    before = cores(house)
    house.configure("a", instance_group=TWO, max_batch_size=4)
    house.manager.load("a")
    assert cores(house)[1] is not before[1]
    assert cores(house)[1].instances == TWO


def test_instances_that_fail_change_nothing(house: House) -> None:
    house.write("a", 1, 2, version_policy=ALL, instance_group=ONE)
    house.manager.load("a")
    before = cores(house)
    real = type(before[2]).prepare_instances

    def prepare(config: Any) -> Any:
        raise ModelError("no memory for a second one")

    before[2].prepare_instances = prepare
    house.configure("a", version_policy=ALL, instance_group=TWO)
    text = error_text(lambda: house.manager.load("a"), InvalidArgument)
    assert text == ("load failed for model 'a': version 2 is at UNAVAILABLE state: no memory for a second one;\n")
    assert cores(house) == before
    assert [core.instances for core in before.values()] == [ONE, ONE]
    assert [core.prepared for core in before.values()] == [0, 0]
    assert house.manager.find("a", 1).config["instance_group"] == ONE
    assert house.rows("a")[1] == ("2", "READY", "version 2: no memory for a second one")
    before[2].prepare_instances = lambda config: real(before[2], config)
    house.manager.load("a")
    assert [core.instances for core in before.values()] == [TWO, TWO]


def test_a_version_that_can_not_be_built_leaves_the_instances_of_others(house: House) -> None:
    directory = house.write("a", 1, version_policy=ALL, instance_group=ONE)
    house.manager.load("a")
    first = cores(house)[1]
    (directory / "2").mkdir()
    (directory / "2" / "fail").write_text("no weights")
    house.configure("a", version_policy=ALL, instance_group=TWO)
    with pytest.raises(InvalidArgument):
        house.manager.load("a")
    assert cores(house) == {1: first}
    assert (first.instances, first.prepared) == (ONE, 0)


def test_an_override_of_the_configuration_changes_in_place_as_well(house: House) -> None:
    house.write("a", 1, instance_group=ONE)
    house.manager.load("a")
    core = cores(house)[1]
    house.manager.load("a", config=json.dumps({"instance_group": TWO}))
    assert cores(house) == {1: core}
    assert core.instances == TWO
    house.manager.load("a")
    assert cores(house) == {1: core}
    assert core.instances == ONE
