# SPDX-License-Identifier: Apache-2.0
"""The instances of one loaded model version: made, run and ended here, and exchanged while requests are served.

A change has two steps: what is new is prepared while the old instances serve on, and may fail; a commit lets it run and
retires what is not wanted any more, and can not fail. The queue stays where it is.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

from pyinfer.backends.base import Backend, InstanceContext, NativeExecutor
from pyinfer.backends.base import Instance as BackendInstance
from pyinfer.errors import ModelError
from pyinfer.gil_waits import counted
from pyinfer.instance_plan import Wanted, plan_instances
from pyinfer.readiness import ReadinessProbe
from pyinfer.warmup import Warmup

if TYPE_CHECKING:
    from pyinfer._core import Batch, Instance, LimitedInstance, Model

__all__ = [
    "ComposedInstances",
    "InstanceChange",
    "Instances",
    "NativeInstances",
    "Probed",
    "PythonInstances",
]

_log = logging.getLogger(__name__)


class Probed(Protocol):
    """What can be asked whether it is ready."""

    def probes(self) -> Sequence[ReadinessProbe]:
        """As those of :class:`Instances`."""


class InstanceChange(Protocol):
    """A change that is prepared. Exactly one of the two is to be called, once."""

    def commit(self) -> None:
        """Let the new instances run, and retire the others after the batches that they execute."""

    def discard(self) -> None:
        """End what was prepared; nothing has changed."""


class Instances(Protocol):
    """All instances of a model version. Any thread."""

    def prepare(self, wanted: Sequence[Wanted]) -> InstanceChange:
        """Make what ``wanted`` needs and is not there yet. Raises what the first instance that fails raised."""

    def probes(self) -> list[ReadinessProbe]:
        """How to ask the instances that run whether they are ready; empty where none has an opinion."""

    def watch(self, broken: Callable[[str], object]) -> None:
        """Have ``broken`` called, on any thread, with the reason where an instance can not execute anything any more.

        At once where that has happened before.
        """

    def join(self) -> None:
        """Wait until all instances are closed. Requires: the core's model is stopped."""


class ComposedInstances:
    """Those of an ensemble, which has none: its steps' models run what there is to run."""

    def __init__(self, steps: Sequence[Probed]) -> None:
        self._steps = steps

    def prepare(self, wanted: Sequence[Wanted]) -> InstanceChange:
        return _NoChange()

    def probes(self) -> list[ReadinessProbe]:
        return [probe for step in self._steps for probe in step.probes()]

    def watch(self, broken: Callable[[str], object]) -> None:
        return  # the steps' models are watched themselves

    def join(self) -> None:
        return


class _NoChange:
    def commit(self) -> None:
        return

    def discard(self) -> None:
        return


class NativeInstances:
    """Instances that run in the core: the core keeps them, here is only their number."""

    def __init__(self, core: Model, executor: NativeExecutor, warmup: Warmup | None = None) -> None:
        self._core = core
        self._warmup = warmup
        self._executor = executor
        self._started = False

    def prepare(self, wanted: Sequence[Wanted]) -> InstanceChange:
        wanted = [want for want in wanted if not want.passive]  # they have no code that would have other work
        limited = [want.enter(self._core) for want in wanted]
        change = _NativeChange(self._core, self._executor, [want.name for want in wanted], limited)
        if not self._started:
            # there is nothing to warm up, but a sample that fits no request is a fault all the same
            if self._warmup is not None:
                self._warmup.run(self._core, self._core.name, None)
            change.start()  # the first time kind and parameters may be refused
            self._started = True
        return change

    def probes(self) -> list[ReadinessProbe]:
        return []

    def watch(self, broken: Callable[[str], object]) -> None:
        return  # they do not break

    def join(self) -> None:
        return  # the core joins its threads when it stops the model


@dataclass(frozen=True)
class _NativeChange:
    core: Model
    executor: NativeExecutor
    names: list[str]
    limited: list[LimitedInstance | None]

    def start(self) -> None:
        self.core.start_native(self.executor.kind, self.executor.parameters, self.names, self.limited)

    def commit(self) -> None:
        with contextlib.suppress(ValueError):  # the model was stopped meanwhile
            self.start()
        self.limited.clear()

    def discard(self) -> None:
        self.limited.clear()  # they share resources as long as they are known


class PythonInstances:
    """Instances that are run by Python threads, one each."""

    def __init__(self, core: Model, backend: Backend, warmup: Warmup | None = None, nice: int = 0) -> None:
        self._core = core
        self._backend = backend
        self._warmup = warmup
        self._nice = nice
        self._lock = threading.Lock()
        self._running: list[_InstanceThread] = []
        #: every thread that was started and may not have ended yet
        self._threads: set[_InstanceThread] = set()
        #: why an instance can not execute anything any more, and who is to be told
        self._broken: str | None = None
        self._watcher: Callable[[str], object] | None = None

    def prepare(self, wanted: Sequence[Wanted]) -> InstanceChange:
        with self._lock:
            running = list(self._running)
        plan = plan_instances([thread.wanted for thread in running], wanted)
        warm_up = None if self._warmup is None else partial(self._warmup.run, self._core)
        made = [
            _InstanceThread(self._backend, want, want.enter(self._core), warm_up, self._nice, self._give_up)
            for want in plan.make
        ]
        change = _PythonChange(self, [running[index] for index in plan.keep], made)
        try:
            for thread in made:
                thread.start()  # the system may have no more of them
                with self._lock:
                    self._threads = {each for each in self._threads if each.is_alive()} | {thread}
            for thread in made:
                thread.wait_made()
        except BaseException:
            change.discard()
            with self._lock:
                self._threads.difference_update(made)  # which know this object
            raise
        return change

    def exchange(self, running: list[_InstanceThread]) -> None:
        """Let exactly ``running`` run."""
        with self._lock:
            retired = [thread for thread in self._running if thread not in running]
            self._running = running
        for thread in running:
            thread.go(self._core)
        for thread in retired:
            thread.retire()

    def probes(self) -> list[ReadinessProbe]:
        with self._lock:
            return [thread.probe for thread in self._running if thread.probe is not None]

    def watch(self, broken: Callable[[str], object]) -> None:
        with self._lock:
            self._watcher = broken
            reason = self._broken
        if reason is not None:
            broken(reason)

    def _give_up(self, reason: str) -> None:
        with self._lock:
            if self._broken is not None:
                return
            self._broken = reason
            watcher = self._watcher
        if watcher is not None:
            watcher(reason)

    def join(self) -> None:
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.interrupt()
        for thread in threads:
            thread.join()
        with self._lock:
            # They know this object, and the watcher the model: what these hold goes now, not when cycles are sought.
            self._running, self._threads, self._watcher = [], set(), None


@dataclass(frozen=True)
class _PythonChange:
    instances: PythonInstances
    keep: list[_InstanceThread]
    made: list[_InstanceThread]

    def commit(self) -> None:
        self.instances.exchange([*self.keep, *self.made])

    def discard(self) -> None:
        for thread in self.made:
            thread.abandon()
        for thread in self.made:
            if thread.ident is not None:
                thread.join()
            thread.forget_error()


class _InstanceThread(threading.Thread):
    """The thread that makes one instance, runs it until it is retired or the model is stopped, and closes it.

    A daemon: a model that never returns from a batch must not keep the process from ending.
    """

    def __init__(
        self,
        backend: Backend,
        wanted: Wanted,
        limited: LimitedInstance | None,
        warm_up: Callable[[str, Callable[[Batch], object]], None] | None,
        nice: int,
        give_up: Callable[[str], object],
    ) -> None:
        super().__init__(name=wanted.name, daemon=True)
        self.wanted = wanted
        #: until :meth:`go`; from then on the core keeps it
        self._limited = limited
        self._warm_up = warm_up
        self._nice = nice
        self._give_up = give_up
        self._interrupt: Callable[[], object] | None = None
        self.probe: ReadinessProbe | None = None
        self._backend = backend
        #: from :meth:`go` on; before, the core must not give it anything to keep
        self._core: Instance | None = None
        self._made = threading.Event()
        self._decided = threading.Event()
        self._error: BaseException | None = None

    def wait_made(self) -> None:
        """Block until the instance is made; raise what making it raised."""
        self._made.wait()
        error, self._error = self._error, None
        try:
            if isinstance(error, Exception):
                raise error
            if error is not None:  # SystemExit of a model must not end the server
                raise ModelError(f"instance '{self.name}' raised {type(error).__name__}") from error
        finally:
            del error  # what it holds of the model goes with it

    def forget_error(self) -> None:
        """What making the instance raised, and nobody asks for, knows this object. Requires: it has ended."""
        self._error = None

    def go(self, model: Model) -> None:
        """Let the instance take batches of ``model``, unless it is passive. Idempotent."""
        if self._core is None and not self.wanted.passive:
            self._core = model.add_instance(self.name, self._limited)
            self._limited = None
            self._decided.set()

    def abandon(self) -> None:
        """Let the thread end without having run. Requires: :meth:`go` was not called."""
        self._limited = None
        self._decided.set()

    def retire(self) -> None:
        """Let the thread end once it is done with what it has begun. Requires: :meth:`go` was called."""
        if self._core is None:
            self._decided.set()  # it is passive
        else:
            self._core.retire()

    def interrupt(self) -> None:
        """No batches will come any more. Any thread."""
        self._decided.set()
        if self._interrupt is not None:
            self._interrupt()

    def run(self) -> None:
        try:
            wanted = self.wanted
            instance = self._backend.make_instance(
                InstanceContext(wanted.name, wanted.kind, wanted.device, self._nice, give_up=self._give_up)
            )
            if self._nice:
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), self._nice)
            self._warm(instance)
            self._interrupt = getattr(instance, "interrupt", None)
            hook = getattr(instance, "is_ready", None)
            self.probe = None if hook is None else ReadinessProbe(hook, self.name)
        except BaseException as error:
            self._error = error
            return
        finally:
            self._made.set()
        self._decided.wait()
        try:
            if self._core is not None:
                run = getattr(instance, "run", None)
                if run is None:
                    with counted(self._core):
                        self._core.run(instance.execute, getattr(instance, "any_thread", False))
                else:
                    run(self._core)
        finally:
            if self.probe is not None:
                self.probe.close()
            try:
                instance.close()
            except BaseException:
                _log.exception("closing the instance '%s' failed", self.name)

    def _warm(self, instance: BackendInstance) -> None:
        if self._warm_up is None:
            return
        try:
            self._warm_up(self.name, instance.execute)
        except BaseException:
            with contextlib.suppress(Exception):  # what is told is why it could not be warmed up
                instance.close()
            raise
