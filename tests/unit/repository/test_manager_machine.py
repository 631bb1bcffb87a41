# SPDX-License-Identifier: Apache-2.0
"""Random histories of disk changes, loads, unloads and polls, against a simple model of what must be served."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pyinfer.errors import PyinferError
from pyinfer.repository.manager import ControlMode, ManagerOptions, ModelManager
from pyinfer.repository.scan import LocalRepository
from unit.repository.fakes import FakeLoader, FakePublisher, write_model

NAMES = st.sampled_from(["a", "b"])
VERSIONS = st.integers(1, 3)
POLICIES = st.sampled_from(
    [{"all": {}}, {"latest": {"num_versions": 1}}, {"latest": {"num_versions": 2}}, {"specific": {"versions": [1, 3]}}]
)


class DiskMachine(RuleBasedStateMachine):
    """What happens on disk, and what must hold. ``expected`` is what must serve: name -> versions."""

    mode: ControlMode

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.repository = self.root / "repository"
        self.repository.mkdir()
        self.loader, self.publisher = FakeLoader(), FakePublisher()
        options = ManagerOptions((LocalRepository(self.repository),), self.mode, poll_seconds=0)
        self.manager = ModelManager(options, self.loader, self.publisher)
        self.expected: dict[str, set[int]] = {}
        self.size = 0

    def teardown(self) -> None:
        assert self.manager.close(60)
        assert self.loader.alive() == []
        shutil.rmtree(self.root)

    @rule(name=NAMES, version=VERSIONS)
    def write_version(self, name: str, version: int) -> None:
        self.size += 1  # another size is seen also where the clock of the file system is coarse
        directory = write_model(self.repository, name, (version,))
        (directory / str(version) / "model.bin").write_bytes(b"x" * self.size)

    @rule(name=NAMES, version=VERSIONS)
    def remove_version(self, name: str, version: int) -> None:
        shutil.rmtree(self.repository / name / str(version), ignore_errors=True)

    @rule(name=NAMES, version=VERSIONS, broken=st.booleans())
    def break_version(self, name: str, version: int, broken: bool) -> None:
        directory = self.repository / name / str(version)
        if directory.exists():
            (directory / "fail").unlink(missing_ok=True)
            if broken:
                (directory / "fail").write_text("broken")

    @rule(name=NAMES, policy=POLICIES, instances=st.integers(1, 2))
    def configure(self, name: str, policy: dict[str, object], instances: int) -> None:
        self.size += 1
        text = json.dumps({"version_policy": policy, "instance_group": instances})
        write_model(self.repository, name, (), text + " " * self.size)

    @rule(name=NAMES)
    def break_config(self, name: str) -> None:
        write_model(self.repository, name, (), "{")

    @rule(name=NAMES)
    def remove_model(self, name: str) -> None:
        shutil.rmtree(self.repository / name, ignore_errors=True)

    def _wanted(self, name: str) -> set[int] | None:
        """The versions that a load must serve, None where it must fail before it builds any."""
        directory = self.repository / name
        if not directory.exists():
            return None
        file = directory / "config.pbtxt"
        try:
            config = json.loads(file.read_text()) if file.exists() else {}
        except ValueError:
            return None
        policy = config.get("version_policy", {"latest": {"num_versions": 1}})
        versions = sorted(int(child.name) for child in directory.iterdir() if child.is_dir())
        if "specific" in policy:
            chosen = set(versions) & {1, 3}
        elif "all" in policy:
            chosen = set(versions)
        else:
            chosen = set(versions[-policy["latest"]["num_versions"] :])
        return chosen or None

    @invariant()
    def requests_reach_what_serves(self) -> None:
        for name, versions in self.expected.items():
            assert self._ready(name) == sorted(versions)
            for served in self.manager.served(name):
                assert served.core.instances == served.config.get("instance_group")
            assert set(self.publisher.reachable.get(name, {})) == versions
            for core in self.publisher.reachable.get(name, {}).values():
                assert not core.closed.is_set()

    @invariant()
    def the_index_tells_the_same(self) -> None:
        ready = {(entry["name"], int(entry["version"])) for entry in self.manager.index(ready_only=True)}
        assert ready == {(name, version) for name, versions in self.expected.items() for version in versions}
        for entry in self.manager.index():
            if entry.get("state") == "UNAVAILABLE":
                assert entry["reason"]

    @invariant()
    def nothing_else_is_alive(self) -> None:
        served = {id(served.core) for served in self.manager.served()}
        for version in self.loader.built:
            assert version.prepared == 0
            if id(version) not in served:
                assert version.closed.wait(60)

    def _is_broken(self, name: str, versions: set[int]) -> bool:
        return any((self.repository / name / str(version) / "fail").exists() for version in versions)

    def _ready(self, name: str) -> list[int]:
        return [served.version for served in self.manager.served(name)]


class ExplicitMachine(DiskMachine):
    """Clients load and unload."""

    mode = ControlMode.EXPLICIT

    @rule(name=NAMES)
    def load(self, name: str) -> None:
        wanted = self._wanted(name)
        before = self._ready(name)
        try:
            self.manager.load(name)
        except PyinferError:
            assert wanted is None or self._is_broken(name, wanted)
            assert self._ready(name) == before
        else:
            assert wanted is not None
            self.expected[name] = wanted

    @rule(name=NAMES)
    def unload(self, name: str) -> None:
        self.manager.unload(name)
        self.expected[name] = set()


class PollMachine(DiskMachine):
    """The repository is looked at now and then."""

    mode = ControlMode.POLL

    @rule()
    def poll(self) -> None:
        self.manager.poll()
        for name in ("a", "b"):
            wanted = self._wanted(name)
            if not (self.repository / name).exists():
                self.expected[name] = set()
            elif wanted is not None and not self._is_broken(name, wanted):
                self.expected[name] = wanted


TestExplicitMachine = ExplicitMachine.TestCase
TestPollMachine = PollMachine.TestCase
TestExplicitMachine.settings = TestPollMachine.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None
)
