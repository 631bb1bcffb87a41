# SPDX-License-Identifier: Apache-2.0
"""Rules between an ensemble and its parts, by the exact text."""

import pytest

from pyinfer.config.normalize import normalize
from pyinfer.config.pbtxt import parse, to_json
from pyinfer.config.rules_graph import graph_faults, needs_decoupled

PART = (
    "name: '{0}' backend: 'b' max_batch_size: {1} input {{ name: 'I' data_type: TYPE_FP32 dims: [ {2} ] }} "
    "output {{ name: 'O' data_type: {3} dims: [ {2} ] }}"
)
STEP = "step {{ model_name: '{0}' input_map {{ key: '{1}' value: '{2}' }} output_map {{ key: '{3}' value: '{4}' }} }}"


def part(name, batch=8, dims="4", datatype="TYPE_FP32", more=""):
    return normalize(to_json(parse(PART.format(name, batch, dims, datatype) + more)))


def ensemble(*steps, name="e", batch=8, dims="4"):
    text = f"name: '{name}' platform: 'ensemble' max_batch_size: {batch} "
    for kind, tensor in (("input", "x"), ("output", "y")):
        text += f"{kind} {{ name: '{tensor}' data_type: TYPE_FP32 dims: [ {dims} ] }} "
    return normalize(to_json(parse(text + f"ensemble_scheduling {{ {' '.join(steps)} }}")))


def told(*configs, unsure=None, name="e"):
    return [fault.message for fault in graph_faults(name, {one["name"]: one for one in configs}, unsure)]


CHAIN = (STEP.format("a", "I", "x", "O", "t"), STEP.format("b", "I", "t", "O", "y"))


@pytest.mark.parametrize("dims", ["4", "-1"])
def test_a_sound_ensemble(dims):
    assert told(ensemble(*CHAIN), part("a", dims=dims), part("b")) == []
    assert told(part("a"), name="a") == []


def test_a_part_without_batches_may_take_the_whole_shape():
    assert told(ensemble(*CHAIN), part("a"), part("b", batch=0, dims="-1, 4")) == []


def test_faults():
    whole = ensemble(*CHAIN)
    assert told(whole, part("b")) == ["ensemble e contains models that are not available or ambiguous: a"]
    assert told(whole, part("a", batch=4), part("b")) == [
        "ensemble e allows maximum batch size 8, but it contains model a which only allows maximum batch size to be 4"
    ]
    assert told(whole, part("a", datatype="TYPE_INT32"), part("b")) == [
        (
            "in ensemble e, ensemble tensor t: inconsistent data type: TYPE_INT32 is inferred from model a while "
            "TYPE_FP32 is inferred from model b"
        )
    ]
    assert told(whole, part("a"), part("b", dims="5")) == [
        (
            "in ensemble e, ensemble tensor t: inconsistent shape: [-1,4] is inferred from model a while [-1,5] is "
            "inferred from model b"
        ),
        (
            "in ensemble e, ensemble tensor y: inconsistent shape: [-1,4] is inferred from model e while [-1,5] is "
            "inferred from model b"
        ),
    ]
    more = " input { name: 'J' data_type: TYPE_FP32 dims: 4 }"
    more += " input { name: 'K' data_type: TYPE_FP32 dims: 4 optional: true }"
    assert told(whole, part("a", more=more), part("b")) == [
        "in ensemble e, input J in model a is not mapped to any ensemble tensors"
    ]
    assert told(ensemble(STEP.format("a", "nix", "x", "no", "y")), part("a")) == [
        "in ensemble e, ensemble tensor x is mapping to non-existing input nix in model a",
        "in ensemble e, input I in model a is not mapped to any ensemble tensors",
        "in ensemble e, ensemble tensor y is mapped from non-existing output no in model a",
    ]


def test_faults_have_the_path_of_their_step():
    configs = {"e": ensemble(*CHAIN), "a": part("a"), "b": part("b", batch=2)}
    (fault,) = graph_faults("e", configs)
    assert fault.path == ("ensemble_scheduling", "step", 1, "model_name")


def test_circles():
    e = ensemble(STEP.format("f", "x", "x", "y", "y"))
    f = ensemble(STEP.format("e", "x", "x", "y", "y"), name="f")
    assert told(e, f) == ["circular dependency between ensembles: e -> f -> e"]
    assert told(e, f, name="f") == ["circular dependency between ensembles: f -> e -> f"]
    own = ensemble(STEP.format("e", "x", "x", "y", "y"))
    assert told(own) == ["circular dependency between ensembles: e -> e"]
    # a circle that does not lead back is the fault of the others
    outside = ensemble(STEP.format("f", "x", "x", "y", "y"), name="g")
    assert told(outside, e, f, name="g") == []


def test_what_is_not_known_is_not_judged():
    whole = ensemble(*CHAIN)
    bare = normalize({"name": "a", "backend": "b"})
    assert told(whole, bare, part("b"), unsure={"a": {"input", "output", "max_batch_size"}}) == []
    assert [fault.message for fault in graph_faults("e", {"e": whole, "a": None, "b": part("b")})] == []
    assert list(graph_faults("e", {"e": None})) == []


def test_an_ensemble_that_is_wrong_by_itself_is_left_to_the_other_rules():
    assert told(ensemble(), part("a")) == []


DECOUPLED = "model_transaction_policy { decoupled: true }"
TWO_INPUTS = "input { name: 'J' data_type: TYPE_FP32 dims: [ 4 ] }"
MIXED = "in ensemble e, step of model 'e' receives inputs originated from different decoupled models"


def join(one, other):
    step = STEP.format("c", "I", one, "O", "y")
    return step.replace(" output_map", f" input_map {{ key: 'J' value: '{other}' }} output_map")


def test_responses_of_two_decoupled_models_never_meet():
    first, second = STEP.format("a", "I", "x", "O", "t"), STEP.format("b", "I", "x", "O", "u")
    nested = STEP.format("b", "I", "t", "O", "u")
    meet = part("c", more=TWO_INPUTS)
    for step in (second, nested):
        parts = (part("a", more=DECOUPLED), part("b", more=DECOUPLED), meet)
        assert told(ensemble(first, step, join("t", "u")), *parts) == [MIXED]
        assert told(ensemble(first, step, join("t", "u")), part("a", more=DECOUPLED), part("b"), meet) == []
    # one whose inputs come from one of them, directly or not, and from the request
    assert told(ensemble(first, join("t", "x")), part("a", more=DECOUPLED), meet) == []


def test_a_decoupled_step_makes_the_ensemble_decoupled():
    parts = {"a": part("a", more=DECOUPLED), "b": part("b")}
    assert needs_decoupled(ensemble(*CHAIN), parts)
    assert not needs_decoupled(ensemble(*CHAIN), parts | {"a": part("a")})
    assert not needs_decoupled(part("a"), {})
