# SPDX-License-Identifier: Apache-2.0
"""What a Python executor sees of a batch, and what becomes of its answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pyinfer import _core
from unit.core.house import House, int_spec

NUMPY = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
    "BF16": np.uint16,
}


def typed(datatype: str, **options: Any) -> House:
    """A model "m" from IN to OUT, both [-1] of one data type."""
    return House(
        _core.ModelSpec(
            name="m",
            version=1,
            inputs=[_core.TensorSpec("IN", datatype, [-1])],
            outputs=[_core.TensorSpec("OUT", datatype, [-1])],
            **options,
        )
    )


def ask_raw(house: House, datatype: str, shape: list[int], data: bytes, *, binary: bool = True) -> tuple[int, Any]:
    """A request with binary data, answered in binary."""
    tensor = {"name": "IN", "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": len(data)}}
    header = {"inputs": [tensor], "outputs": [{"name": "OUT", "parameters": {"binary_data": binary}}]}
    head = json.dumps(header).encode()
    connection = house.connect()
    house.send_body(connection, head + data, header_length=len(head))
    return connection, house.instance.poll()


def int_batch(*shapes: tuple[int, int], **options: Any) -> tuple[House, list[int], _core.Batch]:
    """A batch of requests of these shapes, request i holding i, each on a connection of its own."""
    house = House(int_spec(max_batch_size=16, dynamic_batching=True, **options))
    connections = [house.connect() for _ in shapes]
    for number, (connection, shape) in enumerate(zip(connections, shapes, strict=True)):
        house.send_ints(connection, shape, number, id=f"id{number}")
    batch = house.instance.poll()
    assert batch is not None
    return house, connections, batch


def outputs(house: House, connection: int) -> Any:
    answer = house.answer(connection)
    assert answer.status == 200, answer.body
    return answer.json["outputs"][0]["data"]


@pytest.mark.parametrize("datatype", NUMPY)
def test_every_datatype_there_and_back(datatype: str) -> None:
    house = typed(datatype)
    if datatype == "BYTES":
        values: NDArray[Any] = np.array([b"a", b"", b"\0b\xff"], dtype=np.object_)
        raw = _core.serialize_bytes(values)
    else:
        values = np.array([0, 1, 1], dtype=NUMPY[datatype])
        raw = values.tobytes()
    connection, batch = ask_raw(house, datatype, [3], raw)
    name, array = batch.input(0, "IN")
    assert name == datatype
    assert array.dtype == NUMPY[datatype]
    assert array.tolist() == values.tolist()
    assert batch.packed()["IN"].tolist() == values.tolist()
    batch.respond(0, [("OUT", datatype, array)])
    batch.finish()
    answer = house.answer(connection)
    assert answer.body.endswith(raw)
    assert answer.status == 200


@pytest.mark.parametrize("datatype", NUMPY)
def test_packed_answers_of_every_datatype(datatype: str) -> None:
    house = typed(datatype, max_batch_size=8, dynamic_batching=True)
    if datatype == "BYTES":
        rows = [np.array([[b"a", b"bc"]], dtype=np.object_), np.array([[b"", b"d"], [b"e", b"f"]], dtype=np.object_)]
        raws = [_core.serialize_bytes(row) for row in rows]
    else:
        rows = [np.array([[0, 1]], NUMPY[datatype]), np.array([[1, 0], [1, 1]], NUMPY[datatype])]
        raws = [row.tobytes() for row in rows]
    connections = []
    for row, raw in zip(rows, raws, strict=True):
        tensor = {"name": "IN", "datatype": datatype, "shape": row.shape, "parameters": {"binary_data_size": len(raw)}}
        head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
        connections.append(house.connect())
        house.send_body(connections[-1], head + raw, header_length=len(head))
    batch = house.instance.poll()
    assert batch is not None and len(batch) == 2
    packed = batch.packed()["IN"]
    assert packed.tolist() == np.concatenate(rows).tolist()
    batch.respond_packed({"OUT": packed})
    batch.finish()
    for connection, raw in zip(connections, raws, strict=True):
        assert house.answer(connection).body.endswith(raw)


def test_describes_its_requests() -> None:
    house = House(
        _core.ModelSpec(
            name="m",
            version=1,
            inputs=[_core.TensorSpec("IN", "INT32", [-1]), _core.TensorSpec("MORE", "FP32", [1], optional=True)],
            outputs=[_core.TensorSpec("OUT", "INT32", [-1]), _core.TensorSpec("SECOND", "INT32", [-1])],
        )
    )
    tensor = {"name": "IN", "datatype": "INT32", "shape": [2], "data": [1, 2]}
    parameters = {"s": "text", "i": -3, "d": 0.5, "b": True}
    _, batch = house.ask([tensor], id="me", parameters=parameters, outputs=[{"name": "SECOND"}])
    assert len(batch) == 1
    assert batch.rows == 1
    assert batch.input_names(0) == ["IN"]
    assert batch.input(0, "MORE") is None
    assert batch.request_id(0) == "me"
    assert batch.requested_outputs(0) == ["SECOND"]
    got = batch.parameters(0)
    assert got == parameters
    assert [type(value) for value in got.values()] == [str, int, float, bool]
    assert not batch.is_cancelled(0)
    _, batch = house.ask([tensor])
    assert batch.requested_outputs(0) == ["OUT", "SECOND"]
    assert batch.request_id(0) == ""
    assert batch.parameters(0) == {}


def test_notices_a_client_that_goes_away() -> None:
    house, connections, batch = int_batch((1, 1), (1, 1))
    house.close(connections[1])
    assert [batch.is_cancelled(i) for i in range(2)] == [False, True]
    batch.respond_packed({"OUT": batch.packed()["IN"]})
    batch.finish()
    assert outputs(house, connections[0]) == [0]
    assert house.engine.in_flight() == 0


@pytest.mark.parametrize(
    "call",
    [
        lambda b, i: b.input_names(i),
        lambda b, i: b.input(i, "IN"),
        lambda b, i: b.request_id(i),
        lambda b, i: b.requested_outputs(i),
        lambda b, i: b.parameters(i),
        lambda b, i: b.is_cancelled(i),
        lambda b, i: b.respond(i, []),
        lambda b, i: b.fail(i, "INTERNAL", "x"),
    ],
)
def test_an_index_out_of_range(call: Callable[[_core.Batch, int], Any]) -> None:
    _, _, batch = int_batch((1, 1))
    with pytest.raises(IndexError, match="the batch has 1 requests"):
        call(batch, 1)
    with pytest.raises(TypeError):
        call(batch, -1)
    batch.finish()
    with pytest.raises(RuntimeError, match="the batch is finished"):
        call(batch, 0)


def test_after_it_is_finished() -> None:
    house, connections, batch = int_batch((1, 1))
    batch.respond(0, [("OUT", "INT32", np.array([[5]], np.int32))])
    batch.finish()
    batch.finish()
    assert outputs(house, connections[0]) == [5]
    for call in (batch.packed, lambda: batch.respond_packed({})):
        with pytest.raises(RuntimeError, match="the batch is finished"):
            call()


def test_a_request_is_answered_once() -> None:
    house, connections, batch = int_batch((1, 1), (1, 1))
    batch.respond(0, [("OUT", "INT32", np.array([[7]], np.int32))])
    batch.fail(1, "NOT_FOUND", "nothing there")
    for index in (0, 1):
        with pytest.raises(RuntimeError, match="answered already"):
            batch.respond(index, [])
        with pytest.raises(RuntimeError, match="answered already"):
            batch.fail(index, "INTERNAL", "x")
    batch.finish()
    assert outputs(house, connections[0]) == [7]
    answer = house.answer(connections[1])
    assert (answer.status, answer.error) == (404, "nothing there")


def test_dropped_without_an_answer() -> None:
    house, connections, batch = int_batch((1, 1))
    del batch
    assert house.answer(connections[0]).error == "the model 'm' did not answer the request"
    assert house.engine.in_flight() == 0


def test_arrays_are_the_executors_and_live_on() -> None:
    house, connections, batch = int_batch((1, 3), (2, 3))
    packed = batch.packed()["IN"]
    _, first = batch.input(0, "IN") or pytest.fail("no input")
    for array in (packed, first):
        assert array.flags.writeable and array.flags.aligned
        array += 10
    batch.respond_packed({"OUT": packed})
    batch.finish()
    assert outputs(house, connections[0]) == [10] * 3
    assert outputs(house, connections[1]) == [11] * 6
    del batch, house
    assert packed.tolist() == [[10] * 3, [11] * 3, [11] * 3]
    assert first.tolist() == [[10] * 3]


@pytest.mark.parametrize(("width", "copied"), [(64, True), (65, False)])
def test_a_lone_request_is_not_copied_but_for_few_bytes(width: int, copied: bool) -> None:
    _, _, batch = int_batch((4, width))
    _, array = batch.input(0, "IN") or pytest.fail("no input")
    packed = batch.packed()["IN"]
    assert array.tolist() == packed.tolist()
    assert array.flags.owndata == copied
    assert (packed.__array_interface__["data"] != array.__array_interface__["data"]) == copied


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.int32).reshape(4, 3)[:, ::2].copy(order="F"),
        np.arange(24, dtype=np.int32).reshape(4, 6)[:, ::3],
        np.arange(8, dtype=np.int32).reshape(4, 2)[::-1],
        np.arange(8, dtype=">i4").reshape(4, 2),
        np.arange(48, dtype=">i4").reshape(8, 6)[::2, ::3],
        np.broadcast_to(np.array([3, 4], np.int32), (4, 2)),
    ],
    ids=["fortran", "strided", "reversed", "big-endian", "big-endian strided", "broadcast"],
)
@pytest.mark.parametrize("packed", [True, False])
def test_arrays_of_any_layout(array: NDArray[Any], packed: bool) -> None:
    house, connections, batch = int_batch((4, 2))
    if packed:
        batch.respond_packed({"OUT": array})
    else:
        batch.respond(0, [("OUT", "INT32", array)])
    batch.finish()
    assert outputs(house, connections[0]) == array.ravel().tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.dtype(">i4")])
def test_large_arrays_of_any_layout(dtype: Any) -> None:
    house, connections, batch = int_batch((1, 2), (1, 2))
    array = np.arange(2 * 20_000, dtype=dtype).reshape(20_000, 2).T
    expected = array.tolist()
    batch.respond_packed({"OUT": array})
    batch.finish()
    del array
    assert outputs(house, connections[1]) == expected[1]
    assert outputs(house, connections[0]) == expected[0]


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ([], "the model 'm' did not return its output 'OUT'"),
        ([("X", "INT32", np.zeros((1, 1), np.int32))], "the model returned an unknown output 'X' of model 'm'"),
        ([("OUT", "FP32", np.zeros((1, 1), np.float32))], "is 'FP32', expected 'INT32'"),
        ([("OUT", "INT32", np.zeros((1, 1), np.float32))], "has dtype 'float32', which is not 'INT32'"),
        ([("OUT", "NONE", np.zeros((1, 1), np.int32))], "which is not '<invalid>'"),
        ([("OUT", "INT32", np.zeros((2, 1), np.int32))], "is [2,1], expected [1,-1]"),
        ([("OUT", "INT32", np.zeros((), np.int32))], "is [], expected [1,-1]"),
        ([("OUT", "INT32", np.zeros((1, 1), np.complex64))], "has dtype 'complex64'"),
        ([("OUT", "BYTES", np.zeros((1, 1), np.int32))], "has dtype 'int32', which is not 'BYTES'"),
    ],
)
def test_faults_of_an_answer_are_named(answer: Any, fault: str) -> None:
    house, connections, batch = int_batch((1, 1), (1, 1))
    batch.respond(0, answer)
    batch.respond(1, [("OUT", "INT32", np.array([[8]], np.int32))])
    batch.finish()
    failed = house.answer(connections[0])
    assert failed.status == 500
    assert fault in failed.error
    assert outputs(house, connections[1]) == [8]
    assert house.failures() == {"BACKEND": 1}


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({}, "the model 'm' did not return its output 'OUT'"),
        ({"X": np.zeros((3, 1), np.int32)}, "the model returned an unknown output 'X' of model 'm'"),
        ({"OUT": np.zeros((3, 1), np.int64)}, "is 'INT64', expected 'INT32'"),
        ({"OUT": np.zeros((2, 1), np.int32)}, "is [2,1], expected 3 rows"),
        ({"OUT": np.zeros((3,), np.int32)}, "of output 'OUT' of model 'm' is ["),
        ({"OUT": np.zeros((), np.int32)}, "is [], expected 3 rows"),
        ({"OUT": np.zeros((3, 1), "datetime64[s]")}, "has dtype 'datetime64[s]', which is not 'INT32'"),
    ],
)
def test_faults_of_a_packed_answer_fail_all(answer: Any, fault: str) -> None:
    house, connections, batch = int_batch((1, 1), (2, 1))
    batch.respond_packed(answer)
    batch.finish()
    for connection in connections:
        failed = house.answer(connection)
        assert failed.status == 500
        assert fault in failed.error


def test_requests_without_rows() -> None:
    house, connections, batch = int_batch((0, 2), (3, 2), (0, 2))
    packed = batch.packed()["IN"]
    assert packed.shape == (3, 2)
    batch.respond_packed({"OUT": packed})
    batch.finish()
    assert [outputs(house, connection) for connection in connections] == [[], [1] * 6, []]


def test_parameters_of_an_answer() -> None:
    house, connections, batch = int_batch((1, 1), (1, 1))
    array = np.zeros((1, 1), np.int32)
    batch.respond(0, [("OUT", "INT32", array)], {"s": "x", "i": 5, "b": False, "d": 1.5})
    with pytest.raises(RuntimeError):
        batch.respond(1, [("OUT", "INT32", array)], {"i": 1 << 70})
    batch.respond(1, [("OUT", "INT32", array)], None)
    batch.finish()
    assert house.answer(connections[0]).json["parameters"] == {"s": "x", "i": 5, "b": False, "d": 1.5}
    assert "parameters" not in house.answer(connections[1]).json


def test_codes_of_failures() -> None:
    for code, (status, _) in _core.error_table().items():
        if code == "OK":
            continue
        house, connections, batch = int_batch((1, 1))
        batch.fail(0, code, "why")
        batch.finish()
        answer = house.answer(connections[0])
        assert (answer.status, answer.error) == (status, "why")


def test_reshape() -> None:
    house = House(
        _core.ModelSpec(
            name="m",
            version=1,
            inputs=[_core.TensorSpec("IN", "INT32", [-1, 2], reshape=[2, -1])],
            outputs=[_core.TensorSpec("OUT", "INT32", [1], reshape=[])],
            max_batch_size=4,
        )
    )
    tensor = {"name": "IN", "datatype": "INT32", "shape": [1, 3, 2], "data": list(range(6))}
    connection, batch = house.ask([tensor])
    assert batch.packed()["IN"].shape == (1, 2, 3)
    batch.respond_packed({"OUT": np.array([4], np.int32)})
    batch.finish()
    assert house.answer(connection).json["outputs"][0]["shape"] == [1, 1]
