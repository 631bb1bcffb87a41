# SPDX-License-Identifier: Apache-2.0
"""Which ensembles need which models, and what follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.repository.contract import ModelId
from pyinfer.repository.dependencies import DependencyGraph, Step, ensemble_fault, ensemble_steps, plan_unload

Needs = Mapping[str, Iterable[str]]


def _id(name: str) -> ModelId:
    return ModelId("", name)


def _ids(names: Iterable[str]) -> set[ModelId]:
    return {_id(name) for name in names}


def _names(models: Iterable[ModelId]) -> list[str]:
    return [model.name for model in models]


def _graph(needs: Needs, absent: Iterable[str] = ()) -> DependencyGraph:
    names = {*needs, *(name for steps in needs.values() for name in steps)} - set(absent)
    steps = {_id(name): [Step(step, -1) for step in needed] for name, needed in needs.items()}
    return DependencyGraph(steps, _ids(names))


#: ``outer`` calls an ensemble and a model; ``left`` and ``inner`` share a model
NEEDS = {"outer": ["inner", "c"], "inner": ["a", "b"], "left": ["b", "d"]}


def test_steps_of_a_configuration() -> None:
    step = {"model_name": "a", "model_version": "3", "input_map": {}}
    config = {"ensemble_scheduling": {"step": [step, {"model_name": "b", "model_version": -1}]}}
    assert ensemble_steps(config) == (Step("a", 3), Step("b", -1))
    assert ensemble_steps({"backend": "python"}) == ()
    assert ensemble_steps({"ensemble_scheduling": {}}) == ()


def test_neighbours() -> None:
    graph = _graph(NEEDS)
    assert graph.needs(_id("inner")) == _ids("ab")
    assert graph.needs(_id("a")) == set()
    assert graph.dependents(_id("b")) == _ids(["inner", "left"])
    assert graph.all_dependents([_id("b")]) == _ids(["inner", "left", "outer"])
    assert graph.all_dependents(_ids(["b", "inner"])) == _ids(["left", "outer"])


def test_generations() -> None:
    groups, circular = _graph(NEEDS).generations(_ids(["outer", "inner", "left", *"abcd"]))
    assert [_names(group) for group in groups] == [["a", "b", "c", "d"], ["inner", "left"], ["outer"]]
    assert circular == []
    some = _graph(NEEDS).users_first(_ids(["left", "outer", "a", "inner"]))
    assert _names(some) == ["outer", "inner", "a", "left"]
    groups, circular = _graph({"x": ["y"], "y": ["x"], "z": ["x"], "w": ["a"]}).generations(_ids("xyzwa"))
    assert [_names(group) for group in groups] == [["a"], ["w"]]
    assert _names(circular) == ["x", "y", "z"]


NAMES = st.sampled_from("abcdef")
GRAPHS = st.dictionaries(NAMES, st.sets(NAMES, min_size=1), max_size=6)


@given(GRAPHS, st.sets(NAMES))
def test_generations_never_need_a_later_one(needs: Needs, asked: set[str]) -> None:
    graph = _graph(needs)
    groups, circular = graph.generations(_ids(asked))
    assert sorted([*(model for group in groups for model in group), *circular]) == sorted(_ids(asked))
    for index, group in enumerate(groups):
        later = {model for each in groups[index:] for model in each} | set(circular)
        assert not any(graph.needs(model) & later for model in group)
    for model in circular:
        assert graph.needs(model) & set(circular)


@given(GRAPHS, NAMES)
def test_a_circle_is_told_where_there_is_one(needs: Needs, start: str) -> None:
    graph = _graph(needs)
    reached = {_id(start)}
    while not (more := {n for model in reached for n in graph.needs(model)}) <= reached:
        reached |= more
    _, circular = graph.generations(reached)
    assert bool(graph.circle(_id(start))) == bool(circular)


@pytest.mark.parametrize(
    ("needs", "start", "text"),
    [
        ({"x": ["x"]}, "x", "x -> ... -> x -> x"),
        ({"x": ["y"], "y": ["x"]}, "x", "x -> ... -> y -> x"),
        ({"x": ["a", "y"], "y": ["z"], "z": ["y"]}, "x", "y -> ... -> z -> y"),
    ],
)
def test_text_on_a_circle(needs: Needs, start: str, text: str) -> None:
    assert _graph(needs).circle(_id(start)) == f"circular dependency between ensembles: {text}"


def test_a_circle_is_found_however_long_it_is() -> None:
    chain = {str(number): [str(number + 1)] for number in range(2000)} | {"2000": ["0"]}
    assert "circular" in _graph(chain).circle(_id("0"))


@pytest.mark.parametrize(
    ("asked", "implicit", "dependents", "unload", "suspend"),
    [
        # what needs the model is suspended, in whatever way it is asked
        ("b", "", False, ["b"], ["outer", "inner", "left"]),
        ("b", "", True, ["b"], ["outer", "inner", "left"]),
        # what it needs stays, unless it was loaded only because of it
        ("outer", "abc", False, ["outer"], []),
        ("outer", "", True, ["outer"], []),
        ("outer", "c", True, ["outer", "c"], []),
        # down to the last: but b is needed by left as well
        ("outer", ["inner", *"abcd"], True, ["outer", "inner", "a", "c"], []),
        ("left", "bd", True, ["left", "d"], []),
        ("a", "", True, ["a"], ["outer", "inner"]),
        ("unknown", "ab", True, ["unknown"], []),
    ],
)
def test_unloading(
    asked: str, implicit: Iterable[str], dependents: bool, unload: list[str], suspend: list[str]
) -> None:
    graph = _graph(NEEDS)
    steps = plan_unload({_id(asked)}, graph, _ids(implicit), dependents=dependents)
    assert (_names(steps.unload), _names(steps.suspend)) == (unload, suspend)


@given(GRAPHS, st.sets(NAMES), st.sets(NAMES), st.booleans())
def test_unloading_leaves_nothing_that_needs_what_goes(
    needs: Needs, asked: set[str], implicit: set[str], dependents: bool
) -> None:
    graph = _graph(needs)
    steps = plan_unload(_ids(asked), graph, _ids(implicit), dependents=dependents)
    gone = set(steps.unload) | set(steps.suspend)
    assert len(gone) == len(steps.unload) + len(steps.suspend)
    assert _ids(asked) <= set(steps.unload)
    assert set(steps.unload) - _ids(asked) <= _ids(implicit)
    assert graph.all_dependents(gone) == set()
    for model in set(steps.unload) - _ids(asked):
        assert graph.dependents(model) <= set(steps.unload)


def test_a_name_means_the_model_of_the_own_namespace_first() -> None:
    mine, other = ModelId("mine", "e"), ModelId("other", "e")
    models = [mine, other, ModelId("mine", "a"), ModelId("other", "a"), ModelId("other", "b"), ModelId("x", "c")]
    graph = DependencyGraph(
        {mine: [Step("a", -1), Step("b", -1)], other: [Step("a", -1)]}, [*models, ModelId("y", "c")]
    )
    assert graph.needs(mine) == {ModelId("mine", "a"), ModelId("other", "b")}
    assert graph.needs(other) == {ModelId("other", "a")}
    assert graph.resolve(mine, "c") is None
    assert graph.resolve(mine, "nowhere") is None


@pytest.mark.parametrize(
    ("steps", "serving", "failures", "text"),
    [
        ([Step("a", -1), Step("b", 2)], {"a": [1], "b": [1, 2]}, {}, ""),
        ([Step("b", 3)], {"b": [1, 2]}, {}, "ensemble 'e' depends on 'b' whose required version 3 is not loaded."),
        ([Step("a", -1)], {"a": []}, {}, "ensemble 'e' depends on 'a' which has no loaded version."),
        (
            [Step("a", -1)],
            {"a": []},
            {"a": "version 1: no weights"},
            (
                "ensemble 'e' depends on 'a' which has no loaded version. Model 'a' loading failed with error: "
                "version 1: no weights"
            ),
        ),
        (
            [Step("y", -1), Step("a", -1), Step("x", -1)],
            {"a": [1]},
            {},
            "ensemble e contains models that are not available or ambiguous: x, y",
        ),
    ],
)
def test_faults(steps: list[Step], serving: dict[str, list[int]], failures: dict[str, str], text: str) -> None:
    graph = DependencyGraph({_id("e"): steps}, {_id("e"), *_ids(serving)})
    ready = {_id(name): versions for name, versions in serving.items()}
    assert ensemble_fault(_id("e"), steps, graph, ready, {_id(name): why for name, why in failures.items()}) == text


def test_a_circle_is_a_fault() -> None:
    steps = {"e": [Step("f", -1)], "f": [Step("e", -1)]}
    graph = DependencyGraph({_id(name): needed for name, needed in steps.items()}, _ids("ef"))
    text = ensemble_fault(_id("e"), steps["e"], graph, {_id("f"): [1]}, {})
    assert text == "circular dependency between ensembles: e -> ... -> f -> e"
