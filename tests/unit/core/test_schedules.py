# SPDX-License-Identifier: Apache-2.0
"""Random schedules of arrivals, polls, answers, cancellations and time, against the rules written in reference.py."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pyinfer import _core
from unit.core.house import House, int_spec
from unit.core.reference import Options, Queue, Waiting

US = 1000
FULL = "[request id: {}] Exceeds maximum queue size"


@dataclass
class Sent:
    """A request that was sent."""

    request: Waiting
    connection: int
    accepted: bool
    expected: str | int | None = None  # an error, the value of the output; None: not answered yet


@dataclass
class Running:
    """A batch that an instance holds."""

    batch: _core.Batch
    requests: list[Waiting]


class Schedule:
    """The core and the reference side by side; every step is checked at once."""

    def __init__(self, options: Options, connections: int = 3) -> None:
        self.options = options
        self.reference = Queue(options)
        self.house = House(
            int_spec(
                max_batch_size=options.max_batch_size,
                dynamic_batching=options.dynamic,
                preferred_batch_sizes=options.preferred,
                max_queue_delay_us=options.delay // US,
                queue=_core.QueueOptions(default_policy=_core.QueuePolicy(max_queue_size=options.queue_limit)),
            )
        )
        self.instances = [self.house.instance, self.house.model.add_instance("other")]
        self.open = [self.house.connect() for _ in range(connections)]
        self.sent: list[Sent] = []
        self.running: list[Running] = []
        self.ok: list[tuple[Waiting, int]] = []  # and how long it was queued
        self.reaped = True  # False where a lost client's requests may still be in the queue
        self.failures: Counter[str] = Counter()
        self.batches: Counter[int] = Counter()

    @property
    def now(self) -> int:
        return self.house.clock.now_ns()

    def arrive(self, rows: int, width: int, connection: int) -> None:
        rows = min(rows, self.options.max_batch_size) if self.options.max_batch_size else 1
        connection = self.open[connection % len(self.open)]
        request = Waiting(len(self.sent), rows, width, self.now)
        sent = Sent(request, connection, self.reference.push(request))
        shape = [rows, width] if self.options.max_batch_size else [width]
        self.house.send_ints(connection, shape, request.number, id=f"r{request.number}")
        if not sent.accepted:
            sent.expected = FULL.format(f"r{request.number}")
            self.failures["REJECTED"] += 1
        self.sent.append(sent)

    def poll(self, instance: int) -> None:
        chosen = self.instances[instance % len(self.instances)]
        if self.reaped:
            assert chosen.wake_at_ns() == self.reference.wake_at(self.now)
        expected = self.reference.take(self.now)
        batch = chosen.poll()
        assert (batch is None) == (not expected)
        if batch is None:
            return
        assert [batch.request_id(i) for i in range(len(batch))] == [f"r{request.number}" for request in expected]
        assert batch.rows == sum(request.counted for request in expected)
        self.ok += [(request, self.now - request.arrived) for request in expected]
        self.running.append(Running(batch, expected))

    def finish(self, which: int, how: str) -> None:
        """Answer a batch: all at once, one by one (last first), with a failure, or not at all."""
        running = self.running.pop(which % len(self.running))
        batch, requests = running.batch, running.requests
        failed: dict[int, str] = {}
        if how == "packed":
            batch.respond_packed({"OUT": batch.packed()["IN"] * 2})
        elif how == "each":
            for i in reversed(range(len(batch))):
                _, array = batch.input(i, "IN") or pytest.fail("no input")
                batch.respond(i, [("OUT", "INT32", array * 2)])
        else:
            first_open = 0
            if how == "fail":
                batch.fail(0, "UNAVAILABLE", "refused")
                failed[0] = "refused"
                first_open = 1
            for i in range(first_open, len(batch)):
                failed[i] = "the model 'm' did not answer the request"
        batch.finish()
        self.batches[batch_rows(requests)] += 1
        for i, request in enumerate(requests):
            self.sent[request.number].expected = failed.get(i, request.number * 2)
            if i in failed:
                self.failures["BACKEND"] += 1
                self.ok = [entry for entry in self.ok if entry[0] is not request]

    def lose(self, connection: int) -> None:
        """A client goes away: its queued requests are cancelled."""
        number = self.open[connection % len(self.open)]
        lost = {sent.request.number for sent in self.sent if sent.connection == number}
        cancelled = [request for request in self.reference.waiting if request.number in lost]
        self.reference.waiting = [request for request in self.reference.waiting if request.number not in lost]
        self.failures["CANCELED"] += len(cancelled)
        self.check_answers()
        self.house.close(number)
        self.open[self.open.index(number)] = self.house.connect()
        self.reaped = False
        if self.options.queue_limit:
            self.check_answers()  # until then they count for the limit

    def check_answers(self) -> None:
        """Each connection has the answers to its requests, in their order, up to the first that is still open."""
        self.house.flush()
        self.reaped = True
        for connection in self.open:
            expected = []
            for sent in self.sent:
                if sent.connection == connection:
                    if sent.expected is None:
                        break
                    expected.append(sent)
            answers = self.house.answers[connection]
            assert len(answers) == len(expected)
            for sent, answer in zip(expected, answers, strict=True):
                check_answer(sent, answer)

    def end(self) -> None:
        """Everything is taken and answered; the counts are those of what happened."""
        self.house.clock.advance_ns(self.options.delay)
        while self.reference.waiting:
            self.poll(0)
        self.poll(1)
        while self.running:
            self.finish(0, "packed")
        self.check_answers()
        assert self.house.engine.in_flight() == 0
        assert self.house.model.pending() == 0
        assert self.house.failures() == dict(+self.failures)
        self.check_statistics(self.house.statistics())

    def check_statistics(self, statistics: dict[str, Any]) -> None:
        inference = statistics["inference_stats"]
        assert inference["success"]["count"] == len(self.ok)
        assert inference["queue"] == {"count": len(self.ok), "ns": sum(queued for _, queued in self.ok)}
        assert inference["fail"]["count"] == sum(self.failures.values())
        assert statistics["inference_count"] == sum(request.counted for request, _ in self.ok)
        assert statistics["execution_count"] == sum(self.batches.values())
        counted = {entry["batch_size"]: entry["compute_infer"]["count"] for entry in statistics["batch_stats"]}
        assert counted == dict(self.batches)


def batch_rows(requests: list[Waiting]) -> int:
    return sum(request.counted for request in requests)


def check_answer(sent: Sent, answer: Any) -> None:
    if isinstance(sent.expected, str):
        assert answer.error == sent.expected
        assert answer.status == (500 if "did not answer" in sent.expected else 503)
        return
    assert answer.status == 200
    assert answer.json["id"] == f"r{sent.request.number}"
    (output,) = answer.json["outputs"]
    assert output["data"] == [sent.expected] * (sent.request.rows * sent.request.width)


OPTIONS = st.builds(
    lambda size, dynamic, preferred, delay, limit: Options(
        size, dynamic, tuple(sorted(p for p in preferred if p <= size)), delay * US, limit
    ),
    st.integers(0, 8),
    st.sampled_from([True, True, True, False]),
    st.sets(st.integers(1, 8), max_size=3),
    st.sampled_from([0, 1, 5, 100]),
    st.sampled_from([0, 0, 1, 4]),
)
ROWS = st.integers(0, 8)
WIDTH = st.sampled_from([1, 1, 1, 2])
SMALL = st.integers(0, 5)
HOW = st.sampled_from(["packed", "packed", "each", "each", "fail", "nothing"])
TIME = st.integers(1, 6).map(lambda us: us * US) | st.just(100 * US)
STEP = st.one_of(
    st.tuples(st.just("arrive"), ROWS, WIDTH, SMALL),
    st.tuples(st.just("arrive"), ROWS, WIDTH, SMALL),
    st.tuples(st.just("poll"), SMALL),
    st.tuples(st.just("finish"), SMALL, HOW),
    st.tuples(st.just("lose"), SMALL),
    st.tuples(st.just("advance"), TIME),
)


def take_step(schedule: Schedule, step: tuple[Any, ...]) -> None:
    what, *arguments = step
    if what == "advance":
        schedule.house.clock.advance_ns(*arguments)
    elif what != "finish" or schedule.running:
        getattr(schedule, what)(*arguments)


@pytest.mark.slow
@settings(max_examples=max(500, settings.default.max_examples))
@given(OPTIONS, st.lists(STEP, max_size=40))
def test_schedules(options: Options, steps: list[tuple[Any, ...]]) -> None:
    schedule = Schedule(options)
    for step in steps:
        take_step(schedule, step)
    schedule.end()


class Machine(RuleBasedStateMachine):
    """The same, with answers looked at after every step."""

    schedule: Schedule

    @initialize(options=OPTIONS, connections=st.integers(1, 4))
    def start(self, options: Options, connections: int) -> None:
        self.schedule = Schedule(options, connections)

    @rule(rows=ROWS, width=WIDTH, connection=SMALL)
    def arrive(self, rows: int, width: int, connection: int) -> None:
        self.schedule.arrive(rows, width, connection)

    @rule(instance=SMALL)
    def poll(self, instance: int) -> None:
        self.schedule.poll(instance)

    @precondition(lambda self: self.schedule.running)
    @rule(which=SMALL, how=HOW)
    def finish(self, which: int, how: str) -> None:
        self.schedule.finish(which, how)

    @rule(connection=SMALL)
    def lose(self, connection: int) -> None:
        self.schedule.lose(connection)

    @rule(ns=TIME)
    def advance(self, ns: int) -> None:
        self.schedule.house.clock.advance_ns(ns)

    @invariant()
    def answers_are_right(self) -> None:
        self.schedule.check_answers()
        waiting = len(self.schedule.reference.waiting) + sum(len(r.requests) for r in self.schedule.running)
        assert self.schedule.house.engine.in_flight() == waiting

    def teardown(self) -> None:
        if hasattr(self, "schedule"):
            self.schedule.end()


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=max(100, settings.default.max_examples), stateful_step_count=40)
