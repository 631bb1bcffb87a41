# SPDX-License-Identifier: Apache-2.0
"""Implicit state under random schedules: sums that live in the core, against sums in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer import _core
from unit.core.house import House, int_spec

START, END = 1, 2
IDLE_US = 1000
FIRST = np.array([100, 200], np.int32)


def house_of(strategy: str, slots: int, *, dims: tuple[int, ...] = (2,)) -> House:
    states = [("STATE", "NEXT", "INT32", dims, (2,), FIRST.tobytes())]
    options = _core.SequenceOptions(strategy=strategy, slots=slots, max_idle_us=IDLE_US, states=states)
    return House(int_spec(max_batch_size=slots, dynamic_batching=True, sequence=options))


def push(house: House, sequence: int, flags: int, value: int) -> int:
    connection = house.connect()
    parameters = {"sequence_id": sequence, "sequence_start": bool(flags & START), "sequence_end": bool(flags & END)}
    house.send_ints(connection, [1, 1], value, parameters=parameters)
    return connection


steps = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 4), st.sampled_from([0, 0, 0, START, END])),
    st.tuples(st.just("run"), st.sampled_from(["packed", "packed", "each", "fail", "half"]), st.just(0)),
)


@given(strategy=st.sampled_from(["direct", "oldest"]), schedule=st.lists(steps, max_size=60))
def test_sums_of_any_schedule(strategy: str, schedule: list[tuple[str, Any, int]]) -> None:
    """Each request adds its value to both elements of its sequence's state; the answer is the first of them."""
    house = house_of(strategy, slots=3)
    #: by sequence: the requests that wait (connection, flags, value), and the state that follows from those that ran
    waiting: dict[int, list[tuple[int, int, int]]] = {}
    states: dict[int, np.ndarray] = {}
    expected: dict[int, int | None] = {}
    value = 0
    for kind, what, flags in schedule:
        if kind == "push":
            value += 1
            connection = push(house, what, flags, value)
            if waiting.get(what) and waiting[what][-1][1] & END:
                return  # a sequence of the same number begins while this one waits: not what is tested here
            if what not in states and not waiting.get(what) and not flags & START:
                continue
            waiting.setdefault(what, []).append((connection, flags, value))
            continue
        batch = house.instance.poll()
        if batch is None:
            continue
        rows: list[tuple[int, int, np.ndarray, int] | None] = []
        for index in range(len(batch)):
            number = batch.correlation_id(index)
            if number == 0:
                rows.append(None)
                continue
            connection, its_flags, added = waiting[number].pop(0)
            before = FIRST if its_flags & START else states[number]
            assert batch.input(index, "STATE")[1].tolist() == [before.tolist()]
            rows.append((number, connection, before, added))
            states[number] = before
            if its_flags & END:
                del states[number]
        run(batch, what, rows, states, expected)
    house.flush()
    for connection, answers in house.answers.items():
        if connection in expected:
            [answer] = answers
            wanted = expected[connection]
            assert (answer.status == 200) == (wanted is not None)
            if wanted is not None:
                assert [output["name"] for output in answer.json["outputs"]] == ["OUT"]
                assert answer.json["outputs"][0]["data"] == [wanted]


def run(batch: Any, how: str, rows: list[Any], states: dict[int, np.ndarray], expected: dict[int, int | None]) -> None:
    after = [np.zeros(2, np.int32) if row is None else row[2] + row[3] for row in rows]
    if how == "packed":
        given = batch.packed()
        sums = given["STATE"] + given["IN"]
        batch.respond_packed({"OUT": np.ascontiguousarray(sums[:, :1]), "NEXT": sums})
    for index, row in enumerate(rows):
        fails = how == "fail" or (how == "half" and index % 2 == 0)
        if how != "packed":
            if fails:
                batch.fail(index, "INTERNAL", "by hand")
            else:
                outputs = [("OUT", "INT32", after[index][:1].reshape(1, 1)), ("NEXT", "INT32", after[index][None])]
                batch.respond(index, outputs)
        if row is None:
            continue
        number, connection, *_ = row
        expected[connection] = None if fails else int(after[index][0])
        if number in states and not fails:
            states[number] = after[index]
    batch.finish()


def test_a_model_can_not_write_to_it() -> None:
    house = house_of("oldest", slots=2)
    push(house, 1, START, 1)
    batch = house.instance.poll()
    assert batch is not None
    with pytest.raises(ValueError, match="read-only"):
        batch.packed()["STATE"][:] = 7
    batch.input(0, "STATE")[1][:] = 7  # the executor's own copy
    assert batch.input(0, "STATE")[1].tolist() == [FIRST.tolist()]


def test_a_request_that_needs_it_is_answered_with_its_batch() -> None:
    house = house_of("direct", slots=1)
    push(house, 1, START, 1)
    batch = house.instance.poll()
    assert batch is not None
    with pytest.raises(RuntimeError, match="implicit state"):
        batch.detach(0)


def test_arrays_that_a_model_fills_again_are_copied() -> None:
    """An executor may use one output array for all its executions."""
    wide = 8192
    states = [("STATE", "NEXT", "INT32", (wide,), (wide,), bytes(4 * wide))]
    options = _core.SequenceOptions(strategy="oldest", slots=2, max_idle_us=IDLE_US, states=states)
    house = House(int_spec(max_batch_size=2, dynamic_batching=True, sequence=options))
    kept = np.zeros((1, wide), np.int32)
    for number in (1, 2):
        push(house, number, START, 0)
        batch = house.instance.poll()
        assert batch is not None
        kept[:] = number
        batch.respond_packed({"OUT": np.ones((1, 1), np.int32), "NEXT": kept})
        batch.finish()
    push(house, 1, 0, 0)
    batch = house.instance.poll()
    assert batch is not None
    assert set(batch.packed()["STATE"].ravel().tolist()) == {1}


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (("S", "T", "NONE", (2,), (2,), bytes(8)), "unknown datatype 'NONE'"),
        (("S", "T", "INT32", (2,), (2,), bytes(7)), "the initial data does not fill its shape"),
        (("S", "T", "INT32", (-1,), (-1,), b""), "the initial shape"),
        (("S", "T", "BYTES", (1,), (1,), b"\5\0\0\0a"), "the initial data does not fill its shape"),
        (("S", "T", "INT32", (-2,), (2,), bytes(8)), "a dimension is -1 or non-negative"),
    ],
)
def test_states_that_are_none(state: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _core.SequenceOptions(strategy="direct", slots=1, max_idle_us=1, states=[state])
