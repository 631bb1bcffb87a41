# SPDX-License-Identifier: Apache-2.0
"""Which ensembles need which models, and what follows from it for loading, unloading and draining. Pure.

An ensemble *needs* the models of its steps and is a *dependent* of each of them. A model that was loaded only because
an ensemble needs it is *implicit*.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pyinfer.repository.contract import ModelId

__all__ = ["DependencyGraph", "Step", "UnloadPlan", "ensemble_fault", "ensemble_steps", "plan_unload"]

_LATEST = -1


class Step(NamedTuple):
    """A model that an ensemble calls; version -1 is the latest one."""

    name: str
    version: int


def ensemble_steps(config: Mapping[str, Any]) -> tuple[Step, ...]:
    """The steps of a configuration in JSON form; none where it is no ensemble's."""
    scheduling = config.get("ensemble_scheduling") or {}
    return tuple(
        Step(str(step.get("model_name", "")), int(step.get("model_version", 0))) for step in scheduling.get("step", ())
    )


class DependencyGraph:
    """What some ensembles need. Immutable."""

    def __init__(self, ensembles: Mapping[ModelId, Iterable[Step]], models: Collection[ModelId]) -> None:
        """``models`` are the ones that there are, each once; a name in a step stands for what :meth:`resolve` finds."""
        ensembles = {ensemble: tuple(steps) for ensemble, steps in ensembles.items()}
        # the models that no ensemble needs may be thousands
        self._named: dict[str, list[ModelId]] = {step.name: [] for steps in ensembles.values() for step in steps}
        for model in models if self._named else ():
            if model.name in self._named:
                self._named[model.name].append(model)
        self._needs = {
            ensemble: {self.resolve(ensemble, step.name) or ModelId(ensemble.namespace, step.name) for step in steps}
            for ensemble, steps in ensembles.items()
        }
        self._dependents: dict[ModelId, set[ModelId]] = {}
        for ensemble, needed in self._needs.items():
            for model in needed:
                self._dependents.setdefault(model, set()).add(ensemble)

    def resolve(self, ensemble: ModelId, name: str) -> ModelId | None:
        """The model that a step of ``ensemble`` means by ``name``: of its own namespace, else the only one."""
        found = self._named.get(name, [])
        own = ModelId(ensemble.namespace, name)
        if own in found:
            return own
        return found[0] if len(found) == 1 else None

    def needs(self, model: ModelId) -> set[ModelId]:
        """The models of the steps of ``model``."""
        return self._needs.get(model, set())

    def dependents(self, model: ModelId) -> set[ModelId]:
        """The ensembles that have ``model`` as a step."""
        return self._dependents.get(model, set())

    def all_dependents(self, models: Iterable[ModelId]) -> set[ModelId]:
        """The ensembles that need any of ``models``, directly or by other ensembles; not ``models`` themselves."""
        start = set(models)
        found: set[ModelId] = set()
        todo = list(start)
        while todo:
            for dependent in self.dependents(todo.pop()):
                if dependent not in found:
                    found.add(dependent)
                    todo.append(dependent)
        return found - start

    def generations(self, models: Iterable[ModelId]) -> tuple[list[list[ModelId]], list[ModelId]]:
        """``models`` in groups, each sorted, such that none needs a model of its own group or a later one.

        The second list holds those that go round in a circle, and those that need them.
        """
        left = set(models)
        groups: list[list[ModelId]] = []
        while left:
            group = sorted(model for model in left if not self.needs(model) & left)
            if not group:
                break
            groups.append(group)
            left -= set(group)
        return groups, sorted(left)

    def users_first(self, models: Iterable[ModelId]) -> list[ModelId]:
        """``models`` in an order in which each comes before what it needs."""
        groups, circular = self.generations(models)
        return [*circular, *(model for group in reversed(groups) for model in group)]

    def circle(self, model: ModelId) -> str:
        """Triton's text on the circle that ``model`` is on or leads to; empty where there is none."""
        path = [model]
        seen = {model}
        todo = [iter(sorted(self.needs(model)))]
        while todo:
            needed = next(todo[-1], None)
            if needed is None:
                todo.pop()
                path.pop()
            elif needed in path:
                return (
                    f"circular dependency between ensembles: {needed.name} -> ... -> {path[-1].name} -> {needed.name}"
                )
            elif needed not in seen:
                seen.add(needed)
                path.append(needed)
                todo.append(iter(sorted(self.needs(needed))))
        return ""


@dataclass(frozen=True)
class UnloadPlan:
    """What goes when a model goes; both in order, dependents before what they need."""

    #: not wanted any more
    unload: tuple[ModelId, ...]
    #: ensembles that can not serve for now, and are to serve again once what they need does
    suspend: tuple[ModelId, ...]


def plan_unload(
    asked: Collection[ModelId], graph: DependencyGraph, implicit: Collection[ModelId], *, dependents: bool
) -> UnloadPlan:
    """What an unload of ``asked`` means. ``dependents`` is the parameter ``unload_dependents``.

    With it the implicit models go that nothing else needs, as Triton does. The ensembles that need what goes are
    suspended in either case.
    """
    unload = set(asked)
    todo = list(asked) if dependents else []
    while todo:
        for model in graph.needs(todo.pop()):
            if model in implicit and model not in unload and graph.dependents(model) <= unload:
                unload.add(model)
                todo.append(model)
    suspend = graph.all_dependents(unload)
    order = graph.users_first(unload | suspend)
    return UnloadPlan(
        tuple(model for model in order if model in unload), tuple(model for model in order if model in suspend)
    )


def ensemble_fault(
    ensemble: ModelId,
    steps: Iterable[Step],
    graph: DependencyGraph,
    serving: Mapping[ModelId, Collection[int]],
    failures: Mapping[ModelId, str],
) -> str:
    """Why ``ensemble`` can not serve, in Triton's words; empty where it can.

    ``serving`` are the models that there are with their ready versions, ``failures`` why others could not be loaded.
    """
    steps = tuple(steps)
    circle = graph.circle(ensemble)
    if circle:
        return circle
    found = {step.name: graph.resolve(ensemble, step.name) for step in steps}
    missing = sorted(name for name, model in found.items() if model is None)
    if missing:
        return f"ensemble {ensemble.name} contains models that are not available or ambiguous: {', '.join(missing)}"
    for step in steps:
        model = found[step.name]
        versions = serving.get(model, ()) if model else ()
        text = f"ensemble '{ensemble.name}' depends on '{step.name}'"
        if not versions:
            reason = failures.get(model, "") if model else ""
            why = f" Model '{step.name}' loading failed with error: {reason}" if reason else ""
            return f"{text} which has no loaded version.{why}"
        if step.version != _LATEST and step.version not in versions:
            return f"{text} whose required version {step.version} is not loaded."
    return ""
