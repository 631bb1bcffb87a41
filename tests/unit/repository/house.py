# SPDX-License-Identifier: Apache-2.0
"""A manager with a repository on disk, a loader that records and threads that operate on it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from pyinfer.repository.manager import ControlMode, ManagerOptions, ModelManager
from pyinfer.repository.scan import LocalRepository
from unit.repository.fakes import FakeLoader, FakePublisher, write_model

__all__ = ["House", "error_text"]


class House:
    """A manager with everything around it."""

    def __init__(self, root: Path) -> None:
        self.repository = root / "repository"
        self.repository.mkdir()
        self.loader = FakeLoader()
        self.publisher = FakePublisher()
        self.workers = ThreadPoolExecutor(8)
        self.manager = self.make()

    def make(self, mode: str = "explicit", **options: Any) -> ModelManager:
        settings = {"repositories": (self.repository,), **options}
        settings["repositories"] = tuple(map(LocalRepository, settings["repositories"]))
        self.manager = ModelManager(ManagerOptions(mode=ControlMode(mode), **settings), self.loader, self.publisher)
        return self.manager

    def write(self, name: str, *versions: int, **config: Any) -> Path:
        return write_model(self.repository, name, versions or (1,), config or None)

    def configure(self, name: str, **config: Any) -> None:
        """Write the configuration alone."""
        write_model(self.repository, name, (), config)

    def rows(self, name: str) -> list[tuple[str | None, str, str | None]]:
        return [
            (entry.get("version"), entry.get("state", ""), entry.get("reason"))
            for entry in self.manager.index()
            if entry["name"] == name
        ]

    def ready(self, name: str) -> list[int]:
        return [served.version for served in self.manager.served(name)]

    def hold(self, name: str) -> Future[None]:
        """Start loading ``name`` on a worker; returns once it is inside the loader."""
        self.loader.gates[name] = threading.Event()
        self.loader.entered[name] = threading.Event()
        future = self.workers.submit(self.manager.load, name)
        assert self.loader.entered[name].wait(60)
        return future


def error_text(call: Callable[[], object], kind: type[Exception]) -> str:
    """The text of the exception of class ``kind`` that ``call`` must raise."""
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)
