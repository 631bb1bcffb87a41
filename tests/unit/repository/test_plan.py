# SPDX-License-Identifier: Apache-2.0
"""Snapshot x states x wishes -> actions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.repository.plan import DUPLICATE_REASON, ActionKind, choose_versions, plan, plan_versions
from pyinfer.repository.scan import ModelEntry, Snapshot

NAMES = st.sets(st.sampled_from("abcdef"))


def _snapshot(names: set[str], duplicates: set[str] = frozenset()) -> Snapshot:  # type: ignore[assignment]
    models = {name: ModelEntry(name, Path(name), (1,), "", "", {1: ""}) for name in names - duplicates}
    return Snapshot(models=models, duplicates=frozenset(duplicates))


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
    steps = [(step.kind, step.name, step.reason) for step in plan(snapshot, {"b", "gone", "twice"}, None)]
    assert steps == [
        (ActionKind.LOAD, "a", ""),
        (ActionKind.LOAD, "b", ""),
        (ActionKind.UNLOAD, "gone", ""),
        (ActionKind.REFUSE, "twice", DUPLICATE_REASON),
    ]


def test_explicit_wishes() -> None:
    steps = plan(_snapshot({"a", "b"}), {"b"}, ["a", "unknown"])
    assert [(step.kind, step.name) for step in steps] == [
        (ActionKind.LOAD, "a"),
        (ActionKind.UNLOAD, "b"),
        (ActionKind.REFUSE, "unknown"),
    ]
    assert steps[2].reason == "failed to load 'unknown', failed to poll from model repository"


@given(NAMES, NAMES, NAMES, st.none() | NAMES)
def test_every_name_gets_at_most_one_step(
    on_disk: set[str], twice: set[str], loaded: set[str], wanted: set[str] | None
) -> None:
    steps = plan(_snapshot(on_disk, twice), loaded, wanted)
    names = [step.name for step in steps]
    assert names == sorted(set(names))
    target = (on_disk | twice) if wanted is None else wanted
    assert set(names) == target | loaded
    for step in steps:
        assert (step.kind is ActionKind.UNLOAD) == (step.name not in target)
        assert (step.kind is ActionKind.LOAD) == (step.name in target and step.name in on_disk - twice)
        assert bool(step.reason) == (step.kind is ActionKind.REFUSE)


IDENTITIES = st.dictionaries(st.integers(0, 5), st.sampled_from("xyz"))


@given(IDENTITIES, IDENTITIES)
def test_versions_are_kept_only_where_nothing_changed(wanted: dict[int, str], serving: dict[int, str]) -> None:
    steps = plan_versions(wanted, serving)
    assert set(steps.load) | set(steps.keep) == set(wanted)
    assert not set(steps.load) & set(steps.keep)
    assert set(steps.unload) == set(serving) - set(wanted)
    assert all(wanted[version] == serving[version] for version in steps.keep)
    assert all(wanted[version] != serving.get(version) for version in steps.load)
