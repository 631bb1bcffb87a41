# SPDX-License-Identifier: Apache-2.0
"""Mode poll: what changes on disk changes what serves, and what goes wrong on disk changes nothing."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from pyinfer.errors import Unavailable
from pyinfer.repository.manager import ModelManager
from pyinfer.repository.poller import Poller
from unit.repository.fakes import write_model
from unit.repository.house import House, error_text


def start(house: House, **options: object) -> ModelManager:
    """A manager that polls when it is told to."""
    manager = house.make("poll", poll_seconds=0, **options)
    manager.start()
    return manager


def test_new_changed_and_removed_models(house: House) -> None:
    changed = house.write("changed")
    house.write("same")
    house.write("removed")
    manager = start(house)
    before = {served.name: served.core for served in manager.served()}
    house.write("new")
    (changed / "1" / "model.bin").write_bytes(b"other weights")
    shutil.rmtree(house.repository / "removed")
    manager.poll()
    after = {served.name: served.core for served in manager.served()}
    assert sorted(after) == ["changed", "new", "same"]
    assert after["same"] is before["same"]
    assert after["changed"] is not before["changed"]
    assert before["removed"].closed.wait(60)
    assert [entry["name"] for entry in manager.index()] == ["changed", "new", "same"]
    assert house.publisher.reachable["removed"] == {}
    assert manager.healthy()
    house.write("removed")
    manager.poll()
    assert house.ready("removed") == [1]


def test_clients_can_not_interfere(house: House) -> None:
    text = error_text(start(house).require_explicit, Unavailable)
    assert text == "explicit model load / unload is not allowed if polling is enabled"


def test_a_failed_reload_keeps_the_old_version(house: House, caplog: pytest.LogCaptureFixture) -> None:
    directory = house.write("a")
    manager = start(house)
    old = manager.find("a", 1).core
    (directory / "1" / "fail").write_text("truncated")
    manager.poll()
    assert manager.find("a", 1).core is old
    assert house.rows("a") == [("1", "READY", "version 1: truncated")]
    assert manager.healthy()
    assert "version 1 is at UNAVAILABLE state: truncated" in caplog.text
    (directory / "config.pbtxt").write_text("{")
    manager.poll()
    assert manager.find("a", 1).core is old
    (directory / "config.pbtxt").write_text("{}")
    (directory / "1" / "fail").unlink()
    manager.poll()
    assert house.rows("a") == [("1", "READY", None)]
    assert manager.find("a", 1).core is old, "its files are again those that it was made of"


def test_what_fails_is_tried_again_but_not_at_each_poll(house: House) -> None:
    (house.write("a") / "1" / "fail").write_text("the disk is full")
    manager = start(house)
    tries = []
    for _ in range(8):
        before = house.loader.attempts
        manager.poll()
        tries.append(house.loader.attempts - before)
    assert tries == [1, 0, 1, 0, 0, 0, 1, 0]
    assert house.rows("a") == [("1", "UNAVAILABLE", "the disk is full")]
    (house.repository / "a" / "1" / "fail").write_text("the disk is still full")
    manager.poll()
    assert house.rows("a") == [("1", "UNAVAILABLE", "the disk is still full")]
    (house.repository / "a" / "1" / "fail").unlink()
    manager.poll()
    assert house.rows("a") == [("1", "READY", None)]


def test_a_broken_model_that_is_removed_is_forgiven(house: House) -> None:
    (house.write("a") / "1" / "fail").write_text("no weights")
    write_model(house.repository, "b", (1,), "{")
    house.write("c", 1, version_policy={"specific": {"versions": [9]}})
    manager = start(house)
    assert not manager.healthy()
    for name in ("a", "b", "c"):
        shutil.rmtree(house.repository / name)
    manager.poll()
    assert manager.healthy()
    assert manager.index() == []


def _cut_off(house: House, elsewhere: Path) -> None:
    house.repository.rename(elsewhere)


def _no_directory(house: House, elsewhere: Path) -> None:
    house.repository.rename(elsewhere)
    house.repository.write_text("a file")


def _link_to_nowhere(house: House, elsewhere: Path) -> None:
    (house.repository / "a").rename(elsewhere)
    (house.repository / "a").symlink_to(house.repository / "nowhere")


def _link_in_a_circle(house: House, elsewhere: Path) -> None:
    (house.repository / "a").rename(elsewhere)
    (house.repository / "a").symlink_to("a")


def _versions_gone(house: House, elsewhere: Path) -> None:
    (house.repository / "a" / "1").rename(elsewhere)


def _version_is_a_circle(house: House, elsewhere: Path) -> None:
    (house.repository / "a" / "1").rename(elsewhere)
    (house.repository / "a" / "1").symlink_to("1")


def _half_of_the_configuration(house: House, elsewhere: Path) -> None:
    (house.repository / "a" / "config.pbtxt").write_text('{"max_batch')


@pytest.mark.parametrize(
    "harm",
    [
        _cut_off,
        _no_directory,
        _link_to_nowhere,
        _link_in_a_circle,
        _versions_gone,
        _version_is_a_circle,
        _half_of_the_configuration,
    ],
)
def test_row_51_what_can_not_be_read_stays_as_it_was(house: House, tmp_path: Path, harm: object) -> None:
    house.write("a", x=1)
    manager = start(house)
    served = manager.find("a", 1).core
    harm(house, tmp_path / "elsewhere")  # type: ignore[operator]
    for _ in range(3):
        manager.poll()
        assert manager.find("a", 1).core is served
        assert house.publisher.reachable["a"] == {1: served}
        assert manager.healthy()


def test_row_51_a_repository_that_comes_back(house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    house.write("a")
    manager = start(house)
    served = manager.find("a", 1).core
    house.repository.rename(tmp_path / "elsewhere")
    manager.poll()
    manager.poll()
    assert caplog.text.count("can not read the model repository") == 1, "told once, not at each poll"
    (tmp_path / "elsewhere").rename(house.repository)
    shutil.rmtree(house.repository / "a")
    house.write("b")
    manager.poll()
    assert [entry["name"] for entry in manager.index()] == ["b"]
    assert served.closed.wait(60)


def test_row_51_unchanged_times_are_no_change(house: House) -> None:
    directory = house.write("a")
    file = directory / "1" / "model.bin"
    manager = start(house)
    served = manager.find("a", 1).core
    status = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    manager.poll()
    assert manager.find("a", 1).core is served
    file.touch()
    manager.poll()
    assert manager.find("a", 1).core is not served


def test_row_51_files_that_vanish_while_they_are_loaded(house: House) -> None:
    directory = house.write("a")
    manager = start(house)
    served = manager.find("a", 1).core
    (directory / "1" / "model.bin").write_bytes(b"half")
    real = house.loader.load

    def vanish(*arguments: object) -> object:
        shutil.rmtree(directory)
        raise FileNotFoundError(2, "No such file or directory", str(directory))

    house.loader.load = vanish  # type: ignore[method-assign, assignment]
    manager.poll()
    assert manager.find("a", 1).core is served
    house.loader.load = real  # type: ignore[method-assign]
    house.write("a", 1, 2)
    manager.poll()
    assert house.ready("a") == [2]


def test_a_duplicate_that_appears_leaves_the_served_one(house: House, tmp_path: Path) -> None:
    house.write("a")
    (tmp_path / "second").mkdir()
    manager = start(house, repositories=(house.repository, tmp_path / "second"))
    served = manager.find("a", 1).core
    write_model(tmp_path / "second", "a")
    manager.poll()
    assert manager.find("a", 1).core is served
    assert manager.index() == [
        {"name": "a", "state": "UNAVAILABLE", "reason": "model appears in two or more repositories"}
    ]
    shutil.rmtree(house.repository / "a")
    manager.poll()
    assert manager.find("a", 1).core.directory == tmp_path / "second" / "a"
    assert house.rows("a") == [("1", "READY", None)]


def test_a_poll_does_not_hold_up_the_end(house: House) -> None:
    house.write("a")
    manager = start(house)
    house.write("b")
    house.loader.gates["b"] = threading.Event()
    house.loader.entered["b"] = threading.Event()
    polling = house.workers.submit(manager.poll)
    assert house.loader.entered["b"].wait(60)
    assert manager.close(60)
    house.loader.gates["b"].set()
    polling.result(60)
    assert house.loader.alive() == []


def test_the_poller_goes_on_whatever_happens(caplog: pytest.LogCaptureFixture) -> None:
    thrice = threading.Event()
    calls: list[int] = []

    def poll() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()
        raise OSError("stale handle")

    poller = Poller(poll, 0.001)
    poller.start()
    assert thrice.wait(60)
    poller.stop()
    assert "polling the model repositories failed" in caplog.text


def test_a_manager_in_mode_poll_polls(house: House) -> None:
    house.write("a")
    manager = house.make("poll", poll_seconds=0.01)
    assert manager.start() == []
    house.write("b")
    while not house.ready("b"):
        threading.Event().wait(0.001)
    assert manager.close(60)
    house.write("c")
    assert house.ready("c") == []
