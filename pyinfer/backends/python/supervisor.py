# SPDX-License-Identifier: Apache-2.0
"""Looks after the worker processes of one instance, on a thread of its own, which ends when the last of them has.

Most of the time there is one. One that dies is replaced by another, ever later, until the model is given up. One that
has more memory than it may is replaced while it goes on: the next one is started, and takes the batches once it is
ready; the first one ends when it has answered all that it has begun.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerInTime  # of Python 3.10
from contextlib import suppress
from typing import Any

from pyinfer._core import WorkerHost, WorkerLanes
from pyinfer.backends.python.channel import Channel, close_all
from pyinfer.backends.python.questions import ModelServices, Questions
from pyinfer.backends.python.running import Plan, RunningWorker, log_level, wait_for
from pyinfer.errors import ModelError

__all__ = ["Supervisor", "tell_log_level"]

_log = logging.getLogger("pyinfer.backends.python")

#: workers in a row that ended without having executed a batch; then the model is given up
_MOST_FAILURES = 5
#: one that was ready for so long is no part of a row
_STABLE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
#: the longest answer of :meth:`Supervisor.is_ready`; who asks has a limit of its own
_READY_S = 5.0
#: how often the memory of a worker is looked at, and whether one that is replaced is done with what it has begun
_MEMORY_S, _IDLE_S = 0.1, 0.02
#: a replacement for want of memory comes no sooner than so many times what the last start took, and so many seconds
_START_SHARE, _LEAST_REPLACEMENT_S, _LONGEST_REPLACEMENT_S = 10.0, 1.0, 600.0
_MIB = 1 << 20


class _Attended:
    """A worker with what the server has for it."""

    def __init__(self, plan: Plan, host: WorkerHost, services: ModelServices) -> None:
        """Raises ModelError and OSError."""
        self.begun = time.monotonic()
        self.executed_before = host.executed
        self._lanes = WorkerLanes()
        self.worker = RunningWorker(plan, [*self._lanes.fds(), host.inputs_fd, host.doorbell_fd])
        self.session = host.announce(self._lanes, self.worker.pid)
        self.asked = Questions(services, self.worker.channel)
        #: what it says of why it could not start, or why it was not wanted
        self.fault = ""
        self.ready_since = math.inf
        self.is_told_to_end = False


class Supervisor(threading.Thread):
    """See the module. Methods from any thread."""

    def __init__(
        self,
        plan: Plan,
        host: WorkerHost,
        services: ModelServices,
        told: Callable[[str], str],
        give_up: Callable[[str], object],
    ) -> None:
        """``told`` makes of a worker's text one for clients; ``give_up`` is told why there will be no worker more."""
        super().__init__(name=f"worker-{plan.name}", daemon=True)
        self._plan = plan
        self._host = host
        self._services = services
        self._told = told
        self._give_up = give_up
        self._first: Future[None] = Future()
        self._no_more = threading.Event()
        self._ending = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._numbers = itertools.count()
        # Of the thread: the worker that executes, the one that is not ready yet, and the one that was replaced.
        self._serving: _Attended | None = None
        self._coming: _Attended | None = None
        self._leaving: _Attended | None = None
        self._failures = 0
        self._start_at = 0.0
        self._replacement_failures = 0
        self._replace_at = 0.0
        #: those of the worker that is ready, or of the last one that was: its metrics stay until the next one has them
        self._asked: Questions | None = None
        self._lock = threading.Lock()
        #: the channel to the worker that is ready
        self._channel: Channel | None = None
        self._asks_model = False
        self._questions: dict[int, tuple[Channel, Future[bool]]] = {}

    def wait_first(self) -> None:
        """Block until the first worker is ready. Raises ModelError where it is not."""
        if (error := self._first.exception()) is not None:
            raise ModelError(str(error))  # another one: what is raised knows this object, which would keep it

    def start_no_more(self) -> None:
        """No batches will come any more but what there is, and no workers."""
        self._no_more.set()
        self._host.close("UNAVAILABLE", f"the model instance '{self._plan.name}' is being unloaded")
        self._wake()

    def end(self) -> None:
        """Let the thread end with the workers that there are, which have nothing more to execute."""
        self._ending.set()
        self.start_no_more()

    def tell_log_level(self, level: int) -> None:
        """Have the worker make the lines of the log from ``level`` on."""
        with self._lock:
            channel = self._channel
        if channel is not None:
            with suppress(OSError):
                channel.send({"do": "log", "level": level})

    def is_ready(self) -> bool:
        """Whether a worker is ready, and the model in it says so."""
        answer: Future[bool] = Future()
        with self._lock:
            channel = self._channel
            if channel is None or not self._asks_model:
                return channel is not None
            number = next(self._numbers)
            self._questions[number] = channel, answer
        try:
            channel.send({"do": "ready", "id": number})
            return answer.result(_READY_S)
        except (OSError, TimeoutError, NoAnswerInTime):
            return False
        finally:
            with self._lock:
                self._questions.pop(number, None)

    def run(self) -> None:
        _running.add(self)
        try:
            while self._present() or not self._no_more.is_set():
                self._look()
        except BaseException as error:  # our fault; whoever waits must not wait for ever
            self._abandon(f"the worker process can not be looked after: {type(error).__name__}")
            raise
        finally:
            for attended in self._present():
                attended.worker.kill("is not looked after")
                self._host.end(attended.session, "INTERNAL", "the worker process is not looked after")
                attended.worker.close()
            if not self._first.done():
                self._first.set_exception(ModelError(f"model instance '{self._plan.name}' was not started"))
            self._asked = None
            with self._lock:
                os.close(self._wake_reader)
                os.close(self._wake_writer)
                self._wake_writer = -1

    def _present(self) -> list[_Attended]:
        return [one for one in (self._serving, self._coming, self._leaving) if one is not None]

    def _look(self) -> None:
        if self._wants_worker(time.monotonic()):
            self._start()
        if self._leaving is not None and not self._leaving.is_told_to_end and self._leaving.session.stop_idle():
            self._leaving.is_told_to_end = True
            self._leaving.worker.is_to_end()
        if self._ending.is_set():
            for attended in self._present():
                attended.worker.is_to_end()
        descriptors = [fd for attended in self._present() for fd in attended.worker.descriptors()]
        ready = wait_for([self._wake_reader, *descriptors], self._patience_s())
        if self._wake_reader in ready:
            os.read(self._wake_reader, 4096)
        for attended in self._present():
            for message, fds in attended.worker.look(ready):
                self._hear(attended, message, fds)
            if attended.worker.is_ended:
                self._bury(attended)

    def _wants_worker(self, now: float) -> bool:
        if self._no_more.is_set() or self._coming is not None or now < self._start_at:
            return False
        return self._serving is None or self._has_too_much_memory(now)

    def _patience_s(self) -> float:
        """Seconds for which nothing has to be done unless somebody says something."""
        limits = [attended.worker.patience_s() for attended in self._present()]
        if self._serving is None and self._coming is None and not self._no_more.is_set():
            limits.append(max(0.0, self._start_at - time.monotonic()))
        if self._serving is not None and self._plan.memory_limit_bytes and self._coming is None:
            limits.append(_MEMORY_S)
        if self._leaving is not None and not self._leaving.is_told_to_end:
            limits.append(_IDLE_S)
        return min(limits, default=math.inf)

    def _start(self) -> None:
        try:
            self._coming = _Attended(self._plan, self._host, self._services)
        except (ModelError, OSError) as error:
            self._note_failure(str(error), None)

    def _hear(self, attended: _Attended, message: Mapping[str, Any], fds: list[int]) -> None:
        event = message.get("event")
        if event == "ask":
            attended.asked.begin(message, fds)
            return
        close_all(fds)
        if event == "started" and attended is self._coming:
            self._begin(attended, asks_model=bool(message.get("is_ready")))
        elif event == "calls":
            attended.session.serve_calls()
        elif event == "drop":
            attended.asked.drop(message)
        elif event == "failed":
            attended.fault = self._told(str(message.get("error")))
        elif event == "ready":
            self._answer(message)

    def _begin(self, attended: _Attended, *, asks_model: bool) -> None:
        """Have it execute from now on, in the place of the one that does, if any."""
        attended.worker.is_initialized()
        limit, memory = self._plan.memory_limit_bytes, attended.worker.memory_bytes()
        if limit and memory > limit and not self._first.done():
            attended.fault = (
                f"the worker process of model instance '{self._plan.name}' has {memory // _MIB} MiB once the model is "
                f"initialized, more than its memory limit of {limit // _MIB} MiB"
            )
            attended.worker.kill("was not needed any more")
            return
        now = time.monotonic()
        attended.ready_since = now
        self._serving, self._coming, self._leaving = attended, None, self._serving
        self._replacement_failures = 0
        self._replace_at = now + max(_LEAST_REPLACEMENT_S, _START_SHARE * (now - attended.begun))
        self._asked = attended.asked
        with self._lock:
            self._channel = attended.worker.channel
            self._asks_model = asks_model
        if attended.worker.log_level != log_level():
            self.tell_log_level(log_level())
        self._host.attach(attended.session)
        if not self._first.done():
            self._first.set_result(None)

    def _has_too_much_memory(self, now: float) -> bool:
        """Whether the worker that executes is to be replaced."""
        limit = self._plan.memory_limit_bytes
        if not limit or self._serving is None or self._leaving is not None or now < self._replace_at:
            return False
        memory = self._serving.worker.memory_bytes()
        if memory <= limit:
            return False
        _log.warning(
            "the worker process of model instance '%s' has %d MiB, its limit is %d MiB; another one takes its place",
            self._plan.name,
            memory // _MIB,
            limit // _MIB,
        )
        return True

    def _bury(self, attended: _Attended) -> None:
        """It has ended: answer what it leaves open, and see to it that there is another one where one is needed."""
        worker = attended.worker
        ended = f"the worker process of model instance '{self._plan.name}' {worker.how_it_ended()}"
        self._host.end(attended.session, "INTERNAL", f"{ended} while it executed the request")
        with self._lock:
            if self._channel is worker.channel:
                self._channel = None
            unanswered = [answer for channel, answer in self._questions.values() if channel is worker.channel]
        for answer in unanswered:
            _set(answer, value=False)
        worker.close()
        reason = attended.fault or ended
        if attended is self._leaving:
            self._leaving = None
            if not ended.endswith("exited with status 0"):
                _log.error("%s, after another one took its place", ended)
        elif attended is self._coming:
            self._coming = None
            self._note_failure(reason, attended)
        else:
            self._serving = None
            if self._coming is None:
                self._note_failure(reason, attended)
            elif not self._no_more.is_set():
                _log.error("%s; another one is started already", reason)

    def _note_failure(self, reason: str, attended: _Attended | None) -> None:
        """A worker that was to execute does not, or not any more."""
        if self._no_more.is_set():
            return
        now = time.monotonic()
        if not self._first.done():
            self._no_more.set()
            self._first.set_exception(ModelError(reason))
        elif self._serving is not None:
            self._replacement_failures += 1
            delay = min(_LEAST_REPLACEMENT_S * 2**self._replacement_failures, _LONGEST_REPLACEMENT_S)
            self._replace_at = now + delay
            _log.error("%s; the one whose place it was to take goes on", reason)
        else:
            if attended is not None and (
                self._host.executed != attended.executed_before or now - attended.ready_since > _STABLE_S
            ):
                self._failures = 0
            self._failures += 1
            if self._failures == _MOST_FAILURES:
                self._abandon(f"{self._failures} worker processes in a row have ended, the last one: {reason}")
                return
            delay = 0.0 if self._failures == 1 else min(_FIRST_DELAY_S * 2 ** (self._failures - 2), _LONGEST_DELAY_S)
            self._start_at = now + delay
            _log.error("%s; another one is started%s", reason, f" in {delay:g} s" if delay else "")

    def _abandon(self, reason: str) -> None:
        self._no_more.set()
        _log.error("model instance '%s': %s", self._plan.name, reason)
        self._host.close("UNAVAILABLE", reason)
        self._give_up(reason)

    def _answer(self, message: Mapping[str, Any]) -> None:
        number = message.get("id")
        with self._lock:
            asked = self._questions.get(number) if isinstance(number, int) else None
        if message.get("fault"):
            _log.debug("is_ready of '%s' raised %s", self._plan.name, message["fault"])
        if asked is not None:
            _set(asked[1], value=message.get("ready") is True)

    def _wake(self) -> None:
        with self._lock:
            if self._wake_writer >= 0:
                os.write(self._wake_writer, b"x")


def _set(answer: Future[bool], *, value: bool) -> None:
    if not answer.done():
        answer.set_result(value)


#: that look after workers now
_running: weakref.WeakSet[Supervisor] = weakref.WeakSet()


def tell_log_level(level: int) -> None:
    """Have all workers make the lines of the log from ``level`` on. Any thread."""
    for supervisor in list(_running):
        supervisor.tell_log_level(level)
