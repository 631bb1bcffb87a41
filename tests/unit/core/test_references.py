# SPDX-License-Identifier: Apache-2.0
"""Nothing is kept: not the arrays of answers, not the memory of requests, not the objects of connections."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref

import numpy as np
import pytest

from pyinfer import _core
from unit.core.house import House, int_spec

LARGE = 20_000  # elements: these arrays are shared with answers, smaller ones are copied


def serve(house: House, connection: int, array: np.ndarray) -> None:  # type: ignore[type-arg]
    house.send_ints(connection, [1], 1)
    batch = house.instance.poll()
    assert batch is not None
    batch.packed()
    batch.respond(0, [("OUT", "INT32", array)], {"p": "v"})
    batch.finish()
    house.mailbox.flush()


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, LARGE])
def test_arrays_of_answers_are_let_go(size: int) -> None:
    house = House()
    connection = house.connect()
    array = np.zeros(size, np.int32)
    rounds = 10_000 if size == 1 else 200
    serve(house, connection, array)
    before = sys.getrefcount(array)
    for _ in range(rounds):
        serve(house, connection, array)
    assert sys.getrefcount(array) == before


def test_a_shared_array_lives_as_long_as_its_answer() -> None:
    house = House(int_spec(max_batch_size=8, dynamic_batching=True))
    connections = [house.connect() for _ in range(2)]
    for connection in connections:
        house.send_ints(connection, [1, 1], 1)
    batch = house.instance.poll()
    assert batch is not None
    array = np.arange(2 * LARGE, dtype=np.int32).reshape(2, LARGE)
    batch.respond_packed({"OUT": array})
    gone = weakref.ref(array)
    del array
    assert gone() is not None
    batch.finish()
    house.flush()
    assert gone() is None
    assert house.answers[connections[1]][0].json["outputs"][0]["data"] == list(range(LARGE, 2 * LARGE))


@pytest.mark.parametrize("view", [False, True])
def test_a_model_may_fill_its_array_again(view: bool) -> None:
    house = House()
    connection = house.connect()
    head = (
        b'{"inputs":[{"name":"IN","datatype":"INT32","shape":[1],"data":[1]}],"parameters":{"binary_data_output":true}}'
    )
    house.send_body(connection, head)
    batch = house.instance.poll()
    assert batch is not None
    kept = np.zeros(2 * LARGE, np.int32)
    batch.respond(0, [("OUT", "INT32", kept[:LARGE] if view else kept)])
    batch.finish()
    kept[:] = 7
    answer = house.answer(connection)
    assert answer.body.endswith(bytes(kept.nbytes // 2))


@pytest.mark.parametrize("own", [True, False])
def test_an_array_that_nobody_keeps_is_not_copied(own: bool) -> None:
    house = House()
    connection = house.connect()
    head = b'{"inputs":[{"name":"IN","datatype":"INT32","shape":[%d],"parameters":{"binary_data_size":%d}}],' % (
        LARGE,
        4 * LARGE,
    )
    head += b'"parameters":{"binary_data_output":true}}'
    house.send_body(connection, head + bytes(4 * LARGE), header_length=len(head))
    batch = house.instance.poll()
    assert batch is not None
    array = np.zeros(LARGE, np.int32) if own else batch.packed()["IN"]
    address = array.__array_interface__["data"][0]
    batch.respond(0, [("OUT", "INT32", array)])
    del array
    batch.finish()
    ((_, pieces, _),) = house.mailbox.flush()[0]
    assert address in [np.frombuffer(piece, np.uint8).__array_interface__["data"][0] for piece in pieces]


def test_an_array_of_an_answer_that_nobody_waits_for() -> None:
    house = House()
    connection = house.connect()
    house.send_ints(connection, [1], 1)
    batch = house.instance.poll()
    assert batch is not None
    array = np.zeros(LARGE, np.int32)
    batch.respond(0, [("OUT", "INT32", array)])
    gone = weakref.ref(array)
    del array
    house.close(connection)
    batch.finish()
    house.flush()
    assert gone() is None


@pytest.mark.slow
def test_python_memory_does_not_grow() -> None:
    house = House()
    connection = house.connect()
    array = np.zeros(3, np.int32)

    def rounds(count: int) -> int:
        for _ in range(count):
            serve(house, connection, array)
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        sizes = [rounds(200), rounds(2000), rounds(2000)]
    finally:
        tracemalloc.stop()
    # not both times: a table of the interpreter may grow once, by as much as it likes
    assert min(sizes[1] - sizes[0], sizes[2] - sizes[1]) < 20_000


def test_arguments_are_let_go() -> None:
    house = House()

    class Execute:
        def __call__(self, batch: _core.Batch) -> None:
            raise AssertionError("nothing to execute")

    execute = Execute()
    gone = weakref.ref(execute)
    house.model.stop()
    house.instance.run(execute)
    del execute
    assert gone() is None
