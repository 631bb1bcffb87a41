# SPDX-License-Identifier: Apache-2.0
"""What is to be done: snapshot x states x wishes -> actions. Pure: no disk, no clock, no lock, nothing performed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from pyinfer.repository.contract import ModelId
from pyinfer.repository.scan import Snapshot

__all__ = [
    "DUPLICATE_REASON",
    "Action",
    "ActionKind",
    "Failure",
    "Identity",
    "VersionPlan",
    "choose_versions",
    "next_failure",
    "plan",
    "plan_versions",
    "poll_failed_text",
]

DUPLICATE_REASON = "model appears in two or more repositories"
#: a model that goes on failing is tried again at least every so many polls
_MOST_POLLS_BETWEEN_TRIES = 64


class ActionKind(Enum):
    """What is to be done with a model."""

    LOAD = "load"
    UNLOAD = "unload"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Action:
    """One model's next step; ``reason`` says why where it is a refusal."""

    kind: ActionKind
    model: ModelId
    reason: str = ""


@dataclass(frozen=True)
class Identity:
    """What a model version is made of."""

    #: its files, and its configuration but for what can be changed while it serves
    content: str
    #: which instances run it
    instances: str


@dataclass(frozen=True)
class VersionPlan:
    """What is to be done with the versions of one model; the four are disjoint and ascending."""

    load: tuple[int, ...]
    #: served on, by other instances
    adjust: tuple[int, ...]
    keep: tuple[int, ...]
    unload: tuple[int, ...]


@dataclass(frozen=True)
class Failure:
    """A model that could not be loaded by a poll, and when to try again."""

    #: of the files that it was tried with
    fingerprint: str
    #: how often these files have failed
    count: int
    #: the number of the poll that tries again although the files are the same
    due: int

    def is_due(self, fingerprint: str, poll: int) -> bool:
        """Whether the poll number ``poll``, which found ``fingerprint``, is to try again."""
        return fingerprint != self.fingerprint or poll >= self.due


def plan(snapshot: Snapshot, loaded: Mapping[ModelId, Path], wanted: Collection[str] | None) -> list[Action]:
    """The steps from ``loaded`` to the models named in ``wanted`` (None: every model there is), by model.

    ``loaded`` maps the models with a serving version to the directory that they came from. A wanted model is loaded
    also where it is loaded already: its files tell the performer whether anything changed. A model that is wanted,
    served and now ambiguous is refused and goes on serving. What can not be looked at is left as it is.
    """
    found = set(snapshot.models) | snapshot.duplicates
    targets = found if wanted is None else {model for model in found if model.name in wanted}
    missing = () if wanted is None else set(wanted) - {model.name for model in targets}
    targets |= {ModelId("", name) for name in missing}
    actions = []
    for model in sorted(targets | set(loaded)):
        if model not in targets:
            if model not in snapshot.blocked and loaded[model].parent not in snapshot.unreadable:
                actions.append(Action(ActionKind.UNLOAD, model))
        elif model in snapshot.duplicates:
            actions.append(Action(ActionKind.REFUSE, model, DUPLICATE_REASON))
        elif model in snapshot.models:
            actions.append(Action(ActionKind.LOAD, model))
        else:
            actions.append(Action(ActionKind.REFUSE, model, poll_failed_text(model.name)))
    return actions


def poll_failed_text(name: str) -> str:
    """Triton's text on a model that could not even be looked at."""
    return f"failed to load '{name}', failed to poll from model repository"


def next_failure(before: Failure | None, fingerprint: str, poll: int) -> Failure:
    """What to remember of a load that failed at poll ``poll``; with the same files, each wait is twice the last."""
    count = before.count + 1 if before is not None and before.fingerprint == fingerprint else 1
    return Failure(fingerprint, count, poll + int(min(2 ** (count - 1), _MOST_POLLS_BETWEEN_TRIES)))


def choose_versions(policy: Mapping[str, Any], available: Iterable[int]) -> tuple[int, ...]:
    """The versions that a ``version_policy`` (JSON form) selects among those on disk, ascending.

    An empty policy is ``latest`` with one version; versions that ``specific`` names and the disk lacks are left out.
    """
    versions = sorted(set(available))
    if "all" in policy:
        return tuple(versions)
    if "specific" in policy:
        named = {int(version) for version in policy["specific"].get("versions", ())}
        return tuple(version for version in versions if version in named)
    count = int((policy.get("latest") or {}).get("num_versions", 1))
    return tuple(versions[-count:]) if count > 0 else ()


def plan_versions(wanted: Mapping[int, Identity], serving: Mapping[int, Identity]) -> VersionPlan:
    """Compare what should serve with what does.

    A version whose content changed is in ``load``: it is built anew and replaces the serving one. Where only the
    instances changed it is in ``adjust``.
    """
    keep = {version for version, identity in wanted.items() if serving.get(version) == identity}
    adjust = {
        version
        for version in wanted.keys() & serving.keys()
        if version not in keep and wanted[version].content == serving[version].content
    }
    return VersionPlan(
        load=tuple(sorted(set(wanted) - keep - adjust)),
        adjust=tuple(sorted(adjust)),
        keep=tuple(sorted(keep)),
        unload=tuple(sorted(set(serving) - set(wanted))),
    )
