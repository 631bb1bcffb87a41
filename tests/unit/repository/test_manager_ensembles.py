# SPDX-License-Identifier: Apache-2.0
"""Models that need each other: what is loaded, unloaded and drained along with what."""

from __future__ import annotations

import pytest

from pyinfer.errors import InvalidArgument
from unit.repository.fakes import ensemble, write_model
from unit.repository.house import House, error_text


@pytest.fixture
def house(house: House) -> House:
    for name in ("a", "b", "c"):
        house.write(name)
    house.write("inner", **ensemble("a", "b"))
    house.write("outer", **ensemble("inner", "c"))
    return house


def serving(house: House) -> list[str]:
    return [served.name for served in house.manager.served()]


def test_an_ensemble_is_loaded_with_what_it_needs(house: House) -> None:
    house.manager.load("outer")
    assert serving(house) == ["a", "b", "c", "inner", "outer"]
    order = [version.name for version in house.loader.built]
    assert order.index("inner") > max(order.index("a"), order.index("b"))
    assert order.index("outer") > max(order.index("inner"), order.index("c"))
    house.manager.load("outer")
    assert house.loader.attempts == 5, "loaded again although nothing changed"


@pytest.mark.parametrize("mode", ["none", "poll"])
def test_at_start_as_well(house: House, mode: str) -> None:
    assert house.make(mode, poll_seconds=0).start() == []
    order = [version.name for version in house.loader.built]
    assert order.index("inner") > max(order.index("a"), order.index("b"))
    assert order[-1] == "outer"


def test_unloading_a_model_suspends_the_ensembles_that_need_it(house: House) -> None:
    house.manager.load("outer")
    house.manager.unload("a")
    assert serving(house) == ["b", "c"]
    assert house.rows("inner") == house.rows("outer") == [("1", "UNAVAILABLE", "unloaded")]
    house.manager.load("a")
    assert serving(house) == ["a", "b", "c", "inner", "outer"]
    house.manager.unload("outer")
    house.manager.unload("a")
    house.manager.load("a")
    assert serving(house) == ["a", "b", "c", "inner"], "what was unloaded by name stays away"


def test_unloading_with_dependents(house: House) -> None:
    house.manager.load("b")
    house.manager.load("outer")
    house.manager.unload("outer", unload_dependents=True)
    assert serving(house) == ["b"], "b was asked for by name"
    assert house.rows("inner") == [("1", "UNAVAILABLE", "unloaded")]
    house.manager.load("outer")
    house.manager.load("inner")
    house.manager.unload("outer", unload_dependents=True)
    assert serving(house) == ["a", "b", "inner"]
    house.manager.unload("inner")
    assert serving(house) == ["a", "b"]


def test_what_changed_below_is_looked_at_again_above(house: House) -> None:
    house.manager.load("outer")
    before = {served.name: served.core for served in house.manager.served()}
    (house.repository / "a" / "1" / "model.bin").write_bytes(b"other weights")
    house.manager.load("a")
    after = {served.name: served.core for served in house.manager.served()}
    assert {name for name in before if before[name] is not after[name]} == {"a", "inner", "outer"}


def test_a_step_that_fails_fails_the_ensemble(house: House) -> None:
    (house.repository / "b" / "1" / "fail").write_text("no weights")
    text = error_text(lambda: house.manager.load("outer"), InvalidArgument)
    assert text == (
        "load failed for model 'outer': ensemble 'outer' depends on 'inner' which has no loaded version. Model 'inner' "
        "loading failed with error: ensemble 'inner' depends on 'b' which has no loaded version. Model 'b' loading "
        "failed with error: version 1: no weights\n"
    )
    assert serving(house) == ["a", "c"]
    (house.repository / "b" / "1" / "fail").unlink()
    house.manager.load("b")
    assert serving(house) == ["a", "b", "c", "inner", "outer"]


def test_a_step_that_is_missing(house: House) -> None:
    house.write("e", **ensemble("a", "nowhere"))
    text = error_text(lambda: house.manager.load("e"), InvalidArgument)
    assert text == (
        "load failed for model 'e': ensemble e contains models that are not available or ambiguous: nowhere\n"
    )
    write_model(house.repository, "nowhere", (1,), "{")
    with pytest.raises(InvalidArgument, match="not available or ambiguous: nowhere"):
        house.manager.load("e")


def test_a_version_that_is_missing(house: House) -> None:
    house.write("e", **ensemble("a", version=7))
    text = error_text(lambda: house.manager.load("e"), InvalidArgument)
    assert text == "load failed for model 'e': ensemble 'e' depends on 'a' whose required version 7 is not loaded.\n"


def test_ensembles_around_each_other(house: House) -> None:
    house.write("x", **ensemble("y"))
    house.write("y", **ensemble("x"))
    text = error_text(lambda: house.manager.load("x"), InvalidArgument)
    assert text == "load failed for model 'x': circular dependency between ensembles: x -> ... -> y -> x\n"
    assert serving(house) == []
    failures = house.make("none").start()
    assert [failure.partition(":")[0] for failure in failures] == ["x", "y"]
    assert serving(house) == ["a", "b", "c", "inner", "outer"]


def test_named_at_start_with_what_it_needs(house: House) -> None:
    manager = house.make("explicit", startup_models=("outer",))
    assert manager.start() == []
    assert [served.name for served in manager.served()] == ["a", "b", "c", "inner", "outer"]
    manager.unload("outer", unload_dependents=True)
    assert not manager.served()


def test_the_end_drains_ensembles_before_what_they_need(house: House) -> None:
    house.manager.load("outer")
    order: list[str] = []
    for version in house.loader.built:
        drain = version.drain
        version.drain = lambda timeout_s, name=version.name, drain=drain: (  # type: ignore[method-assign]
            order.append(name) or drain(timeout_s)
        )
    assert house.manager.drain(60)
    assert order.index("outer") < min(order.index("inner"), order.index("c"))
    assert order.index("inner") < min(order.index("a"), order.index("b"))


def test_loads_of_ensembles_that_share_models_do_not_wait_for_each_other_for_ever(house: House) -> None:
    house.write("other", **ensemble("c", "inner"))
    calls = [
        house.workers.submit(operation, name)
        for _ in range(5)
        for name in ("outer", "other", "inner", "a", "c")
        for operation in (house.manager.load, house.manager.unload)
    ]
    for call in calls:
        call.exception(60)
    for name in ("outer", "other"):
        house.manager.load(name)
    assert serving(house) == ["a", "b", "c", "inner", "other", "outer"]


def test_an_ensemble_of_files_alone_outlives_its_load(house: House) -> None:
    import json

    house.manager.load("new", config=json.dumps(ensemble("a")), files={"1/note": b"x"})
    directory = house.manager.find("new", 1).core.directory
    house.manager.unload("a")
    assert house.manager.drain(60)
    assert directory.exists(), "it is to serve again once a does"
    house.manager.load("a")
    assert serving(house) == ["a", "new"]
    house.manager.unload("new")
    assert house.manager.drain(60)
    assert not directory.exists()
