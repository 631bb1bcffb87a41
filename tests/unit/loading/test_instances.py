# SPDX-License-Identifier: Apache-2.0
"""The instances of a version: which stay, which go, and that a change is made whole or not at all."""

from __future__ import annotations

import gc
import threading
import weakref
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer._core import Engine, Model, ModelSpec, TensorSpec
from pyinfer.backends.base import Backend, InstanceContext, NativeExecutor
from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.instance_plan import Wanted, plan_instances
from pyinfer.instances import NativeInstances, PythonInstances
from waiting import eventually

LIMITS = st.sampled_from([(0, ()), (2, ()), (0, (("R", False, 1),))])
WANTED = st.lists(
    st.builds(Wanted, st.sampled_from(["m_0", "m_1", "x_0"]), st.sampled_from(["CPU", "MODEL"]), st.just(0), LIMITS)
)


@given(WANTED, WANTED)
def test_as_few_as_possible_are_made_and_retired(running: list[Wanted], wanted: list[Wanted]) -> None:
    plan = plan_instances(running, wanted)
    assert sorted([*plan.keep, *plan.retire]) == list(range(len(running)))
    places = Counter(want[1:] for want in wanted)
    after = Counter(running[index][1:] for index in plan.keep) + Counter(want[1:] for want in plan.make)
    assert after == places
    assert not {running[index][1:] for index in plan.retire} & {want[1:] for want in plan.make}


def test_equal_names_stay_first() -> None:
    running = [Wanted("a", "CPU", 0), Wanted("b", "CPU", 0), Wanted("c", "GPU", 1)]
    plan = plan_instances(running, [Wanted("b", "CPU", 0), Wanted("z", "GPU", 1), Wanted("y", "GPU", 0)])
    assert (plan.keep, plan.retire, plan.make) == ([1, 2], [0], [Wanted("y", "GPU", 0)])


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
    return [Wanted(name, "CPU", 0) for name in names]


def living(backend: Recording) -> list[str]:
    return sorted(made.name for made in backend.made if not made.closed.is_set())


def test_exchange(core: Model) -> None:
    backend = Recording()
    instances = PythonInstances(core, backend)
    instances.prepare(cpu("a", "b")).commit()
    assert living(backend) == ["a", "b"]
    change = instances.prepare([*cpu("b"), Wanted("c", "MODEL", 0)])
    assert living(backend) == ["a", "b", "c"], "nothing goes before the change is committed"
    change.commit()
    assert backend.made[0].closed.wait(60)
    assert living(backend) == ["b", "c"]
    core.stop()
    instances.join()
    assert living(backend) == []


def test_what_a_version_held_goes_with_it(core: Model) -> None:
    """Not when cycles are sought next: a worker's memory may hang on it."""
    backend = Recording()
    instances = PythonInstances(core, backend)
    instances.watch(lambda reason, instances=instances: None)  # the watcher knows the version
    instances.prepare(cpu("a", "b")).commit()
    core.stop()
    instances.join()
    gone = weakref.ref(backend)
    gc.disable()
    try:
        backend.made.clear()
        del backend, instances
        eventually(lambda: gone() is None, "the backend goes")  # once its threads have ended
    finally:
        gc.enable()


def test_what_a_change_that_failed_held_goes_with_it(core: Model) -> None:
    backend = Recording()
    backend.refused = {"b", "c"}
    instances = PythonInstances(core, backend)
    gone = weakref.ref(backend)
    gc.disable()
    try:
        with pytest.raises(ModelError, match="no b"):
            instances.prepare(cpu("a", "b", "c"))
        backend.made.clear()
        del backend, instances
        eventually(lambda: gone() is None, "the backend goes")
    finally:
        gc.enable()


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


def limited(name: str, *resources: tuple[str, bool, int]) -> Wanted:
    return Wanted(name, "CPU", 0, (1, resources))


@pytest.fixture
def shared() -> Iterator[Model]:
    """A model whose instances share what there is: three of R, nothing else."""
    engine = Engine()
    engine.set_rate_limiter([("R", 3, None)])
    tensors = [TensorSpec("X", "FP32", [1])]
    model = engine.create(ModelSpec(name="m", version=1, inputs=tensors, outputs=tensors))
    yield model
    model.stop()


def global_r(model: Model) -> bool:
    try:
        return model.limit(priority=1, resources=[("r", True, 2)], device=0) is not None
    except ValueError:
        return False


def test_limits_that_can_not_be_met(shared: Model) -> None:
    backend = Recording()
    instances = PythonInstances(shared, backend)
    instances.prepare([limited("a", ("r", False, 3))]).commit()
    text = (
        'Resource count for "R" is limited to 3 which will prevent scheduling of one or more model instances, the '
        "minimum required count is 4"
    )
    with pytest.raises(InvalidArgument, match=text):
        instances.prepare([limited("a", ("r", False, 3)), limited("b", ("R", False, 1)), limited("c", ("R", False, 4))])
    clash = 'Resource "R" is present as both global and device-specific resource in the model configuration.'
    with pytest.raises(InvalidArgument, match=clash):
        instances.prepare([limited("a", ("r", False, 3)), limited("g", ("R", True, 1))])
    assert living(backend) == ["a"], "nothing has changed"
    # those that were refused, and those that are not there any more, hold no name
    instances.prepare([limited("d", ("S", False, 0))]).commit()
    assert backend.made[0].closed.wait(60)
    eventually(lambda: global_r(shared), "the retired instance still needs R")
    shared.stop()
    instances.join()


def test_a_discarded_change_needs_nothing(shared: Model) -> None:
    for instances in (PythonInstances(shared, Recording()), NativeInstances(shared, NativeExecutor("identity"))):
        instances.prepare(cpu("a")).commit()
        change = instances.prepare([*cpu("a"), limited("b", ("R", True, 1))])
        with pytest.raises(ValueError, match="both global and device-specific"):
            shared.limit(priority=1, resources=[("R", False, 1)], device=0)
        change.discard()
        assert shared.limit(priority=1, resources=[("R", False, 1)], device=0) is not None
    shared.stop()


def test_without_a_rate_limiter_nothing_is_limited(core: Model) -> None:
    assert core.limit(priority=1, resources=[("R", False, 1), ("R", True, 1)], device=0) is None
    PythonInstances(core, Recording()).prepare([limited("a", ("R", False, 1))]).commit()
