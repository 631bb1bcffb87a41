# SPDX-License-Identifier: Apache-2.0
"""Performs what is planned: loads and unloads models, publishes what serves, retires what does not.

A reload builds the new versions first, swaps them in with one ``publish``, and only then drains and closes the old
ones, so that no request fails in between. Building is all or nothing: where one version fails, the model stays as it
was and the index tells the reason. A version of which only the instances change is not built anew.

Thread rule: any thread. Operations on the same model wait for each other, those on different models do not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, cast

from pyinfer.errors import InternalError, InvalidArgument, ModelError, PyinferError, Unavailable
from pyinfer.readiness import ReadinessProbe
from pyinfer.repository.build import Origin, VersionBuilder, told_reason
from pyinfer.repository.contract import ModelId, ModelLoader, ModelSource, Publisher
from pyinfer.repository.dependencies import ensemble_steps, plan_unload
from pyinfer.repository.index import index_entries
from pyinfer.repository.install import Installer, Job
from pyinfer.repository.locks import NameLocks
from pyinfer.repository.overrides import Lease, check_model_name, write_override
from pyinfer.repository.plan import (
    DUPLICATE_REASON,
    Action,
    ActionKind,
    Failure,
    next_failure,
    plan,
    poll_failed_text,
)
from pyinfer.repository.poller import Poller
from pyinfer.repository.retire import Retirement
from pyinfer.repository.scan import Listing, Repository, Snapshot, list_models, scan, scan_model
from pyinfer.repository.states import Served, State, StateTable

__all__ = ["ControlMode", "ManagerOptions", "ModelManager"]

_log = logging.getLogger(__name__)

#: how long an unload waits for requests in flight before it returns with the version still UNLOADING
_UNLOAD_WAIT_S = 5.0


class ControlMode(Enum):
    """Who decides which models are loaded; the values are those of ``--model-control-mode``."""

    NONE = "none"
    EXPLICIT = "explicit"
    POLL = "poll"


@dataclass(frozen=True)
class ManagerOptions:
    """What the command line says about repositories."""

    repositories: tuple[Repository, ...]
    mode: ControlMode = ControlMode.NONE
    #: of mode ``explicit``: what to load at start; ``*`` stands for all
    startup_models: tuple[str, ...] = ()
    #: of mode ``poll``: from the end of one poll to the next; 0: never
    poll_seconds: float = 15.0
    #: models of the same name in several repositories are different models
    namespacing: bool = False
    load_thread_count: int = 4
    load_retry_count: int = 0


class ModelManager:
    """The models of some repositories. See the module for the promises."""

    def __init__(self, options: ManagerOptions, loader: ModelLoader, publisher: Publisher) -> None:
        self._options = options
        self._table = StateTable()
        self._retirement = Retirement(self._table)
        self._builder = VersionBuilder(loader, threads=options.load_thread_count, retries=options.load_retry_count)
        self._installer = Installer(self._table, self._builder, self._retirement, loader, publisher)
        self._locks = NameLocks()
        self._poller = Poller(self.poll, options.poll_seconds)
        # Of the thread that polls:
        self._polls = 0
        self._failures: dict[ModelId, Failure] = {}
        self._unreadable: frozenset[Path] = frozenset()

    # Operations

    def start(self) -> list[str]:
        """Load what the control mode says, and in mode ``poll`` go on doing so.

        Returns one text for each model that failed. Raises InvalidArgument where a repository can not be read.
        """
        snapshot = self._scan()
        for text in snapshot.unreadable.values():
            raise InvalidArgument(text)
        explicit = self._options.mode is ControlMode.EXPLICIT
        wanted: tuple[str, ...] | None = self._options.startup_models if explicit else None
        if wanted is not None and "*" in wanted:
            wanted = None
        texts = self._perform(plan(snapshot, {}, wanted), snapshot)
        if self._options.mode is ControlMode.POLL and self._options.poll_seconds > 0:
            self._poller.start()
        return texts

    def poll(self) -> None:
        """Bring what serves in line with what the repositories hold now; what fails is logged and stays as it was."""
        self._polls += 1
        snapshot = self._scan()
        for directory in snapshot.unreadable.keys() - self._unreadable:
            _log.error("%s; its models stay as they are", snapshot.unreadable[directory])
        self._unreadable = frozenset(snapshot.unreadable)
        texts = self._perform(plan(snapshot, self._installer.directories(), None), snapshot)
        for text in () if self._builder.closing else texts:
            _log.error("%s", text)

    def load(
        self, name: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None, asking: str = ""
    ) -> None:
        """Load ``name``, or reload it where anything changed; returns when it serves.

        ``config`` replaces the configuration file, ``files`` (path below the model's directory -> contents) the whole
        directory. The models that an ensemble needs are loaded with it. ``asking``: the model whose own load or unload
        waits for this one. Raises InvalidArgument or ModelError; the model is then served as before.
        """
        check_model_name(name)
        missing, names = {name}, set[str]()
        while missing:
            names |= missing
            with self._locks.hold(names, asking):
                missing = self._try_load(name, config, files or {}, names)

    def unload(self, name: str, *, unload_dependents: bool = False, asking: str = "") -> None:
        """Serve ``name`` no more. Waits for its requests in flight, but not for ever. Unknown names are no error.

        Ensembles that need it do not serve until it is loaded again. With ``unload_dependents`` the models go that were
        loaded only because ``name`` needs them. ``asking`` as for :meth:`load`; raises InvalidArgument.
        """
        check_model_name(name)
        missing, names = {name}, set[str]()
        while missing:
            names |= missing
            with self._locks.hold(names, asking):
                steps = plan_unload(
                    self._table.models(name),
                    self._installer.graph(),
                    self._installer.implicit(),
                    dependents=unload_dependents,
                )
                missing = {model.name for model in (*steps.unload, *steps.suspend)} - names
                threads = [] if missing else self._installer.take_down(steps)
        self._retirement.join(time.monotonic() + _UNLOAD_WAIT_S, threads)

    def require_explicit(self) -> None:
        """Raise Unavailable unless the control mode lets clients load and unload."""
        if self._options.mode is not ControlMode.EXPLICIT:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    def drain(self, timeout_s: float) -> bool:
        """Wait until all models, accepting nothing more, have answered: ensembles before the models that they need.

        False when the time is up.
        """
        self._poller.stop()
        until = time.monotonic() + timeout_s
        served: dict[ModelId, list[Served]] = {}
        for version in self._table.served():
            served.setdefault(version.model, []).append(version)
        drained = [
            version.handle.drain(max(0.0, until - time.monotonic()))
            for model in self._installer.graph().users_first(served)
            for version in served[model]
        ]
        return self._retirement.join(until) and all(drained)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Free all models, answering what is still queued with an error. Later loads are refused. Idempotent.

        False where a model was still executing when the time was up: its threads are left to the end of the process.
        """
        until = time.monotonic() + timeout_s
        self._poller.stop()
        self._builder.close()
        self._retirement.hurry()
        for model in {served.model for served in self._table.served()}:
            self._installer.withdraw(model)
        return self._retirement.join(until)

    # Questions

    def find(self, name: str, version: int | None) -> Served:
        """What serves ``version`` (None: the highest ready one).

        Raises NotFound, Unavailable (known, not ready), or InvalidArgument where several models serve by that name.
        """
        return self._table.find(name, version)

    def known(self, name: str) -> bool:
        """Whether any version of ``name`` is or was loaded, or was tried."""
        return self._table.known(name)

    def served(self, name: str | None = None) -> tuple[Served, ...]:
        """All that is served (by that name), by model and version."""
        return self._table.served(name)

    def count(self) -> int:
        """How many names of models are known."""
        return self._table.count()

    def healthy(self) -> bool:
        """Whether every version serves or goes on purpose, and every configured model has a version."""
        return self._table.healthy()

    def probes(self) -> list[ReadinessProbe]:
        """How to ask what is served whether it is ready: those instances that have code of their own for it."""
        return self._table.probes()

    def index(self, ready_only: bool = False) -> list[dict[str, Any]]:
        """The repository index: what is on disk now, and what is or was loaded of it, by model and version."""
        rows = self._table.rows()
        if ready_only:
            ready = {model: [row for row in known if row[1].state is State.READY] for model, known in rows.items()}
            rows = {model: known for model, known in ready.items() if known}
            return index_entries(rows, Listing(frozenset(), frozenset()))
        return index_entries(rows, list_models(self._options.repositories, namespacing=self._options.namespacing))

    def table(self) -> list[tuple[str, str, str]]:
        """(model, version, status) of everything that was to be loaded."""
        return [
            (model.name, "-" if number is None else str(number), ": ".join(filter(None, (row.state.value, row.reason))))
            for model, rows in self._table.rows().items()
            for number, row in rows
        ]

    # Start and poll

    def _scan(self, only: Collection[str] | None = None) -> Snapshot:
        return scan(self._options.repositories, only, namespacing=self._options.namespacing)

    def _perform(self, actions: Sequence[Action], snapshot: Snapshot) -> list[str]:
        """Perform all ``actions``. Returns one text for each model that failed."""
        texts: list[str] = []
        gone = [action.model for action in actions if action.kind is ActionKind.UNLOAD]
        if gone:
            self._forget(gone)
        for action in actions:
            if action.kind is ActionKind.REFUSE:
                self._table.fail_model(action.model, action.reason)
                texts.append(f"{action.model.name}: {action.reason}")
        origins = [_origin(action.model, snapshot) for action in actions if action.kind is ActionKind.LOAD]
        due = [origin for origin in origins if self._is_due(origin)]
        return texts + self._load_all([origin for origin in due if not self._installer.is_current(origin)])

    def _forget(self, models: Collection[ModelId]) -> None:
        """Unload models whose files are gone."""
        steps = plan_unload(models, self._installer.graph(), (), dependents=False)
        with self._locks.hold({model.name for model in (*steps.unload, *steps.suspend)}):
            self._installer.take_down(steps)
            for model in models:
                self._table.forgive(model)
                self._failures.pop(model, None)

    def _is_due(self, origin: Origin) -> bool:
        failure = self._failures.get(origin.model)
        return failure is None or failure.is_due(origin.entry.fingerprint, self._polls)

    def _load_all(self, origins: Sequence[Origin]) -> list[str]:
        """Load what changed, several models at a time, ensembles after what they need."""
        if not origins:
            return []
        with ThreadPoolExecutor(self._options.load_thread_count, thread_name_prefix="model-start") as starters:
            outcomes = dict(zip((each.model for each in origins), starters.map(self._survey, origins), strict=True))
            jobs = {model: job for model, job in outcomes.items() if isinstance(job, Job)}
            asked = set(jobs)
            if self._options.mode is ControlMode.EXPLICIT:  # otherwise all there is was asked for
                self._survey_needed(jobs, {origin.model.name for origin in origins})
            for model, job in jobs.items():
                self._installer.announce(job, explicit=model in asked)
            everything = {**jobs, **self._installer.stale_ensembles(jobs)}
            for group in self._installer.order(everything):
                done = starters.map(self._install, [everything[model] for model in group])
                outcomes |= dict(zip(group, done, strict=True))
        for job in jobs.values():
            job.release()
        failed = {model: outcome for model, outcome in outcomes.items() if isinstance(outcome, str) and outcome}
        for origin in origins:
            before = self._failures.pop(origin.model, None)
            if origin.model in failed:
                self._failures[origin.model] = next_failure(before, origin.entry.fingerprint, self._polls)
        return [f"{model.name}: {text}" for model, text in sorted(failed.items())]

    def _survey(self, origin: Origin) -> Job | str:
        try:
            return self._installer.survey(origin)
        except PyinferError as error:
            return str(error).rstrip()

    def _install(self, job: Job) -> str:
        """Install one model; the text of what went wrong, or an empty one."""
        with self._locks.hold({job.origin.model.name}):
            error = self._installed(job)
        return "" if error is None else str(error).rstrip()

    # Explicit loads

    def _try_load(self, name: str, config: str | None, files: Mapping[str, bytes], names: Collection[str]) -> set[str]:
        """Load ``name`` while the locks of ``names`` are held; the names whose locks it would need besides, if any."""
        origins = self._named_origins(name, config, files)
        jobs: dict[ModelId, Job] = {}
        try:
            self._survey_all(origins, jobs)
            needed = {model.name for model in (*jobs, *self._installer.stale_ensembles(jobs))}
            if not needed <= set(names):
                return needed - set(names)
            for origin in origins:
                self._installer.want(origin.model)
            self._install_explicitly(name, jobs)
        finally:
            for origin in origins:
                origin.lease.release()
            for job in jobs.values():
                job.release()
        return set()

    def _survey_all(self, origins: Sequence[Origin], jobs: dict[ModelId, Job]) -> None:
        """Add to ``jobs`` those of ``origins`` and of all that they need, where anything changed.

        Raises for ``origins`` only.
        """
        for origin in origins:
            if not self._installer.is_current(origin):
                jobs[origin.model] = self._installer.survey(origin)
        self._survey_needed(jobs, {origin.model.name for origin in origins})

    def _survey_needed(self, jobs: dict[ModelId, Job], seen: set[str]) -> None:
        """Add to ``jobs`` the models that they need, less those of the names ``seen``, where anything changed."""
        todo = list(jobs.values())
        while todo:
            for step in ensemble_steps(todo.pop().config):
                if step.name in seen:
                    continue
                seen.add(step.name)
                snapshot = self._scan({step.name})
                for origin in [_origin(model, snapshot) for model in snapshot.models]:
                    job = None if self._installer.is_current(origin) else self._survey(origin)
                    if isinstance(job, Job):
                        jobs[origin.model] = job
                        todo.append(job)

    def _install_explicitly(self, name: str, jobs: Mapping[ModelId, Job]) -> None:
        """Install ``jobs`` and the ensembles that need them. Raises the first error of those named ``name``."""
        everything = {**self._installer.stale_ensembles(jobs), **jobs}
        for job in jobs.values():
            self._installer.announce(job, explicit=job.origin.model.name == name)
        groups = self._installer.order(everything)
        results = {model: self._installed(everything[model]) for group in groups for model in group}
        for model in [model for model, error in results.items() if error is not None]:
            if model.name == name:  # an error and a frame that keeps it hold each other, and with them who has asked
                raise cast(PyinferError, results.pop(model))
            _log.error("%s", str(results[model]).rstrip())

    def _installed(self, job: Job) -> PyinferError | None:
        try:
            self._installer.install(job)
        except PyinferError as error:
            return error
        except Exception as error:  # our fault, and no reason to leave the other models alone
            reason = told_reason(error, job.origin.model.name)
            self._table.fail_model(job.origin.model, reason)
            return InternalError(reason)
        return None

    def _named_origins(self, name: str, config: str | None, files: Mapping[str, bytes]) -> list[Origin]:
        """Where a load request wants ``name`` from; several places with namespaces."""
        if files:
            if config is None:
                raise InvalidArgument("Load parameter 'config' must be specified for model file override")
            root = write_override(name, files)
            entry = scan_model(name, root / name)
            source = ModelSource(name, entry.directory, entry.versions, config)
            known = self._table.models(name)
            return [Origin(known[0] if len(known) == 1 else ModelId("", name), source, entry, Lease(root))]
        snapshot = self._scan({name})
        origins = [_origin(model, snapshot, config) for model in snapshot.models]
        if not origins:
            reason = f": {DUPLICATE_REASON}" if snapshot.duplicates else ""
            raise ModelError(f"{poll_failed_text(name)}{reason}")
        return origins


def _origin(model: ModelId, snapshot: Snapshot, config: str | None = None) -> Origin:
    entry = snapshot.models[model]
    return Origin(model, ModelSource(model.name, entry.directory, entry.versions, config), entry, Lease(None))
