# SPDX-License-Identifier: Apache-2.0
"""Puts one model into service, or takes it out: builds what is new, swaps, retires what is old.

Keeps what a model was installed from, so that an unchanged one is not built again and an ensemble can be installed
again once a model that it needs is back. Methods that change a model require that its name's lock is held.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyinfer.config.rules_graph import graph_faults, needs_decoupled
from pyinfer.errors import InvalidArgument, ModelError, Unavailable
from pyinfer.repository.build import EXITING, BuildFailed, Origin, VersionBuilder, discard, told_reason
from pyinfer.repository.contract import InstanceChange, LoadedVersion, ModelId, ModelLoader, Publisher
from pyinfer.repository.dependencies import DependencyGraph, Step, UnloadPlan, ensemble_fault, ensemble_steps
from pyinfer.repository.plan import Identity, choose_versions, plan_versions, poll_failed_text
from pyinfer.repository.retire import Retirement
from pyinfer.repository.states import Served, StateTable, ambiguity_text

__all__ = ["Installer", "Job"]

_log = logging.getLogger(__name__)

#: what can be changed without building a version anew
_ADJUSTABLE = ("instance_group", "version_policy")


@dataclass(frozen=True)
class Job:
    """A model that is ready to be installed: where from, and its complete configuration.

    It holds the directory of its origin; whoever had it made releases it.
    """

    origin: Origin
    config: Mapping[str, Any]

    def release(self) -> None:
        """Let go of the directory. To be called once."""
        self.origin.lease.release()


@dataclass(frozen=True)
class _Wanted:
    """A model that is to serve, whether or not it can just now."""

    #: somebody asked for it by name; not only an ensemble needs it
    explicit: bool
    directory: Path
    #: of its files, where they are all that it was loaded from and the load succeeded
    fingerprint: str | None = None
    #: of ensembles only; holds the origin's lease
    job: Job | None = None


class Installer:
    """What is installed. See the module for the rule on locks; questions may be asked at any time."""

    def __init__(
        self,
        table: StateTable,
        builder: VersionBuilder,
        retirement: Retirement,
        loader: ModelLoader,
        publisher: Publisher,
    ) -> None:
        self._table = table
        self._builder = builder
        self._retirement = retirement
        self._loader = loader
        self._publisher = publisher
        self._lock = threading.Lock()
        self._wanted: dict[ModelId, _Wanted] = {}
        #: of what is wanted: with thousands of ensembles it can not be made for each of them; None where it is outdated
        self._graph: DependencyGraph | None = None

    # Questions

    def is_current(self, origin: Origin) -> bool:
        """Whether the model serves and was loaded from just these files. An earlier failure is then taken back."""
        with self._lock:
            wanted = self._wanted.get(origin.model)
        if wanted is None or wanted.fingerprint is None or wanted.fingerprint != origin.fingerprint:
            return False
        serving = self._table.serving(origin.model)
        if serving and self._table.failure(origin.model):
            self._table.commit(origin.model, serving)
        return bool(serving)

    def directories(self) -> dict[ModelId, Path]:
        """The models that are to serve, and the directories that they were loaded from."""
        with self._lock:
            return {model: wanted.directory for model, wanted in self._wanted.items()}

    def implicit(self) -> set[ModelId]:
        """The models that are loaded only because an ensemble needs them."""
        with self._lock:
            return {model for model, wanted in self._wanted.items() if not wanted.explicit}

    def graph(self, more: Iterable[Job] = ()) -> DependencyGraph:
        """What the ensembles that are to serve need, those of ``more`` included."""
        with self._lock:
            others = [job for job in more if not self._is_in_graph(job)]
            if others:
                return self._make_graph(others)
            if self._graph is None:
                self._graph = self._make_graph(())
            return self._graph

    def stale_ensembles(self, jobs: Mapping[ModelId, Job]) -> dict[ModelId, Job]:
        """The ensembles, other than those of ``jobs``, that must be looked at again once ``jobs`` are installed."""
        dependents = self.graph(jobs.values()).all_dependents(jobs)
        with self._lock:
            stored = {model: self._wanted[model].job for model in dependents if model in self._wanted}
        return {model: job for model, job in stored.items() if job is not None and model not in jobs}

    def order(self, jobs: Mapping[ModelId, Job]) -> list[list[ModelId]]:
        """The models of ``jobs`` in groups, each to be installed after the one before."""
        groups, circular = self.graph(jobs.values()).generations(jobs)
        return [*groups, circular] if circular else groups

    # Changes

    def want(self, model: ModelId) -> None:
        """Note that a model that serves already was asked for by name."""
        with self._lock:
            if model in self._wanted:
                self._wanted[model] = replace(self._wanted[model], explicit=True)

    def announce(self, job: Job, *, explicit: bool) -> None:
        """Note that ``job`` is to be installed; ``explicit`` where it was asked for by name.

        To be called of all jobs that belong together before the first is installed: they may need each other.
        """
        self._settle(job, None, explicit=explicit)

    def survey(self, origin: Origin) -> Job:
        """Bring the files here and read the configuration; the caller releases the job.

        Raises ModelError, or InvalidArgument where the client's own configuration is at fault.
        """
        model = origin.model
        if self._builder.closing:
            raise Unavailable(EXITING)
        try:
            return self._configured(origin.localized())
        except Exception as error:
            reason = told_reason(error, model.name)
            self._table.fail_model(model, reason)
            self._unsettle(model)
            if origin.source.config_override is not None and isinstance(error, InvalidArgument):
                raise
            raise ModelError(f"{poll_failed_text(model.name)}: {reason}") from error

    def install(self, job: Job) -> None:
        """Serve what ``job`` says. Raises InvalidArgument where that fails; what served before goes on then.

        Requires: it was announced.
        """
        steps_of_ensemble = self._find_steps(job)
        parts = {served.name: served.config for served in steps_of_ensemble}
        if steps_of_ensemble:
            policy = {"decoupled": needs_decoupled(job.config, parts)}
            job = replace(job, config={**job.config, "model_transaction_policy": policy})
        origin, config = job.origin, job.config
        model = origin.model
        chosen = choose_versions(config.get("version_policy", {}), origin.source.versions)
        if not chosen:
            reason = f"at least one version must be available under the version policy of model '{model.name}'"
            self._table.fail_model(model, reason, is_versionless=True)
            raise InvalidArgument(f"load failed for model '{model.name}': {reason}\n")
        serving = self._table.serving(model)
        identities = {version: self._identity(job, version) for version in chosen}
        steps = plan_versions(identities, {version: old.identity for version, old in serving.items()})
        self._table.begin_load(model, steps.load)
        self.publish(model.name)
        wanted = {version: identities[version] for version in steps.load}
        called = [served.handle for served in steps_of_ensemble]
        built, changes = self._build(job, wanted, called, {version: serving[version] for version in steps.adjust})
        for change in changes.values():
            change.commit()
        kept = {
            version: replace(serving[version], config=config, identity=identities[version])
            for version in (*steps.keep, *steps.adjust)
        }
        retired = self._table.commit(model, kept | built)
        self.publish(model.name)
        for served in retired:
            self._retirement.add(served)
        for served in (kept | built).values():
            served.handle.watch(partial(self._broke, served))
        self._settle(job, origin.fingerprint, explicit=False)
        for version in sorted(built.keys() | changes.keys()):
            _log.info("successfully loaded '%s' version %d", model.name, version)
        if self._builder.closing:
            self.withdraw(model)  # close() may have looked before the commit

    def take_down(self, steps: UnloadPlan) -> list[threading.Thread]:
        """Serve what ``steps`` names no more; the threads that drain and free it, ensembles before what they need."""
        threads: list[threading.Thread] = []
        for model in (*steps.suspend, *steps.unload):
            retired = self._table.retire(model)
            self.publish(model.name)
            threads += [self._retirement.add(served, threads.copy()) for served in retired]
        for model in steps.unload:
            with self._lock:
                wanted = self._wanted.pop(model, None)
                self._graph = None
            if wanted is not None and wanted.job is not None:
                wanted.job.origin.lease.release()
        return threads

    def publish(self, name: str) -> None:
        """Tell the publisher what the table says of the models of that name."""
        models = self._table.models(name)
        serving = {model: versions for model in models if (versions := self._table.serving(model))}
        if len(serving) > 1:
            self._publisher.publish(name, [], [], ambiguity_text(name, len(serving)))
            return
        model = next(iter(serving), models[0] if models else None)
        versions = serving.get(model, {}) if model else {}
        not_ready = self._table.not_ready(model) if model else []
        if versions or not_ready:
            self._publisher.publish(name, [versions[version].core for version in sorted(versions)], not_ready)
        else:
            self._publisher.withdraw(name)

    def withdraw(self, model: ModelId) -> None:
        """Serve ``model`` no more because the server ends. Needs no lock: a load in progress does not hold it up."""
        retired = self._table.retire(model)
        self._publisher.withdraw(model.name)
        for served in retired:
            self._retirement.add(served)

    # Inside

    def _is_in_graph(self, job: Job) -> bool:
        """Whether what is wanted has the model of ``job`` with the same steps. Requires: the lock."""
        wanted = self._wanted.get(job.origin.model)
        return wanted is not None and _steps_of(wanted.job) == ensemble_steps(job.config)

    def _make_graph(self, more: Collection[Job]) -> DependencyGraph:
        """Requires: the lock."""
        jobs = [wanted.job for wanted in self._wanted.values() if wanted.job is not None] + [*more]
        models = {*self._wanted, *(job.origin.model for job in more)}
        return DependencyGraph({job.origin.model: ensemble_steps(job.config) for job in jobs}, models)

    def _broke(self, served: Served, reason: str) -> None:
        """Serve a version no more that can not execute anything. Any thread; needs no lock."""
        if not self._table.broke(served, reason):
            return
        _log.error("'%s' version %d is unavailable: %s", served.name, served.version, reason)
        self.publish(served.name)
        self._unsettle(served.model)
        self._retirement.add_broken(served)

    def _configured(self, local: Origin) -> Job:
        try:
            return Job(local, self._loader.configure(local.source))
        except BaseException:
            local.lease.release()
            raise

    def _find_steps(self, job: Job) -> list[Served]:
        """What each step of an ensemble calls; [] for another model. Raises InvalidArgument where it can not serve."""
        steps = ensemble_steps(job.config)
        if not steps:
            return []
        model = job.origin.model
        graph = self.graph()
        needed = [found for step in steps if (found := graph.resolve(model, step.name)) is not None]
        fault = ensemble_fault(
            model,
            steps,
            graph,
            {each: list(self._table.serving(each)) for each in needed},
            {each: self._table.failure(each) for each in needed},
        )
        called: list[Served] = []
        if not fault:
            for step in steps:
                meant = graph.resolve(model, step.name)
                serving = self._table.serving(meant) if meant else {}
                called.append(serving[max(serving) if step.version == -1 else step.version])
            configs = {served.name: served.config for served in called} | {model.name: job.config}
            fault = next((each.message for each in graph_faults(model.name, configs)), "")
        if fault:
            self._table.fail_model(model, fault)
            raise InvalidArgument(f"load failed for model '{model.name}': {fault}\n")
        return called

    def _build(
        self,
        job: Job,
        wanted: Mapping[int, Identity],
        steps: Sequence[LoadedVersion],
        adjusted: Mapping[int, Served],
    ) -> tuple[dict[int, Served], dict[int, InstanceChange]]:
        """Build and prepare everything, or nothing and raise InvalidArgument."""
        model = job.origin.model
        try:
            built = self._builder.build(job.origin, job.config, wanted, steps)
            try:
                return built, self._builder.adjust(adjusted, job.config)
            except BuildFailed:
                discard(built)
                raise
        except BuildFailed as failed:
            self._table.fail_versions(model, wanted, failed.reasons)
            self.publish(model.name)
            lines = [
                f"version {version} is at UNAVAILABLE state: {reason};\n" for version, reason in failed.reasons.items()
            ]
            raise InvalidArgument(f"load failed for model '{model.name}': {''.join(lines)}") from failed

    def _identity(self, job: Job, version: int) -> Identity:
        own = {key: value for key, value in job.config.items() if key not in _ADJUSTABLE}
        entry = job.origin.entry
        parts = [str(entry.directory), entry.common_fingerprint, entry.version_fingerprints.get(version, "")]
        parts.append(_text(own))
        graph = self.graph() if "ensemble_scheduling" in own else None
        for step in ensemble_steps(own):
            needed = graph.resolve(job.origin.model, step.name) if graph else None
            serving = self._table.serving(needed) if needed else {}
            parts += [f"{step.name}:{number}:{serving[number].identity.content}" for number in sorted(serving)]
        return Identity("|".join(parts), _text(job.config.get("instance_group", [])))

    def _settle(self, job: Job, fingerprint: str | None, *, explicit: bool) -> None:
        """Remember what the model is installed from. Once it is asked for by name, it stays so."""
        model = job.origin.model
        kept = job if ensemble_steps(job.config) else None
        if kept is not None:
            kept.origin.lease.hold()
        with self._lock:
            if not self._is_in_graph(job):
                self._graph = None
            before = self._wanted.get(model)
            explicit = explicit or (before is not None and before.explicit)
            self._wanted[model] = _Wanted(explicit, job.origin.entry.directory, fingerprint, kept)
        if before is not None and before.job is not None:
            before.job.origin.lease.release()

    def _unsettle(self, model: ModelId) -> None:
        with self._lock:
            if model in self._wanted:
                self._wanted[model] = replace(self._wanted[model], fingerprint=None)


def _steps_of(job: Job | None) -> tuple[Step, ...]:
    return () if job is None else ensemble_steps(job.config)


def _text(value: Collection[Any]) -> str:
    return json.dumps(value, sort_keys=True, default=str)
