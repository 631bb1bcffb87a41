# SPDX-License-Identifier: Apache-2.0
"""Which version of which model is in which state, and why: one table behind one lock.

Only keeps the books; who loads, publishes and frees is the manager. All methods may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pyinfer.errors import NotFound, Unavailable
from pyinfer.repository.contract import LoadedVersion
from pyinfer.repository.overrides import Lease

__all__ = ["UNLOADED", "Served", "State", "StateTable", "VersionState"]

#: the reason of a version that is absent because somebody wished so
UNLOADED = "unloaded"


class State(Enum):
    """The states of a version, with the names that the index shows."""

    UNKNOWN = "UNKNOWN"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True)
class VersionState:
    """A state and, where it is not plain, its reason."""

    state: State = State.UNKNOWN
    reason: str = ""


@dataclass(frozen=True)
class Served:
    """A version that answers requests."""

    name: str
    version: int
    config: Mapping[str, Any]
    handle: LoadedVersion
    #: what it was made of; equal identities need no reload
    identity: str
    #: how long loading took, in seconds
    load_seconds: float = 0.0
    lease: Lease = field(default_factory=lambda: Lease(None))

    @property
    def core(self) -> Any:
        """The core's ``Model``."""
        return self.handle.core


@dataclass
class _Record:
    states: dict[int, VersionState] = field(default_factory=dict)
    serving: dict[int, Served] = field(default_factory=dict)
    #: why the model as a whole could not be (re)loaded; empty where it could
    failure: str = ""


class StateTable:
    """The states of all models that were ever to be loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: dict[str, _Record] = {}

    # Transitions

    def begin_load(self, name: str, versions: Collection[int]) -> None:
        """Mark as LOADING those of ``versions`` that do not serve; a serving one stays READY until it is replaced."""
        with self._lock:
            record = self._records.setdefault(name, _Record())
            for version in versions:
                if version not in record.serving:
                    record.states[version] = VersionState(State.LOADING)

    def commit(self, name: str, serving: Mapping[int, Served]) -> list[Served]:
        """Let ``serving`` be all that is served of ``name``. Returns what served before and does not any more.

        A version that goes without a successor is UNLOADING until :meth:`unloaded`.
        """
        with self._lock:
            record = self._records.setdefault(name, _Record())
            retired = [old for version, old in record.serving.items() if serving.get(version) is not old]
            # Old failures end here: what was tried before and is not wanted now is no fault any more.
            record.states = {
                version: row
                for version, row in record.states.items()
                if row.state is State.UNLOADING or row.reason == UNLOADED
            }
            record.states |= {old.version: VersionState(State.UNLOADING) for old in retired}
            record.states |= {version: VersionState(State.READY) for version in serving}
            record.serving = dict(serving)
            record.failure = ""
            if not record.states:
                del self._records[name]
            return retired

    def unloaded(self, name: str, version: int) -> None:
        """The UNLOADING version is gone; nothing changes where it is being loaded or served again."""
        with self._lock:
            record = self._records.get(name)
            if record is not None and record.states.get(version, VersionState()).state is State.UNLOADING:
                record.states[version] = VersionState(State.UNAVAILABLE, UNLOADED)

    def fail_versions(self, name: str, attempted: Collection[int], reasons: Mapping[int, str]) -> None:
        """Loading ``attempted`` failed as a whole because of ``reasons``; what serves goes on serving."""
        with self._lock:
            record = self._records.setdefault(name, _Record())
            record.failure = "; ".join(f"version {version}: {reason}" for version, reason in sorted(reasons.items()))
            for version in attempted:
                if version not in record.serving:
                    record.states[version] = VersionState(State.UNAVAILABLE, reasons.get(version, UNLOADED))

    def fail_model(self, name: str, reason: str) -> None:
        """The model could not be (re)loaded at all; what serves goes on serving."""
        with self._lock:
            record = self._records.setdefault(name, _Record())
            record.failure = reason
            for version, row in record.states.items():
                if version not in record.serving and row.state is not State.UNLOADING:
                    record.states[version] = VersionState(State.UNAVAILABLE, reason)

    # Questions

    def serving(self, name: str) -> dict[int, Served]:
        """Version -> what is served of ``name``."""
        with self._lock:
            record = self._records.get(name)
            return {} if record is None else dict(record.serving)

    def not_ready(self, name: str) -> list[int]:
        """The known versions of ``name`` that do not serve, ascending."""
        with self._lock:
            record = self._records.get(name)
            return [] if record is None else sorted(set(record.states) - set(record.serving))

    def served(self, name: str | None = None) -> list[Served]:
        """All that is served (of ``name``), by name and version."""
        with self._lock:
            records = self._records.values() if name is None else filter(None, [self._records.get(name)])
            everything = [served for record in records for served in record.serving.values()]
        return sorted(everything, key=lambda served: (served.name, served.version))

    def find(self, name: str, version: int | None) -> Served:
        """What serves ``version`` (None: the highest ready one) of ``name``. Raises NotFound or Unavailable."""
        with self._lock:
            record = self._records.get(name)
            if record is None or not record.states:
                raise NotFound(f"Request for unknown model: '{name}' is not found")
            if version is None:
                if not record.serving:
                    raise NotFound(f"Request for unknown model: '{name}' has no available versions")
                return record.serving[max(record.serving)]
            if version in record.serving:
                return record.serving[version]
            if version in record.states:
                raise Unavailable(f"Request for unknown model: '{name}' version {version} is not at ready state")
            raise NotFound(f"Request for unknown model: '{name}' version {version} is not found")

    def known(self, name: str) -> bool:
        """Whether any version of ``name`` is or was loaded, or was tried."""
        with self._lock:
            return name in self._records

    def healthy(self) -> bool:
        """Whether every model has a version, and every version is READY or was unloaded on purpose."""
        with self._lock:
            return all(
                record.states
                and all(row.state is State.READY or row.reason == UNLOADED for row in record.states.values())
                for record in self._records.values()
            )

    def rows(self) -> dict[str, list[tuple[int | None, VersionState]]]:
        """Name -> (version, state) ascending; one row without a version for a model that failed before it had any.

        A serving version whose reload failed is READY with the reason of that failure.
        """
        with self._lock:
            return {name: _rows(record) for name, record in sorted(self._records.items())}


def _rows(record: _Record) -> list[tuple[int | None, VersionState]]:
    if not record.states:
        return [(None, VersionState(State.UNAVAILABLE, record.failure))]
    return [
        (version, VersionState(row.state, record.failure) if row.state is State.READY else row)
        for version, row in sorted(record.states.items())
    ]
