# SPDX-License-Identifier: Apache-2.0
"""Which version of which model is in which state, and why: one table behind one lock.

Only keeps the books; who loads, publishes and frees is the manager. All methods may be called from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pyinfer.errors import InvalidArgument, NotFound, Unavailable
from pyinfer.readiness import ReadinessProbe
from pyinfer.repository.contract import LoadedVersion, ModelId
from pyinfer.repository.overrides import Lease
from pyinfer.repository.plan import Identity

__all__ = ["UNLOADED", "Served", "State", "StateTable", "VersionState", "ambiguity_text"]

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

    model: ModelId
    version: int
    config: Mapping[str, Any]
    handle: LoadedVersion
    #: equal identities need no reload
    identity: Identity
    #: how long loading took, in seconds
    load_seconds: float = 0.0
    lease: Lease = field(default_factory=lambda: Lease(None))

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def namespace(self) -> str:
        """The repository that the model comes from, with ``--model-namespacing``; otherwise empty."""
        return self.model.namespace

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
    #: its configuration was good, and chose none of its versions
    is_versionless: bool = False
    #: some of what serves has code of its own that tells whether it is ready
    is_asked: bool = False


def ambiguity_text(name: str, count: int) -> str:
    """Triton's text on a name that stands for ``count`` models in different namespaces."""
    return (
        f"There are {count} identifiers of model '{name}' in global map, model namespace must be provided to resolve "
        "ambiguity."
    )


class StateTable:
    """The states of all models that were ever to be loaded."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: name -> namespace -> record
        self._records: dict[str, dict[str, _Record]] = {}
        # Kept with each change: whether the server is ready is asked more often than thousands of models can be.
        self._unhealthy: set[ModelId] = set()
        self._asked: set[ModelId] = set()
        # Made when it is asked for: pages and reports are about all that is served, and changes are few. None: not yet.
        self._all_served: tuple[Served, ...] | None = None

    # Transitions

    def begin_load(self, model: ModelId, versions: Collection[int]) -> None:
        """Mark as LOADING those of ``versions`` that do not serve; a serving one stays READY until it is replaced."""
        with self._lock:
            record = self._make(model)
            for version in versions:
                if version not in record.serving:
                    record.states[version] = VersionState(State.LOADING)
            self._note(model)

    def commit(self, model: ModelId, serving: Mapping[int, Served]) -> list[Served]:
        """Let ``serving`` be all that is served of ``model``. Returns what served before and does not any more.

        A version that goes without a successor is UNLOADING until :meth:`unloaded`. Earlier failures are forgotten:
        what was tried before and is not wanted now is no fault any more.
        """
        is_asked = any(served.handle.probes() for served in serving.values())
        with self._lock:
            record = self._make(model)
            handles = [served.handle for served in serving.values()]
            retired = [old for old in record.serving.values() if old.handle not in handles]
            record.states = _deliberate(record) | {old.version: VersionState(State.UNLOADING) for old in retired}
            record.states |= {version: VersionState(State.READY) for version in serving}
            record.serving, record.is_asked = dict(serving), is_asked
            record.failure, record.is_versionless = "", False
            self._note(model)
            return retired

    def retire(self, model: ModelId) -> list[Served]:
        """Serve nothing of ``model``. Returns what did; those are UNLOADING until :meth:`unloaded`.

        Versions that could not be loaded keep their reason, as in Triton.
        """
        with self._lock:
            record = self._find(model)
            if record is None:
                return []
            retired = list(record.serving.values())
            record.serving = {}
            record.states |= {old.version: VersionState(State.UNLOADING) for old in retired}
            record.failure, record.is_versionless = "", False
            self._drop_empty(model)
            self._note(model)
            return retired

    def broke(self, served: Served, reason: str) -> bool:
        """``served`` can execute nothing any more. False where it is not what serves."""
        with self._lock:
            record = self._find(served.model)
            serving = None if record is None else record.serving.get(served.version)
            if record is None or serving is None or serving.handle is not served.handle:
                return False
            del record.serving[served.version]
            record.states[served.version] = VersionState(State.UNAVAILABLE, reason)
            record.failure = reason
            self._note(served.model)
            return True

    def unloaded(self, model: ModelId, version: int) -> None:
        """The UNLOADING version is gone; nothing changes where it is being loaded or served again."""
        with self._lock:
            record = self._find(model)
            if record is not None and record.states.get(version, VersionState()).state is State.UNLOADING:
                record.states[version] = VersionState(State.UNAVAILABLE, UNLOADED)
                self._note(model)

    def forgive(self, model: ModelId) -> None:
        """The files of ``model`` are gone, and with them the fault of those that could not be loaded."""
        with self._lock:
            record = self._find(model)
            if record is not None:
                record.states = {v: row for v, row in record.states.items() if v in record.serving} | _deliberate(
                    record
                )
                record.failure, record.is_versionless = "", False
                self._drop_empty(model)
                self._note(model)

    def fail_versions(self, model: ModelId, attempted: Collection[int], reasons: Mapping[int, str]) -> None:
        """Loading ``attempted`` failed as a whole because of ``reasons``; what serves goes on serving."""
        with self._lock:
            record = self._make(model)
            record.failure = "; ".join(f"version {version}: {reason}" for version, reason in sorted(reasons.items()))
            for version in attempted:
                if version not in record.serving:
                    record.states[version] = VersionState(State.UNAVAILABLE, reasons.get(version, UNLOADED))
            self._note(model)

    def fail_model(self, model: ModelId, reason: str, *, is_versionless: bool = False) -> None:
        """The model could not be (re)loaded at all; its versions stay as they are, for the new reason if one failed.

        ``is_versionless`` tells that none of its versions is chosen; only this counts against the server's readiness.
        """
        with self._lock:
            record = self._make(model)
            record.failure, record.is_versionless = reason, is_versionless
            for version in record.states.keys() - record.serving.keys() - _deliberate(record).keys():
                record.states[version] = VersionState(State.UNAVAILABLE, reason)
            self._note(model)

    # Questions

    def serving(self, model: ModelId) -> dict[int, Served]:
        """Version -> what is served of ``model``."""
        with self._lock:
            record = self._find(model)
            return {} if record is None else dict(record.serving)

    def not_ready(self, model: ModelId) -> list[int]:
        """The known versions of ``model`` that do not serve, ascending."""
        with self._lock:
            record = self._find(model)
            return [] if record is None else sorted(set(record.states) - set(record.serving))

    def failure(self, model: ModelId) -> str:
        """Why the last (re)load of ``model`` failed; empty where it did not."""
        with self._lock:
            record = self._find(model)
            return "" if record is None else record.failure

    def models(self, name: str | None = None) -> list[ModelId]:
        """All models (of that name) that are known, sorted."""
        with self._lock:
            return [model for model, _ in self._sorted(name)]

    def served(self, name: str | None = None) -> tuple[Served, ...]:
        """All that is served (of that name), by model and version."""
        with self._lock:
            if name is not None:
                return self._serving(name)
            if self._all_served is None:
                self._all_served = self._serving(None)
            return self._all_served

    def find(self, name: str, version: int | None) -> Served:
        """What serves ``version`` (None: the highest ready one) of ``name``.

        Raises NotFound, Unavailable (known, not ready), or InvalidArgument where several models serve by that name.
        """
        with self._lock:
            record = self._resolve(name)
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

    def count(self) -> int:
        """Of the names that are known."""
        with self._lock:
            return len(self._records)

    def healthy(self) -> bool:
        """Whether every version serves or goes on purpose, and every configured model has a version."""
        with self._lock:
            return not self._unhealthy

    def probes(self) -> list[ReadinessProbe]:
        """How to ask the instances of what serves whether they are ready: those that have code of their own for it."""
        with self._lock:
            records = [self._find(model) for model in self._asked]
            handles = [served.handle for record in records if record for served in record.serving.values()]
        return [probe for handle in handles for probe in handle.probes()]

    def rows(self) -> dict[ModelId, list[tuple[int | None, VersionState]]]:
        """Model -> (version, state) ascending; one row without a version for a model that failed before it had any.

        A serving version whose reload failed is READY with the reason of that failure.
        """
        with self._lock:
            return {model: _rows(record) for model, record in self._sorted(None)}

    # Requires: the lock.

    def _find(self, model: ModelId) -> _Record | None:
        return self._records.get(model.name, {}).get(model.namespace)

    def _make(self, model: ModelId) -> _Record:
        return self._records.setdefault(model.name, {}).setdefault(model.namespace, _Record())

    def _note(self, model: ModelId) -> None:
        """Keep up what the questions about all models are answered from, after a change of ``model``."""
        self._all_served = None
        record = self._find(model)
        for models, belongs in (
            (self._unhealthy, record is not None and not _is_healthy(record)),
            (self._asked, record is not None and record.is_asked and bool(record.serving)),
        ):
            if belongs:
                models.add(model)
            else:
                models.discard(model)

    def _drop_empty(self, model: ModelId) -> None:
        record = self._find(model)
        if record is not None and not record.states:
            del self._records[model.name][model.namespace]
            if not self._records[model.name]:
                del self._records[model.name]

    def _sorted(self, name: str | None) -> Iterator[tuple[ModelId, _Record]]:
        names = self._records if name is None else [name] if name in self._records else []
        models = [ModelId(namespace, each) for each in names for namespace in self._records[each]]
        return ((model, self._records[model.name][model.namespace]) for model in sorted(models))

    def _serving(self, name: str | None) -> tuple[Served, ...]:
        return tuple(served for _, record in self._sorted(name) for _, served in sorted(record.serving.items()))

    def _resolve(self, name: str) -> _Record:
        """The record that ``name`` means: the serving one, else any."""
        records = [record for _, record in self._sorted(name) if record.states]
        serving = [record for record in records if record.serving]
        if len(serving) > 1:
            raise InvalidArgument(ambiguity_text(name, len(serving)))
        if not records:
            raise NotFound(f"Request for unknown model: '{name}' is not found")
        return (serving or records)[0]


def _deliberate(record: _Record) -> dict[int, VersionState]:
    """The versions that do not serve because somebody wished so."""
    return {
        version: row for version, row in record.states.items() if row.state is State.UNLOADING or row.reason == UNLOADED
    }


def _is_healthy(record: _Record) -> bool:
    is_complete = len(record.serving.keys() | _deliberate(record).keys()) == len(record.states)
    return is_complete and not (record.is_versionless and not record.states)


def _rows(record: _Record) -> list[tuple[int | None, VersionState]]:
    if not record.states:
        return [(None, VersionState(State.UNAVAILABLE, record.failure))]
    return [
        (version, VersionState(row.state, record.failure) if row.state is State.READY else row)
        for version, row in sorted(record.states.items())
    ]
