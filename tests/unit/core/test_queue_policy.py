# SPDX-License-Identifier: Apache-2.0
"""Random schedules of arrivals, time and polls under random queue policies, against the rules in a few lines."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from pyinfer import _core
from unit.core.house import House, int_spec

US = 1000


@dataclass(frozen=True)
class Policy:
    action: str = "REJECT"
    timeout_us: int = 0
    override: bool = False
    limit: int = 0

    def core(self) -> _core.QueuePolicy:
        return _core.QueuePolicy(
            timeout_action=self.action,
            default_timeout_us=self.timeout_us,
            allow_timeout_override=self.override,
            max_queue_size=self.limit,
        )


@dataclass
class Waiting:
    number: int
    level: int
    order: int
    deadline: int | None


@dataclass
class Reference:
    """The queue as its documentation has it: a list, sorted when it is looked at."""

    levels: int
    default: int
    policies: dict[int, Policy]
    now: int = 0
    waiting: list[Waiting] = field(default_factory=list)
    order: int = 0

    def policy(self, level: int) -> Policy:
        return self.policies[level if level in self.policies else 0]

    def push(self, number: int, priority: int, timeout_us: int) -> bool:
        level = priority if 1 <= priority <= self.levels else self.default
        policy = self.policy(level)
        if policy.limit and sum(one.level == level for one in self.waiting) >= policy.limit:
            return False
        timeout = policy.timeout_us
        if policy.override and timeout_us and timeout:
            timeout = min(timeout, timeout_us)
        self.order += 1
        self.waiting.append(Waiting(number, level, self.order, self.now + timeout * US if timeout else None))
        return True

    def expire(self) -> list[int]:
        over = [one for one in self.waiting if one.deadline is not None and one.deadline <= self.now]
        refused = [one for one in over if self.policy(one.level).action == "REJECT"]
        for one in over:
            one.deadline = None
            self.order += 1
            one.order = 10**9 + self.order  # behind all that are in time
        self.waiting = [one for one in self.waiting if one not in refused]
        return [one.number for one in refused]

    def take(self) -> int | None:
        if not self.waiting:
            return None
        first = min(self.waiting, key=lambda one: (one.level, one.order))
        self.waiting.remove(first)
        return first.number


policies = st.builds(
    Policy, st.sampled_from(["REJECT", "DELAY"]), st.sampled_from([0, 1, 3]), st.booleans(), st.sampled_from([0, 0, 2])
)
steps = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 4), st.sampled_from([0, 1, 2, 5])),
    st.tuples(st.just("time"), st.sampled_from([US // 2, US, 2 * US])),
    st.tuples(st.just("take")),
    st.tuples(st.just("flush")),
)


@given(
    levels=st.integers(0, 3),
    own=st.dictionaries(st.integers(1, 3), policies, max_size=2),
    default=policies,
    schedule=st.lists(steps, max_size=40),
)
def test_any_schedule(levels: int, own: dict[int, Policy], default: Policy, schedule: list[tuple]) -> None:
    own = {level: policy for level, policy in own.items() if level <= levels}
    level = min(1, levels)
    options = _core.QueueOptions(
        priority_levels=levels,
        default_priority_level=level,
        default_policy=default.core(),
        policies={key: policy.core() for key, policy in own.items()},
    )
    house = House(int_spec(max_batch_size=1, queue=options))
    reference = Reference(levels, level, {0: default, **own})
    expected: dict[int, str] = {}

    def expire() -> None:
        expected.update(dict.fromkeys(reference.expire(), "Request timeout expired"))

    for step in schedule:
        if step[0] == "push":
            number = house.connect()
            if not reference.push(number, step[1], step[2]):
                expected[number] = f"[request id: {number}] Exceeds maximum queue size"
            house.send_ints(
                number, [1, 1], number, parameters={"priority": step[1], "timeout": step[2]}, id=str(number)
            )
        elif step[0] == "time":
            house.clock.advance_ns(step[1])
            reference.now += step[1]
        elif step[0] == "take":
            expire()
            taken = reference.take()
            batch = house.instance.poll()
            assert (None if batch is None else int(batch.request_id(0))) == taken
            if batch is not None:
                batch.respond(0, [("OUT", *batch.input(0, "IN"))])
                batch.finish()
                expected[taken] = ""
        else:
            expire()
            house.flush()
    expire()
    house.flush()
    for number, answers in house.answers.items():
        assert len(answers) == (number in expected)
        if number in expected:
            assert answers[0].json.get("error", "") == expected[number]
            assert answers[0].status == (503 if expected[number] else 200)
