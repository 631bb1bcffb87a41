# SPDX-License-Identifier: Apache-2.0
"""What is to be done: snapshot x states x wishes -> actions. Pure: no disk, no clock, no lock, nothing performed."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pyinfer.repository.scan import Snapshot

__all__ = ["DUPLICATE_REASON", "Action", "ActionKind", "VersionPlan", "choose_versions", "plan", "plan_versions"]

DUPLICATE_REASON = "model appears in two or more repositories"


class ActionKind(Enum):
    """What is to be done with a model."""

    LOAD = "load"
    UNLOAD = "unload"
    REFUSE = "refuse"


@dataclass(frozen=True)
class Action:
    """One model's next step; ``reason`` says why where it is a refusal."""

    kind: ActionKind
    name: str
    reason: str = ""


@dataclass(frozen=True)
class VersionPlan:
    """What is to be done with the versions of one model; the three are disjoint and ascending."""

    load: tuple[int, ...]
    keep: tuple[int, ...]
    unload: tuple[int, ...]


def plan(snapshot: Snapshot, loaded: Collection[str], wanted: Collection[str] | None) -> list[Action]:
    """The steps from ``loaded`` (names with a serving version) to ``wanted`` (None: every model there is), by name.

    A wanted model is loaded also where it is loaded already: its files tell the performer whether anything changed.
    A model that is wanted, served and now ambiguous is refused and goes on serving.
    """
    names = set(snapshot.models) | snapshot.duplicates if wanted is None else set(wanted)
    actions = []
    for name in sorted(names | set(loaded)):
        if name not in names:
            actions.append(Action(ActionKind.UNLOAD, name))
        elif name in snapshot.duplicates:
            actions.append(Action(ActionKind.REFUSE, name, DUPLICATE_REASON))
        elif name in snapshot.models:
            actions.append(Action(ActionKind.LOAD, name))
        else:
            actions.append(
                Action(ActionKind.REFUSE, name, f"failed to load '{name}', failed to poll from model repository")
            )
    return actions


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


def plan_versions(wanted: Mapping[int, str], serving: Mapping[int, str]) -> VersionPlan:
    """Compare what should serve with what does; both map a version to the identity of what it is made of.

    A version whose identity changed is in ``load``: it is built anew and replaces the serving one.
    """
    keep = {version for version, identity in wanted.items() if serving.get(version) == identity}
    return VersionPlan(
        load=tuple(sorted(set(wanted) - keep)),
        keep=tuple(sorted(keep)),
        unload=tuple(sorted(set(serving) - set(wanted))),
    )
