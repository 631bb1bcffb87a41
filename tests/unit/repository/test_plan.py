# SPDX-License-Identifier: Apache-2.0
"""Snapshot x states x wishes -> actions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.repository.contract import ModelId
from pyinfer.repository.plan import (
    DUPLICATE_REASON,
    Action,
    ActionKind,
    Failure,
    Identity,
    choose_versions,
    next_failure,
    plan,
    plan_versions,
)
from pyinfer.repository.scan import ModelEntry, Snapshot

NAMES = st.sets(st.sampled_from("abcdef"))
REPOSITORY = Path("repository")


def _id(name: str) -> ModelId:
    return ModelId("", name)


def _ids(names: Iterable[str]) -> frozenset[ModelId]:
    return frozenset(map(_id, names))


def _loaded(names: Iterable[str]) -> dict[ModelId, Path]:
    return {_id(name): REPOSITORY / name for name in names}


def _snapshot(names: set[str], duplicates: Iterable[str] = (), blocked: Iterable[str] = ()) -> Snapshot:
    seen = names - set(duplicates) - set(blocked)
    models = {_id(name): ModelEntry(name, REPOSITORY / name, (1,), "", "", {1: ""}) for name in seen}
    return Snapshot(models=models, duplicates=_ids(duplicates), blocked=_ids(blocked) - _ids(duplicates))


@pytest.mark.parametrize(
    ("policy", "available", "chosen"),
    [
        ({}, [1, 2, 3], (3,)),
        ({"latest": {}}, [1, 2, 3], (3,)),
        ({"latest": {"num_versions": 2}}, [3, 1, 10], (3, 10)),
        ({"latest": {"num_versions": 9}}, [3, 1], (1, 3)),
        ({"latest": {"num_versions": 0}}, [3, 1], ()),
        ({"latest": {"num_versions": 1}}, [], ()),
        ({"all": {}}, [2, 1], (1, 2)),
        ({"specific": {"versions": [3, 1]}}, [1, 2, 3], (1, 3)),
        ({"specific": {"versions": [3, 7]}}, [1, 2, 3], (3,)),
        ({"specific": {"versions": []}}, [1], ()),
        ({"specific": {}}, [1], ()),
    ],
)
def test_version_policy(policy: dict[str, Any], available: list[int], chosen: tuple[int, ...]) -> None:
    assert choose_versions(policy, available) == chosen


def test_what_to_do_with_models() -> None:
    snapshot = _snapshot({"a", "b", "twice"}, {"twice"})
    assert plan(snapshot, _loaded({"b", "gone", "twice"}), None) == [
        Action(ActionKind.LOAD, _id("a")),
        Action(ActionKind.LOAD, _id("b")),
        Action(ActionKind.UNLOAD, _id("gone")),
        Action(ActionKind.REFUSE, _id("twice"), DUPLICATE_REASON),
    ]


def test_explicit_wishes() -> None:
    steps = plan(_snapshot({"a", "b"}), _loaded({"b"}), ["a", "unknown"])
    assert [(step.kind, step.model.name) for step in steps] == [
        (ActionKind.LOAD, "a"),
        (ActionKind.UNLOAD, "b"),
        (ActionKind.REFUSE, "unknown"),
    ]
    assert steps[2].reason == "failed to load 'unknown', failed to poll from model repository"


def test_a_wish_means_all_models_of_that_name() -> None:
    models = [ModelId(namespace, name) for namespace in ("x", "y") for name in ("a", "b")]
    snapshot = Snapshot({model: ModelEntry(model.name, Path(model.namespace), (), "", "", {}) for model in models})
    assert [step.model for step in plan(snapshot, {}, ["a"])] == [ModelId("x", "a"), ModelId("y", "a")]


def test_what_can_not_be_looked_at_stays_as_it_is() -> None:
    assert plan(_snapshot(set(), blocked={"link", "never"}), _loaded({"link"}), None) == []
    stalled = Snapshot(unreadable={REPOSITORY: "Stale file handle"})
    elsewhere = {_id("other"): Path("elsewhere/other")}
    assert plan(stalled, _loaded({"a"}) | elsewhere, None) == [Action(ActionKind.UNLOAD, _id("other"))]


@given(NAMES, NAMES, NAMES, NAMES, st.none() | NAMES)
def test_every_model_gets_at_most_one_step(
    on_disk: set[str], twice: set[str], blocked: set[str], loaded: set[str], wanted: set[str] | None
) -> None:
    snapshot = _snapshot(on_disk, twice, blocked)
    steps = plan(snapshot, _loaded(loaded), wanted)
    models = [step.model for step in steps]
    assert models == sorted(set(models))
    target = {model.name for model in snapshot.models} | twice if wanted is None else wanted
    stays = (blocked - twice) - target
    assert {model.name for model in models} == target | loaded - stays
    for step in steps:
        name = step.model.name
        assert (step.kind is ActionKind.UNLOAD) == (name not in target)
        assert (step.kind is ActionKind.LOAD) == (name in target and step.model in snapshot.models)
        assert bool(step.reason) == (step.kind is ActionKind.REFUSE)


IDENTITIES = st.dictionaries(st.integers(0, 5), st.builds(Identity, st.sampled_from("xyz"), st.sampled_from("12")))


@given(IDENTITIES, IDENTITIES)
def test_versions_are_built_anew_only_where_their_content_changed(
    wanted: dict[int, Identity], serving: dict[int, Identity]
) -> None:
    steps = plan_versions(wanted, serving)
    assert sorted([*steps.load, *steps.adjust, *steps.keep]) == sorted(wanted)
    assert set(steps.unload) == set(serving) - set(wanted)
    assert all(wanted[version] == serving[version] for version in steps.keep)
    for version in steps.adjust:
        assert wanted[version].content == serving[version].content
        assert wanted[version].instances != serving[version].instances
    for version in steps.load:
        assert version not in serving or wanted[version].content != serving[version].content


def test_what_fails_is_tried_again_after_ever_longer_waits() -> None:
    failure: Failure | None = None
    tries = []
    for poll in range(400):
        if failure is None or failure.is_due("files", poll):
            tries.append(poll)
            failure = next_failure(failure, "files", poll)
    assert tries[:8] == [0, 1, 3, 7, 15, 31, 63, 127]
    assert {later - earlier for earlier, later in pairwise(tries[7:])} == {64}


def test_what_fails_and_changed_is_tried_again_at_once() -> None:
    failure = Failure("files", 9, 1000)
    assert not failure.is_due("files", 2)
    assert failure.is_due("other files", 2)
    assert next_failure(failure, "other files", 2) == Failure("other files", 1, 3)


@given(st.integers(1, 5000))
def test_waits_are_bounded(count: int) -> None:
    assert 1 <= next_failure(Failure("files", count, 0), "files", 10).due - 10 <= 64
