# SPDX-License-Identifier: Apache-2.0
"""Reloads, overrides, concurrency and the end: a loader that records, real threads and real files."""

from __future__ import annotations

import json
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest

from pyinfer.errors import InvalidArgument, ModelError, Unavailable
from unit.repository.house import House, error_text


def test_a_reload_builds_before_it_swaps_and_drains_after(house: House) -> None:
    directory = house.write("a")
    house.manager.load("a")
    old = house.manager.find("a", 1).core
    old.idle.clear()
    (directory / "1" / "model.bin").write_bytes(b"other weights")
    loading = house.hold("a")
    assert house.publisher.reachable["a"] == {1: old}
    assert house.rows("a") == [("1", "READY", None)]
    house.loader.gates["a"].set()
    loading.result(60)
    new = house.manager.find("a", 1).core
    assert new is not old
    assert house.publisher.reachable["a"] == {1: new}
    assert () not in [versions for _, versions in house.publisher.history[1:]], "there was a moment without a version"
    assert not old.closed.is_set(), "closed although a request was in flight"
    old.idle.set()
    assert old.closed.wait(60)
    assert house.rows("a") == [("1", "READY", None)]


def test_an_unload_waits_for_requests_in_flight(house: House) -> None:
    house.write("a")
    house.manager.load("a")
    served = house.manager.find("a", 1).core
    served.idle.clear()
    unloading = house.workers.submit(house.manager.unload, "a")
    while house.publisher.reachable["a"]:
        threading.Event().wait(0.001)
    assert house.rows("a") == [("1", "UNLOADING", None)]
    assert house.manager.healthy()
    assert not served.closed.is_set()
    served.idle.set()
    unloading.result(60)
    assert house.rows("a") == [("1", "UNAVAILABLE", "unloaded")]


def test_loading_is_seen_while_it_lasts(house: House) -> None:
    house.write("a")
    loading = house.hold("a")
    assert house.rows("a") == [("1", "LOADING", None)]
    assert house.publisher.not_ready["a"] == [1]
    assert not house.manager.healthy()
    house.loader.gates["a"].set()
    loading.result(60)
    assert house.rows("a") == [("1", "READY", None)]


def test_nothing_changed_nothing_done(house: House) -> None:
    directory = house.write("a", x=1)
    house.manager.load("a")
    served = house.manager.find("a", 1).core
    house.manager.load("a")
    assert house.manager.find("a", 1).core is served
    # neither another wording of the same configuration nor what Python leaves behind changes anything
    (directory / "config.pbtxt").write_text('{ "x" : 1 }')
    (directory / "1" / "__pycache__").mkdir()
    (directory / "1" / "__pycache__" / "helper.pyc").write_bytes(b"x")
    house.manager.load("a")
    assert house.manager.find("a", 1).core is served
    assert house.loader.attempts == 1


def test_only_what_changed_is_built_anew(house: House) -> None:
    house.write("a", 1, version_policy={"all": {}})
    house.manager.load("a")
    first = house.manager.find("a", 1)
    directory = house.write("a", 2, version_policy={"latest": {"num_versions": 2}})
    house.manager.load("a")
    assert house.manager.find("a", 1).handle is first.handle
    assert house.ready("a") == [1, 2]
    house.write("a", 2, version_policy={"latest": {"num_versions": 1}})
    house.manager.load("a")
    assert house.ready("a") == [2]
    assert first.core.closed.wait(60)
    (directory / "labels.txt").write_text("cat")
    second = house.manager.find("a", 2)
    house.manager.load("a")
    assert house.manager.find("a", 2) is not second


def test_a_failed_reload_keeps_the_old_version(house: House) -> None:
    directory = house.write("a")
    house.manager.load("a")
    old = house.manager.find("a", 1)
    (directory / "1" / "fail").write_text("truncated")
    with pytest.raises(InvalidArgument, match="version 1 is at UNAVAILABLE state: truncated;\n"):
        house.manager.load("a")
    assert house.manager.find("a", 1) is old
    assert not old.core.closed.is_set()
    assert house.publisher.reachable["a"] == {1: old.core}
    assert house.rows("a") == [("1", "READY", "version 1: truncated")]
    assert house.manager.healthy()
    (directory / "config.pbtxt").write_text("{")
    with pytest.raises(ModelError):
        house.manager.load("a")
    assert house.rows("a") == [("1", "READY", "bad configuration")]
    (directory / "config.pbtxt").unlink()
    (directory / "1" / "fail").unlink()
    house.manager.load("a")
    assert house.rows("a") == [("1", "READY", None)]


def test_a_configuration_override_lasts_until_the_next_load(house: House) -> None:
    house.write("a", 1, x=1)
    house.manager.load("a")
    house.manager.load("a", config=json.dumps({"x": 2}))
    assert house.manager.find("a", 1).config["x"] == 2
    house.manager.load("a")
    assert house.manager.find("a", 1).config["x"] == 1
    with pytest.raises(InvalidArgument, match="bad configuration"):
        house.manager.load("a", config="{")
    assert house.manager.find("a", 1).config["x"] == 1


def test_file_overrides(house: House) -> None:
    house.write("a", 1)
    house.manager.load("a")
    text = error_text(lambda: house.manager.load("a", files={"2/model.bin": b"x"}), InvalidArgument)
    assert text == "Load parameter 'config' must be specified for model file override"
    house.manager.load("a", config="{}", files={"2/model.bin": b"x"})
    served = house.manager.find("a", None)
    directory = served.core.directory
    assert served.version == 2
    assert (directory / "2" / "model.bin").read_bytes() == b"x"
    assert not directory.is_relative_to(house.repository)
    house.manager.load("a")
    assert served.core.closed.wait(60)
    assert house.ready("a") == [1]
    assert house.manager.drain(60)  # what is retired has then freed everything
    assert not directory.exists()


def test_a_model_may_be_made_of_files_alone(house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    house.manager.load("new", config="{}", files={"1/model.bin": b"x"})
    assert house.rows("new") == [("1", "READY", None)]
    directory = house.manager.find("new", 1).core.directory
    with pytest.raises(InvalidArgument):
        house.manager.load("new", config="{}", files={"1/fail": b"broken"})
    assert list(temporary.iterdir()) == [directory.parent]
    house.manager.unload("new")
    assert list(temporary.iterdir()) == []


def test_a_failed_load_is_retried(house: House) -> None:
    directory = house.write("a")
    (directory / "1" / "fail").write_text("not yet")
    manager = house.make(load_retry_count=2)
    with pytest.raises(InvalidArgument):
        manager.load("a")
    assert house.loader.attempts == 3


def test_different_models_load_at_the_same_time(house: House) -> None:
    for name in ("a", "b"):
        house.write(name)
    first = house.hold("a")
    second = house.hold("b")  # returns only if b gets into the loader while a is there
    for name in ("b", "a"):
        house.loader.gates[name].set()
    first.result(60)
    second.result(60)


def test_operations_on_one_model_wait_for_each_other(house: House) -> None:
    house.write("a")
    first = house.hold("a")
    others = [house.workers.submit(operation, "a") for operation in (house.manager.unload, house.manager.load)]
    house.loader.gates["a"].set()  # the fake asserts that no two loads of one version overlap
    first.result(60)
    for other in others:
        other.result(60)


def test_an_unexpected_exception_is_told_in_the_log_only(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.write("a", config_that_is=1)

    def explode(*_: Any) -> Any:
        raise RuntimeError("secret of /etc/shadow")

    house.loader.load = explode  # type: ignore[method-assign]
    text = error_text(lambda: house.manager.load("a"), InvalidArgument)
    assert "secret" not in text
    assert "RuntimeError" in text
    assert "secret" in caplog.text


def test_a_fault_of_ours_spares_the_other_models(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.write("a")
    house.write("b")
    publish = house.publisher.publish

    def explode(name: str, *arguments: Any) -> None:
        if name == "a":
            raise RuntimeError("secret")
        publish(name, *arguments)

    monkeypatch.setattr(house.publisher, "publish", explode)
    (failure,) = house.make("none").start()
    assert failure == "a: loading failed unexpectedly with RuntimeError; the server's log tells more"
    assert house.ready("b") == [1]
    assert house.rows("a") == [("1", "UNAVAILABLE", failure.removeprefix("a: "))]
    monkeypatch.undo()


def test_close_refuses_later_loads(house: House) -> None:
    house.write("a")
    house.manager.load("a")
    served = house.manager.find("a", 1).core
    assert house.manager.drain(60)
    assert house.manager.close(60)
    assert served.closed.is_set()
    assert house.publisher.reachable == {}
    with pytest.raises(Unavailable, match="Server exiting"):
        house.manager.load("a")


def test_close_during_a_load(house: House) -> None:
    house.write("a")
    loading = house.hold("a")
    closing = house.workers.submit(house.manager.close, 60)
    assert closing.result(60), "the end waited for a load"
    house.loader.gates["a"].set()
    with pytest.raises((InvalidArgument, Unavailable)):
        loading.result(60)
    assert house.loader.alive() == []


def test_close_cancels_loads_that_wait_for_a_thread(house: House) -> None:
    house.write("a")
    house.write("b")
    manager = house.make(load_thread_count=1)
    loading = house.hold("a")
    waiting = house.workers.submit(manager.load, "b")
    while ("1", "LOADING", None) not in house.rows("b"):
        threading.Event().wait(0.001)
    assert manager.close(60)
    with pytest.raises(InvalidArgument, match="version 1 is at UNAVAILABLE state: Server exiting;"):
        waiting.result(60)
    house.loader.gates["a"].set()
    with pytest.raises(InvalidArgument, match="Server exiting"):
        loading.result(60)


def test_drain_tells_when_the_time_is_up(house: House) -> None:
    house.write("a")
    house.manager.load("a")
    served = house.manager.find("a", 1).core
    served.idle.clear()
    assert not house.manager.drain(0.01)
    served.idle.set()
    assert house.manager.drain(60)
