# SPDX-License-Identifier: Apache-2.0
"""The instances of a version: which stay, which go, and that a change is made whole or not at all."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer._core import Engine, Model, ModelSpec, TensorSpec
from pyinfer.backends.base import Backend, InstanceContext, NativeExecutor
from pyinfer.errors import ModelError
from pyinfer.instances import NativeInstances, PythonInstances, Wanted, plan_instances

WANTED = st.lists(st.tuples(st.sampled_from(["m_0", "m_1", "x_0"]), st.sampled_from(["CPU", "MODEL"]), st.just(0)))


@given(WANTED, WANTED)
def test_as_few_as_possible_are_made_and_retired(running: list[Wanted], wanted: list[Wanted]) -> None:
    plan = plan_instances(running, wanted)
    assert sorted([*plan.keep, *plan.retire]) == list(range(len(running)))
    places = Counter(want[1:] for want in wanted)
    after = Counter(running[index][1:] for index in plan.keep) + Counter(want[1:] for want in plan.make)
    assert after == places
    assert not {running[index][1:] for index in plan.retire} & {want[1:] for want in plan.make}


def test_equal_names_stay_first() -> None:
    running: list[Wanted] = [("a", "CPU", 0), ("b", "CPU", 0), ("c", "GPU", 1)]
    plan = plan_instances(running, [("b", "CPU", 0), ("z", "GPU", 1), ("y", "GPU", 0)])
    assert (plan.keep, plan.retire, plan.make) == ([1, 2], [0], [("y", "GPU", 0)])


class Recorded:
    """An instance that notes its end."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.thread = threading.current_thread()
        self.closed = threading.Event()

    def execute(self, batch: object) -> None:
        raise AssertionError("there are no requests")

    def close(self) -> None:
        assert threading.current_thread() is self.thread
        self.closed.set()


class Recording(Backend):
    """Makes instances, but none of a name in ``refused``."""

    def __init__(self) -> None:  # no model: the instances are all that is looked at
        self.made: list[Recorded] = []
        self.refused: set[str] = set()

    def make_instance(self, instance: InstanceContext) -> Recorded:
        if instance.name in self.refused:
            raise ModelError(f"no {instance.name}")
        made = Recorded(instance.name)
        self.made.append(made)
        return made


@pytest.fixture
def core() -> Iterator[Model]:
    tensors = [TensorSpec("X", "FP32", [1])]
    model = Engine().create(ModelSpec(name="m", version=1, inputs=tensors, outputs=tensors))
    yield model
    model.stop()


def cpu(*names: str) -> list[Wanted]:
    return [(name, "CPU", 0) for name in names]


def living(backend: Recording) -> list[str]:
    return sorted(made.name for made in backend.made if not made.closed.is_set())


def test_exchange(core: Model) -> None:
    backend = Recording()
    instances = PythonInstances(core, backend)
    instances.prepare(cpu("a", "b")).commit()
    assert living(backend) == ["a", "b"]
    change = instances.prepare([*cpu("b"), ("c", "MODEL", 0)])
    assert living(backend) == ["a", "b", "c"], "nothing goes before the change is committed"
    change.commit()
    assert backend.made[0].closed.wait(60)
    assert living(backend) == ["b", "c"]
    core.stop()
    instances.join()
    assert living(backend) == []


def test_a_discarded_change_leaves_everything(core: Model) -> None:
    backend = Recording()
    instances = PythonInstances(core, backend)
    instances.prepare(cpu("a")).commit()
    instances.prepare(cpu("a", "b", "c")).discard()
    assert living(backend) == ["a"]
    core.stop()
    instances.join()


def test_one_that_fails_takes_the_others_of_the_change_down(core: Model) -> None:
    backend = Recording()
    backend.refused = {"c"}
    instances = PythonInstances(core, backend)
    instances.prepare(cpu("a")).commit()
    with pytest.raises(ModelError, match="no c"):
        instances.prepare(cpu("a", "b", "c"))
    assert living(backend) == ["a"]
    core.stop()
    instances.join()


def test_native_instances(core: Model) -> None:
    with pytest.raises(ValueError, match="there is no native executor 'none'"):
        NativeInstances(core, NativeExecutor("none")).prepare(cpu("a"))
    instances = NativeInstances(core, NativeExecutor("identity"))
    for count in (1, 4, 2, 3):
        instances.prepare(cpu(*map(str, range(count)))).commit()
    change = instances.prepare(cpu("a"))
    core.stop()
    change.commit()  # too late to matter, and no reason to fail
    instances.join()
