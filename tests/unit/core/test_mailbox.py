# SPDX-License-Identifier: Apache-2.0
"""Mailbox and HttpConnection as an event loop uses them."""

from __future__ import annotations

import select
import threading

import numpy as np
import pytest

from pyinfer import _core
from unit.core.house import House


def readable(house: House) -> bool:
    return bool(select.select([house.mailbox.fileno()], [], [], 0)[0])


def answer_all(house: House) -> None:
    while (batch := house.instance.poll()) is not None:
        batch.respond_packed({"OUT": batch.packed()["IN"]})
        batch.finish()


def test_one_wake_for_a_burst() -> None:
    house = House()
    connections = [house.connect() for _ in range(20)]
    for connection in connections:
        house.send_ints(connection, [1], 1)
    assert not readable(house)
    thread = threading.Thread(target=answer_all, args=[house])
    thread.start()
    thread.join()
    assert readable(house)
    written = house.mailbox.flush()[0]
    assert sorted(number for number, _, _ in written) == connections
    assert not readable(house)
    assert house.mailbox.flush()[0] == []


def test_answers_leave_in_the_order_of_requests() -> None:
    house = House()
    connection = house.connect()
    for value in range(3):
        house.send_ints(connection, [1], value)
    batches = [house.instance.poll() for _ in range(3)]
    for batch in reversed(batches):
        assert batch is not None
        assert house.mailbox.flush()[0] == []
        batch.respond_packed({"OUT": batch.packed()["IN"]})
        batch.finish()
    ((number, data, close),) = house.mailbox.flush()[0]
    assert (number, close) == (connection, False)
    assert isinstance(data, bytes)
    places = [data.find(b'"data":[%d]' % value) for value in range(3)]
    assert places == sorted(places) and places[0] > 0


def test_control_requests_have_their_place() -> None:
    house = House()
    number = house.connect()
    http = house.connections[number]
    house.send_ints(number, [1], 7)
    place = http.open()
    http.respond(place, 200, b"control", headers=[("X", "y")])
    http.respond(place, 500, b"twice")
    http.respond(99, 500, b"no such place")
    assert http.in_flight() == 2
    assert house.mailbox.flush()[0] == []
    answer_all(house)
    house.flush()
    first, second = house.answers[number]
    assert first.json["outputs"][0]["data"] == [7]
    assert (second.body, second.headers["x"]) == (b"control", "y")
    assert http.in_flight() == 0


def test_a_paused_connection() -> None:
    house = House()
    number = house.connect()
    http = house.connections[number]
    http.pause()
    house.send_ints(number, [1], 7)
    answer_all(house)
    assert house.mailbox.flush()[0] == []
    http.resume()
    assert house.answer(number).status == 200


def test_a_large_answer_is_a_list_of_views() -> None:
    house = House()
    number = house.connect()
    head = b'{"inputs":[{"name":"IN","datatype":"INT32","shape":[50000],"parameters":{"binary_data_size":200000}}],'
    head += b'"parameters":{"binary_data_output":true}}'
    data = np.arange(50_000, dtype=np.int32).tobytes()
    house.send_body(number, head + data, header_length=len(head))
    answer_all(house)
    ((_, pieces, _),) = house.mailbox.flush()[0]
    assert isinstance(pieces, list)
    views = [piece for piece in pieces if isinstance(piece, memoryview)]
    assert views and all(view.readonly for view in views)
    del house
    assert b"".join(pieces).endswith(data)


def test_the_body_is_collected() -> None:
    house = House()
    http = _core.HttpConnection(house.mailbox, 50, max_body_size=10)
    assert http.append(b"12345")
    assert not http.append(b"678901")
    assert http.body_size() == 5
    room = http.body_buffer(100)
    assert len(room) == 5 and not room.readonly
    room[:3] = b"abc"
    http.body_filled(3)
    assert http.take_body() == b"12345abc"
    assert http.body_size() == 0
    assert http.take_body() == b""
    assert len(http.body_buffer(0)) == 0
    assert http.append(b"")


def test_requests_are_taken_out_of_the_read_buffer() -> None:
    house = House()
    number = house.connect()
    http = house.connections[number]
    body = b'{"inputs":[{"name":"IN","datatype":"INT32","shape":[1],"data":[7]}]}'
    known = _core.KnownHeads(8)
    buffer = house.mailbox.read_buffer()
    buffer[: 5 + len(body)] = b"a\r\n\r\n" + body
    assert http.take(known, 5 + len(body)) == 0
    known.add(b"a\r\n\r\n", _core.InferHead("m", ""), len(body))
    assert http.take(known, 4 + len(body)) == 0
    assert http.take(known, 5 + len(body)) == 5 + len(body)
    answer_all(house)
    assert house.answer(number).json["outputs"][0]["data"] == [7]
    with pytest.raises(IndexError):
        http.take(known, len(buffer) + 1)


def test_a_closed_connection() -> None:
    house = House()
    number = house.connect()
    http = house.connections[number]
    house.send_ints(number, [1], 7)
    assert house.engine.in_flight() == 1
    http.close()
    http.close()
    house.flush()
    assert house.engine.in_flight() == 0
    assert house.failures() == {"CANCELED": 1}
    http.respond(http.open(), 200, b"x")
    assert http.infer(_core.InferHead("m", "")) is None
    assert house.mailbox.flush()[0] == []


def test_a_connection_that_is_dropped_is_closed() -> None:
    house = House()
    number = house.connect()
    house.send_ints(number, [1], 7)
    del house.connections[number]
    house.flush()
    assert house.engine.in_flight() == 0


def test_a_large_body_is_a_job() -> None:
    house = House()
    number = house.connect()
    http = house.connections[number]
    values = ",".join(["1"] * 300_000)
    body = f'{{"inputs":[{{"name":"IN","datatype":"INT32","shape":[300000],"data":[{values}]}}]}}'.encode()
    assert http.append(body)
    job = http.infer(_core.InferHead("m", ""))
    assert job is not None
    thread = threading.Thread(target=job)
    thread.start()
    thread.join()
    job()  # a second call does nothing
    batch = house.instance.poll()
    assert batch is not None and batch.packed()["IN"].sum() == 300_000
    assert http.append(body)
    lost = http.infer(_core.InferHead("m", ""))
    del lost
    batch.fail(0, "UNAVAILABLE", "first")
    batch.finish()
    house.flush()
    assert [answer.error for answer in house.answers[number]] == [
        "first",
        "the request was dropped without an answer",
    ]


def test_deadlines_of_a_mailbox() -> None:
    house = House()
    assert house.mailbox.next_deadline() is None


def test_answers_after_the_mailbox_is_closed_are_dropped() -> None:
    house = House()
    house.send_ints(house.connect(), [1], 7)
    house.mailbox.close()
    answer_all(house)
    assert house.mailbox.flush()[0] == []
    assert house.engine.in_flight() == 0


def test_objects_go_in_any_order() -> None:
    house = House()
    house.send_ints(house.connect(), [1], 7)
    house.send_ints(house.connect(), [1], 8)
    batch = house.instance.poll()
    instance = house.instance
    del house.engine, house.model, house.mailbox, house.connections
    assert batch is not None
    batch.respond_packed({"OUT": batch.packed()["IN"]})
    batch.finish()
    assert instance.poll() is None
    del batch


@pytest.mark.parametrize("nbytes", [-1, 1 << 70])
def test_sizes_of_the_caller_are_checked(nbytes: int) -> None:
    house = House()
    grpc = _core.GrpcConnection(house.mailbox, 1, _core.GrpcOptions())
    with pytest.raises((TypeError, ValueError)):
        grpc.received(nbytes)
    with pytest.raises(ValueError, match="more bytes than the buffer holds"):
        grpc.received(len(house.mailbox.read_buffer()) + 1)
