# SPDX-License-Identifier: Apache-2.0
"""A loader and a publisher without a core: what a version is made of is written in its files.

``config.pbtxt`` holds JSON here. A file ``<version>/fail`` makes loading that version, or other instances of it, fail
with the file's text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfer.errors import ConfigError, ModelError
from pyinfer.repository.contract import LoadedVersion, ModelSource

__all__ = ["FakeLoader", "FakePublisher", "FakeVersion", "ensemble", "write_model"]


class FakeVersion:
    """A loaded version that records how it ends. Draining waits for ``idle``."""

    def __init__(self, source: ModelSource, config: Mapping[str, Any], version: int) -> None:
        self.name = source.name
        self.version = version
        self.directory = source.directory
        #: the ``instance_group`` that runs, and how many were prepared and neither committed nor discarded
        self.instances: Any = config.get("instance_group")
        self.prepared = 0
        self.idle = threading.Event()
        self.idle.set()
        self.drained = False
        self.closed = threading.Event()

    @property
    def core(self) -> FakeVersion:
        return self

    def prepare_instances(self, config: Mapping[str, Any]) -> FakeChange:
        failure = self.directory / str(self.version) / "fail"
        if failure.exists():
            raise ModelError(failure.read_text())
        return FakeChange(self, config.get("instance_group"))

    def probes(self) -> list[Any]:
        return []

    def watch(self, broken: Callable[[str], object]) -> None:
        self.broken = broken

    def drain(self, timeout_s: float) -> bool:
        self.drained = self.idle.wait(timeout_s)
        return self.drained

    def close(self) -> None:
        assert not self.closed.is_set(), "closed twice"
        self.closed.set()


class FakeChange:
    """Other instances of a version, to be committed or discarded once."""

    def __init__(self, version: FakeVersion, instances: object) -> None:
        self._version = version
        self._instances = instances
        version.prepared += 1

    def commit(self) -> None:
        self._end(lambda: setattr(self._version, "instances", self._instances))

    def discard(self) -> None:
        self._end(lambda: None)

    def _end(self, act: Callable[[], None]) -> None:
        assert self._version.prepared > 0
        self._version.prepared -= 1
        act()


class FakeLoader:
    """Records what it builds; a gate by model name holds up loading until it is set."""

    def __init__(self) -> None:
        self.built: list[FakeVersion] = []
        self.gates: dict[str, threading.Event] = {}
        self.entered: dict[str, threading.Event] = {}
        self.attempts = 0
        self._lock = threading.Lock()
        self._at_work: set[tuple[str, int]] = set()

    def configure(self, source: ModelSource) -> dict[str, Any]:
        file = source.directory / "config.pbtxt"
        text = source.config_override
        if text is None:
            text = file.read_text() if file.exists() else "{}"
        try:
            config: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise ConfigError("bad configuration") from error
        is_ensemble = "ensemble_scheduling" in config
        filled: dict[str, Any] = {"name": source.name, "version_policy": {"latest": {"num_versions": 1}}}
        filled |= {"platform": "ensemble" if is_ensemble else "", "max_batch_size": 0, "input": [], "output": []}
        filled |= {"instance_group": [], "model_warmup": []} if is_ensemble else {}
        return filled | config

    def load(
        self,
        source: ModelSource,
        config: Mapping[str, Any],
        version: int,
        steps: Sequence[LoadedVersion] = (),
    ) -> FakeVersion:
        key = (source.name, version)
        with self._lock:
            self.attempts += 1
            assert key not in self._at_work, "the same model is loaded twice at the same time"
            self._at_work.add(key)
        try:
            if source.name in self.entered:
                self.entered[source.name].set()
            if source.name in self.gates:
                assert self.gates[source.name].wait(60)
            failure = source.directory / str(version) / "fail"
            if failure.exists():
                raise ModelError(failure.read_text())
            built = FakeVersion(source, config, version)
            with self._lock:
                self.built.append(built)
            return built
        finally:
            with self._lock:
                self._at_work.discard(key)

    def alive(self) -> list[FakeVersion]:
        with self._lock:
            return [version for version in self.built if not version.closed.is_set()]


class FakePublisher:
    """What requests can reach. A published version must be open; that is checked at every change."""

    def __init__(self) -> None:
        self.reachable: dict[str, dict[int, FakeVersion]] = {}
        self.not_ready: dict[str, list[int]] = {}
        self.refusals: dict[str, str] = {}
        #: names with the versions that served after each change
        self.history: list[tuple[str, tuple[int, ...]]] = []

    def publish(self, name: str, models: Sequence[Any], not_ready: Sequence[int] = (), refusal: str = "") -> None:
        assert not any(model.closed.is_set() for model in models), "a closed version was published"
        self.reachable[name] = {model.version: model for model in models}
        self.not_ready[name] = list(not_ready)
        self.refusals[name] = refusal
        self.history.append((name, tuple(model.version for model in models)))

    def withdraw(self, name: str) -> None:
        self.reachable.pop(name, None)
        self.not_ready.pop(name, None)
        self.refusals.pop(name, None)
        self.history.append((name, ()))


def ensemble(*steps: str, version: int = -1) -> dict[str, Any]:
    """The configuration of an ensemble with these models as steps."""
    maps: dict[str, Any] = {"input_map": {}, "output_map": {}}
    calls = [{"model_name": name, "model_version": version, **maps} for name in steps]
    return {"ensemble_scheduling": {"step": calls}}


def write_model(
    repository: Path, name: str, versions: Sequence[int] = (1,), config: Mapping[str, Any] | str | None = None
) -> Path:
    """A model directory with one file in each version directory."""
    directory = repository / name
    directory.mkdir(parents=True, exist_ok=True)
    for version in versions:
        (directory / str(version)).mkdir(exist_ok=True)
        (directory / str(version) / "model.bin").write_bytes(b"weights")
    if config is not None:
        text = config if isinstance(config, str) else json.dumps(config)
        (directory / "config.pbtxt").write_text(text)
    return directory
