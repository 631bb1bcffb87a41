# SPDX-License-Identifier: Apache-2.0
"""Engine, Model and Instance: threads that pull batches, exceptions, versions, draining and stopping."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pyinfer import _core
from unit.core.house import House, int_spec


def echo(batch: _core.Batch) -> None:
    batch.respond_packed({"OUT": batch.packed()["IN"]})


@contextmanager
def running(house: House, execute: Callable[[_core.Batch], None], threads: int = 1) -> Iterator[None]:
    """Threads that run the model's instances until the model is stopped."""
    instances = [house.model.add_instance(f"i{n}") for n in range(threads)]
    workers = [threading.Thread(target=instance.run, args=[execute]) for instance in instances]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        house.model.stop()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()


def ask(house: House) -> int:
    connection = house.connect()
    house.send_ints(connection, [2], 5)
    return connection


def run_one(execute: Callable[[_core.Batch], None]) -> Any:
    """The answer to one request to a model that does this."""
    house = House()
    with running(house, execute):
        connection = ask(house)
        house.flush()
        assert house.model.drain(60)
    return house.answer(connection)


def test_runs_batches() -> None:
    assert run_one(echo).json["outputs"][0]["data"] == [5, 5]


class Coded(Exception):
    def __init__(self, code: Any, message: str) -> None:
        super().__init__(message)
        self.code = code


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (ValueError("why"), 500, "why"),
        (ValueError(), 500, "ValueError"),
        (KeyboardInterrupt("stop"), 500, "stop"),
        (SystemExit(3), 500, "3"),
        (Coded("INVALID_ARG", "bad"), 400, "bad"),
        (Coded("UNAVAILABLE", "busy"), 503, "busy"),
        (Coded("NO_SUCH_CODE", "odd"), 500, "odd"),
        (Coded("OK", "not ok"), 500, "not ok"),
        (Coded(7, "number"), 500, "number"),
        (Unprintable(), 500, "the model raised an exception"),
        (ValueError("\udcff"), 500, "the model raised an exception"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exceptions_are_answers(error: BaseException, status: int, text: str) -> None:
    def execute(batch: _core.Batch) -> None:
        raise error

    answer = run_one(execute)
    assert (answer.status, answer.error) == (status, text)


def test_an_exception_leaves_what_is_answered_and_does_not_end_the_loop() -> None:
    house = House(int_spec(max_batch_size=4, dynamic_batching=True))

    def execute(batch: _core.Batch) -> None:
        batch.respond(0, [("OUT", "INT32", np.array([[1]], np.int32))])
        raise ValueError("late")

    connections = [house.connect() for _ in range(2)]
    for connection in connections:
        house.send_ints(connection, [1, 1], 0)
    with running(house, execute):
        house.flush()
        assert_eventually_idle(house)
        third = house.connect()
        house.send_ints(third, [1, 1], 0)
        house.flush()
        assert house.model.drain(60)
    house.flush()
    assert [house.answers[c][0].status for c in (*connections, third)] == [200, 500, 200]


def assert_eventually_idle(house: House) -> None:
    """Waits on the mailbox, not on a clock: each turn of the loop is one wake-up."""
    import select

    while house.engine.in_flight():
        select.select([house.mailbox.fileno()], [], [], 60)
        house.flush()


def test_a_batch_that_is_kept_is_finished() -> None:
    kept: list[_core.Batch] = []

    def execute(batch: _core.Batch) -> None:
        kept.append(batch)
        echo(batch)

    assert run_one(execute).status == 200
    with pytest.raises(RuntimeError, match="the batch is finished"):
        kept[0].packed()


def test_several_instances_answer_each_request_once() -> None:
    house = House(int_spec(max_batch_size=8, dynamic_batching=True))
    seen: list[str] = []

    def execute(batch: _core.Batch) -> None:
        seen.extend(batch.request_id(i) for i in range(len(batch)))
        echo(batch)

    connections = [house.connect() for _ in range(8)]
    with running(house, execute, threads=3):
        for number in range(400):
            house.send_ints(connections[number % 8], [1 + number % 3, 1], number, id=str(number))
            if number % 5 == 0:
                house.flush()
        house.flush()
        assert house.model.drain(60)
    house.flush()
    assert sorted(seen, key=int) == [str(number) for number in range(400)]
    for which, connection in enumerate(connections):
        assert [answer.json["id"] for answer in house.answers[connection]] == [str(n) for n in range(which, 400, 8)]


def test_stop_ends_run_and_answers_what_is_queued() -> None:
    house = House()
    connection = ask(house)
    assert house.model.pending() == 1
    house.model.stop()
    house.model.stop()
    answer = house.answer(connection)
    assert (answer.status, answer.error) == (503, "the model 'm' is being unloaded")
    house.instance.run(echo)
    assert house.instance.poll() is None
    assert house.instance.wake_at_ns() is None
    assert house.failures() == {"REJECTED": 1}


def test_drain_gives_up_when_the_time_is_up() -> None:
    house = House()
    connection = ask(house)
    assert not house.model.drain(0)
    late = ask(house)
    assert house.answer(late).status == 503
    batch = house.instance.poll()
    assert batch is not None
    echo(batch)
    batch.finish()
    assert house.model.drain(0)
    assert house.answer(connection).status == 200


def test_versions() -> None:
    house = House()
    second = house.engine.create(
        _core.ModelSpec(name="m", version=2, inputs=[], outputs=[_core.TensorSpec("OUT", "INT32", [1])])
    )
    house.engine.publish("m", [house.model, second], not_ready=[5])
    http = house.connections[house.connect()]

    def status(version: str, body: bytes = b'{"inputs":[]}') -> str:
        assert http.append(body)
        http.infer(_core.InferHead("m", version))
        house.flush()
        return house.answers[0].pop().error

    assert status("5") == "Request for unknown model: 'm' version 5 is not at ready state"
    assert status("7") == "Request for unknown model: 'm' version 7 is not found"
    assert "expected 1 inputs but got 0" in status("1")
    assert http.append(b'{"inputs":[]}')
    http.infer(_core.InferHead("m", ""))
    assert second.pending() == 1
    house.engine.withdraw("m")
    assert second.pending() == 1
    second.stop()
    house.flush()
    assert status("1") == "Request for unknown model: 'm' is not found"


def test_an_engine_that_stops_accepting() -> None:
    house = House()
    house.engine.stop_accepting()
    answer = house.answer(ask(house))
    assert (answer.status, "Server is stopping" in answer.error) == (503, True)
    assert house.engine.in_flight() == 0


COUNTERS = [
    f"nv_inference_{name}"
    for name in (
        "request_success",
        "count",
        "exec_count",
        "request_duration_us",
        "queue_duration_us",
        "compute_input_duration_us",
        "compute_infer_duration_us",
        "compute_output_duration_us",
    )
]


def test_names_and_empty_statistics() -> None:
    house = House()
    assert (house.model.name, house.model.version, house.instance.name) == ("m", 1, "i")
    statistics = house.statistics()
    assert statistics["name"] == "m" and statistics["version"] == "1"
    assert statistics["execution_count"] == statistics["inference_count"] == statistics["last_inference"] == 0
    assert statistics["batch_stats"] == []
    assert all(entry == {"count": 0, "ns": 0} for entry in statistics["inference_stats"].values())
    for name in COUNTERS:
        assert house.metric(name) == {"": 0}
    assert house.metric("nv_inference_request_failure") == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": 0}


def test_statistics_and_counters_are_of_the_timeline() -> None:
    house = House()
    connection = ask(house)
    house.clock.advance_ns(2_500)
    batch = house.instance.poll()
    assert batch is not None
    house.clock.advance_ns(3_000)
    outputs = {"OUT": batch.packed()["IN"]}
    house.clock.advance_ns(4_000)
    batch.respond_packed(outputs)
    house.clock.advance_ns(5_000)
    batch.finish()
    assert house.answer(connection).status == 200
    inference = house.statistics()["inference_stats"]
    assert {name: entry["ns"] for name, entry in inference.items() if entry["count"]} == {
        "success": 14_500,
        "queue": 2_500,
        "compute_input": 3_000,
        "compute_infer": 4_000,
        "compute_output": 5_000,
    }
    assert [house.metric(name)[""] for name in COUNTERS] == [1, 1, 1, 14, 2, 3, 4, 5]


def test_native_executors() -> None:
    house = House()
    with pytest.raises(ValueError, match="no native executor 'none'"):
        house.model.start_native("none", {}, ["i"])
    with pytest.raises(ValueError, match="execute_delay_ms"):
        house.model.start_native("identity", {"execute_delay_ms": "x"}, ["i"])
    house.model.start_native("identity", {}, ["a", "b"])
    connections = [ask(house) for _ in range(10)]
    house.flush()
    assert house.model.drain(60)
    house.model.stop()
    house.flush()
    assert [house.answers[c][0].json["outputs"][0]["data"] for c in connections] == [[5, 5]] * 10
