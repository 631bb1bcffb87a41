# SPDX-License-Identifier: Apache-2.0
"""Random schedules of sequences, time, lost clients and polls, against the documented rules in plain Python."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pyinfer import _core
from unit.core.house import House, int_spec

US = 1000
IDLE_US = 10
START, END = 1, 2
CONTROLS = [
    ("START", "S", "INT32", b"\0\0\0\0", b"\1\0\0\0"),
    ("READY", "R", "BOOL", b"\0", b"\1"),
    ("END", "E", "INT32", b"\0\0\0\0", b"\1\0\0\0"),
    ("CORRID", "ID", "UINT64", b"", b""),
]


@dataclass
class Waiting:
    number: int
    flags: int
    arrived: int


@dataclass(eq=False)
class Sequence:
    number: int
    touched: int
    requests: list[Waiting] = field(default_factory=list)
    over: bool = False


@dataclass
class Reference:
    """Slots of instances, a backlog, and what is to happen to each request."""

    strategy: str
    instances: list[list[Sequence | None]]
    most_rows: int
    now: int = 0
    backlog: list[Sequence] = field(default_factory=list)

    def everywhere(self) -> list[Sequence]:
        return [one for slots in self.instances for one in slots if one is not None] + self.backlog

    def live(self, number: int) -> Sequence | None:
        return next((one for one in self.everywhere() if one.number == number and not one.over), None)

    def fill(self) -> None:
        for slot in range(len(self.instances[0])):
            for slots in self.instances:
                if slots[slot] is None and self.backlog:
                    slots[slot] = self.backlog.pop(0)
                    slots[slot].touched = self.now

    def expire(self) -> None:
        for slots in self.instances:
            for slot, one in enumerate(slots):
                if one is not None and not one.requests and self.now - one.touched >= IDLE_US * US:
                    slots[slot] = None
        self.fill()

    def push(self, number: int, sequence: int, flags: int) -> bool:
        self.expire()
        found = self.live(sequence)
        if found is None:
            if not flags & START:
                return False
            found = Sequence(sequence, self.now)
            self.backlog.append(found)
            self.fill()
        found.touched = self.now
        found.requests.append(Waiting(number, flags, self.now))
        found.over = bool(flags & END)
        return True

    def cancel(self, lost: int) -> list[int]:
        """The numbers of the requests that are given up because the request ``lost`` is."""
        given_up = [one for one in self.everywhere() if any(request.number == lost for request in one.requests)]
        for one in given_up:
            self.instances = [[None if held is one else held for held in slots] for slots in self.instances]
            self.backlog = [held for held in self.backlog if held is not one]
        self.fill()
        return [request.number for one in given_up for request in one.requests]

    def take(self, instance: int) -> list[tuple[int, int] | None]:
        """(sequence, flags) of each row, None for a row that is nobody's."""
        self.expire()
        slots = self.instances[instance]
        ready = [slot for slot, one in enumerate(slots) if one is not None and one.requests]
        if self.strategy == "oldest":
            ready.sort(key=lambda slot: slots[slot].requests[0].arrived)  # at the same time: by slot
            order: list[int | None] = list(ready[: self.most_rows])
        else:
            order = [slot if slot in ready else None for slot in range(max(ready, default=-1) + 1)]
        rows = [None if slot is None else self._pop(slots, slot) for slot in order]
        self.fill()
        return rows

    def _pop(self, slots: list[Sequence | None], slot: int) -> tuple[int, int]:
        one = slots[slot]
        assert one is not None
        request = one.requests.pop(0)
        self.taken.append(request.number)
        if one.over and not one.requests:
            slots[slot] = None
        return one.number, request.flags

    taken: list[int] = field(default_factory=list)


steps = st.one_of(
    st.tuples(st.just("push"), st.integers(1, 5), st.sampled_from([0, 0, START, START, END, START | END])),
    st.tuples(st.just("take"), st.integers(0, 1)),
    st.tuples(st.just("time"), st.sampled_from([1, IDLE_US // 2, IDLE_US])),
    st.tuples(st.just("lose"), st.integers(0, 50)),
)


def flags_of(batch: _core.Batch, index: int) -> int:
    """What the controls say; checked against what the request says."""
    controls = {name: batch.input(index, name)[1].ravel()[0] for name in ("S", "R", "E", "ID")}
    flags = START * int(controls["S"]) + END * int(controls["E"])
    assert flags == batch.flags(index)
    assert int(controls["ID"]) == batch.correlation_id(index)
    assert bool(controls["R"]) == (batch.correlation_id(index) != 0)
    return flags


@given(
    strategy=st.sampled_from(["direct", "oldest"]),
    slots=st.integers(1, 3),
    instances=st.integers(1, 2),
    schedule=st.lists(steps, max_size=60),
)
def test_any_schedule(strategy: str, slots: int, instances: int, schedule: list[tuple]) -> None:
    options = _core.SequenceOptions(strategy=strategy, slots=slots, max_idle_us=IDLE_US, controls=CONTROLS)
    most_rows = 2 if strategy == "oldest" else slots
    house = House(int_spec(max_batch_size=most_rows, dynamic_batching=True, sequence=options))
    runners = [house.instance, *(house.model.add_instance("other") for _ in range(instances - 1))]
    reference = Reference(strategy, [[None] * slots for _ in runners], most_rows)
    expected: dict[int, int] = {}
    lost: set[int] = set()
    for step in schedule:
        if step[0] == "push":
            number = house.connect()
            flags = step[2]
            if not reference.push(number, step[1], flags):
                expected[number] = 400
            parameters = {
                "sequence_id": step[1],
                "sequence_start": bool(flags & START),
                "sequence_end": bool(flags & END),
            }
            house.send_ints(number, [1, 1], number, parameters=parameters)
        elif step[0] == "take":
            instance = step[1] % instances
            rows = reference.take(instance)
            batch = runners[instance].poll()
            assert (batch is None) == (not rows)
            if batch is None:
                continue
            got = [(batch.correlation_id(i), flags_of(batch, i)) for i in range(len(batch))]
            assert got == [(0, 0) if row is None else row for row in rows]
            for index in range(len(batch)):
                batch.respond(index, [("OUT", *batch.input(index, "IN"))])
            batch.finish()
            expected.update(dict.fromkeys(reference.taken, 200))
            reference.taken.clear()
        elif step[0] == "time":
            house.clock.advance_ns(step[1] * US)
            reference.now += step[1] * US
        elif step[1] in house.connections and step[1] not in expected:
            lost.add(step[1])
            house.close(step[1])
            given_up = reference.cancel(step[1])
            expected.update({number: 400 for number in given_up if number not in lost})
            house.flush()
    house.flush()
    waiting = {request.number for one in reference.everywhere() for request in one.requests}
    assert house.model.pending() == len(waiting)
    for number, answers in house.answers.items():
        if number in lost:
            assert not answers
        else:
            assert [answer.status for answer in answers] == ([expected[number]] if number in expected else [])
            assert (number in expected) != (number in waiting)
