# SPDX-License-Identifier: Apache-2.0
"""Which Python models may load at the same time, and that each finds its own modules then."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pyinfer.backends.base import InstanceContext, ModelContext
from pyinfer.backends.python.backend import InProcessBackend
from pyinfer.errors import ConfigError

PARALLEL = {"initialize-in-parallel": "true"}

MODEL = """
import importlib

import meeting_point

class TritonPythonModel:
    def initialize(self, args):
        with meeting_point.entered(args["model_name"]):
            self.text = importlib.import_module(args["model_config"].partition("HELPER=")[2].partition('"')[0]).TEXT
            meeting_point.meet()
            self.text += importlib.import_module("late_" + args["model_name"]).TEXT

    def execute(self, requests):
        raise AssertionError("nobody asks")
"""


class MeetingPoint(ModuleType):
    """Where the code of models counts itself, and may wait for others."""

    def __init__(self) -> None:
        super().__init__("meeting_point")
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0
        self.barrier: threading.Barrier | None = None

    def entered(self, name: str) -> MeetingPoint:
        return self

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1

    def meet(self) -> None:
        if self.barrier is not None:
            self.barrier.wait(60)


@pytest.fixture
def point(monkeypatch: pytest.MonkeyPatch) -> MeetingPoint:
    made = MeetingPoint()
    monkeypatch.setitem(sys.modules, "meeting_point", made)
    return made


def write(root: Path, name: str, helper: str) -> Path:
    version = root / name / "1"
    version.mkdir(parents=True)
    (version / "model.py").write_text(MODEL)
    (version / f"{helper}.py").write_text(f"TEXT = '{name}'")
    (version / f"late_{name}.py").write_text(f"TEXT = '{name}'")
    return root / name


def load_all(directories: dict[str, Path], helpers: dict[str, str], options: dict[str, str]) -> dict[str, str]:
    """Load all at the same time; what each of them found."""
    texts: dict[str, str] = {}
    backends: list[InProcessBackend] = []

    def load(name: str) -> None:
        config: dict[str, Any] = {"name": name, "parameters": {"x": {"string_value": f"HELPER={helpers[name]}"}}}
        backend = InProcessBackend(ModelContext(name, 1, directories[name], config, options))
        backends.append(backend)
        instance = backend.make_instance(InstanceContext(f"{name}_0"))
        texts[name] = instance._model.text  # type: ignore[attr-defined]
        instance.close()

    threads = [threading.Thread(target=load, args=(name,)) for name in directories]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for backend in backends:
        backend.close()
    return texts


def test_by_default_one_after_the_other(tmp_path: Path, point: MeetingPoint) -> None:
    helpers = {name: f"helper_{name}" for name in "abcd"}
    directories = {name: write(tmp_path, name, helper) for name, helper in helpers.items()}
    assert load_all(directories, helpers, {}) == {name: name + name for name in "abcd"}
    assert point.most == 1


def test_in_parallel_where_that_is_allowed(tmp_path: Path, point: MeetingPoint) -> None:
    helpers = {name: f"helper_{name}" for name in "abcd"}
    directories = {name: write(tmp_path, name, helper) for name, helper in helpers.items()}
    point.barrier = threading.Barrier(4)  # broken, and so an error, unless all four are there at once
    assert load_all(directories, helpers, PARALLEL) == {name: name + name for name in "abcd"}
    assert point.most == 4


def test_modules_of_the_same_name_make_even_those_wait(tmp_path: Path, point: MeetingPoint) -> None:
    helpers = dict.fromkeys("abcd", "helper")
    directories = {name: write(tmp_path, name, helper) for name, helper in helpers.items()}
    assert load_all(directories, helpers, PARALLEL) == {name: name + name for name in "abcd"}
    assert point.most == 1


def test_instances_of_one_model_may_meet(tmp_path: Path, point: MeetingPoint) -> None:
    directory = write(tmp_path, "a", "helper_a")
    config = {"name": "a", "parameters": {"x": {"string_value": "HELPER=helper_a"}}}
    backend = InProcessBackend(ModelContext("a", 1, directory, config, PARALLEL))
    point.barrier = threading.Barrier(3)
    made: list[Any] = []
    threads = [
        threading.Thread(target=lambda n=n: made.append(backend.make_instance(InstanceContext(f"a_{n}"))))
        for n in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [instance._model.text for instance in made] == ["aa"] * 3
    backend.close()


def test_a_setting_that_is_neither(tmp_path: Path, point: MeetingPoint) -> None:
    directory = write(tmp_path, "a", "helper_a")
    with pytest.raises(
        ConfigError, match="initialize-in-parallel of the python backend must be true or false, got '1'"
    ):
        InProcessBackend(ModelContext("a", 1, directory, {"name": "a"}, {"initialize-in-parallel": "1"}))
    config = {"name": "a", "parameters": {"EXECUTE_ON_ANY_THREAD": {"string_value": "maybe"}}}
    with pytest.raises(ConfigError, match="model parameter EXECUTE_ON_ANY_THREAD must be yes or no, got 'maybe'"):
        InProcessBackend(ModelContext("a", 1, directory, config))
