# SPDX-License-Identifier: Apache-2.0
"""Looks after the worker processes of one instance, one after the other, on a thread of its own.

A worker is killed with its process group, and before its end is known to the system's tables: a number is never used
for another process by mistake. The thread lives as long as its workers, which end when it does.
"""

from __future__ import annotations

import itertools
import logging
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswerInTime  # of Python 3.10
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfer._core import WorkerHost, WorkerLanes
from pyinfer.backends.python.channel import Channel, close_all
from pyinfer.backends.python.launch import launch
from pyinfer.backends.python.questions import ModelServices, Questions
from pyinfer.errors import ModelError

__all__ = ["Plan", "Supervisor", "ask_once", "tell_log_level"]

_log = logging.getLogger("pyinfer.backends.python")

#: workers in a row that ended without having executed a batch; then the model is given up
_MOST_FAILURES = 5
#: one that was ready for so long is no part of a row
_STABLE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.1, 5.0
#: how long a worker may finalize
_FINALIZE_S = 10.0
#: how often a worker's life is looked at where the system can not tell of its end
_LOOK_S = 0.2
#: the longest answer of :meth:`Supervisor.is_ready`; who asks has a limit of its own
_READY_S = 5.0


@dataclass(frozen=True)
class Plan:
    """What a worker is to do."""

    #: of the instance
    name: str
    #: beside the lines of the log that are wanted when it starts
    wanted: Mapping[str, Any]
    environment: Path | None
    start_limit_s: float


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
        self._ending = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        self._lock = threading.Lock()
        #: the channel to the worker that is ready
        self._channel: Channel | None = None
        self._asks_model = False
        #: those of the worker that is ready, or of the last one that was: its metrics stay until the next one has them
        self._asked: Questions | None = None
        self._questions: dict[int, Future[bool]] = {}
        self._numbers = itertools.count()

    def wait_first(self) -> None:
        """Block until the first worker is ready. Raises ModelError where it is not."""
        self._first.result()

    def end(self) -> None:
        """Start no more workers, and let the thread end with the one that there is."""
        self._ending.set()
        self._host.close("UNAVAILABLE", f"the model instance '{self._plan.name}' is being unloaded")
        with self._lock:
            if self._wake_writer >= 0:
                os.write(self._wake_writer, b"x")

    def tell_log_level(self, level: int) -> None:
        """Have the worker make the lines of the log from ``level`` on."""
        with self._lock:
            channel = self._channel
        if channel is not None:
            with suppress(OSError):
                channel.send({"do": "log", "level": level})

    def is_ready(self) -> bool:
        """Whether a worker is ready, and the model in it says so."""
        with self._lock:
            if self._channel is None or not self._asks_model:
                return self._channel is not None
            number = next(self._numbers)
            answer = self._questions[number] = Future()
            channel = self._channel
        try:
            channel.send({"do": "ready", "id": number})
            return answer.result(_READY_S)
        except (OSError, TimeoutError, NoAnswerInTime):
            return False
        finally:
            with self._lock:
                self._questions.pop(number, None)

    def run(self) -> None:
        failures, delay = 0, 0.0
        _running.add(self)
        try:
            while not self._ending.wait(delay):
                executed, begun = self._host.executed, time.monotonic()
                reason = self._live()
                if self._ending.is_set():
                    break
                if not self._first.done():
                    self._first.set_exception(ModelError(reason))
                    return
                if self._host.executed != executed or time.monotonic() - begun > _STABLE_S:
                    failures = 0
                failures += 1
                if failures == _MOST_FAILURES:
                    self._abandon(f"{failures} worker processes in a row have ended, the last one: {reason}")
                    return
                delay = 0.0 if failures == 1 else min(_FIRST_DELAY_S * 2 ** (failures - 2), _LONGEST_DELAY_S)
                _log.error("%s; another one is started%s", reason, f" in {delay:g} s" if delay else "")
        except BaseException as error:  # our fault; whoever waits must not wait for ever
            self._abandon(f"the worker process can not be looked after: {type(error).__name__}")
            raise
        finally:
            if not self._first.done():
                self._first.set_exception(ModelError(f"model instance '{self._plan.name}' was not started"))
            self._asked = None
            with self._lock:
                os.close(self._wake_reader)
                os.close(self._wake_writer)
                self._wake_writer = -1

    def _abandon(self, reason: str) -> None:
        _log.error("model instance '%s': %s", self._plan.name, reason)
        self._host.close("UNAVAILABLE", reason)
        self._give_up(reason)

    def _live(self) -> str:
        """The life of one worker; why it has ended."""
        lanes = WorkerLanes()
        try:
            worker = _Worker(self._plan, lanes.fds())
        except (ModelError, OSError) as error:
            return str(error)
        self._host.announce(lanes, worker.pid)
        try:
            return self._attend(worker)
        finally:
            with self._lock:
                self._channel = None
                questions = list(self._questions.values())
            for question in questions:
                if not question.done():
                    question.set_result(False)
            # a second time where all went well; the number of its group is given back behind this
            self._host.end("INTERNAL", "the worker process is not looked after")
            worker.close()

    def _attend(self, worker: _Worker) -> str:
        fault = ""
        asked = Questions(self._services, worker.channel)
        for message, fds in worker.messages(self._wake_reader, self._ending):
            event = message.get("event")
            if event == "ask":
                asked.begin(message, fds)
                continue
            close_all(fds)
            if event == "started":
                self._begin(worker, asked, asks_model=bool(message.get("is_ready")))
            elif event == "calls":
                self._host.serve_calls()
            elif event == "drop":
                asked.drop(message)
            elif event == "failed":
                fault = self._told(str(message.get("error")))
            elif event == "ready":
                self._answer(message)
        with self._lock:
            self._channel = None
        ended = f"the worker process of model instance '{self._plan.name}' {worker.how_it_ended()}"
        self._host.end("INTERNAL", f"{ended} while it executed the request")
        return fault or ended

    def _begin(self, worker: _Worker, asked: Questions, *, asks_model: bool) -> None:
        self._asked = asked
        with self._lock:
            self._channel = worker.channel
            self._asks_model = asks_model
        if worker.log_level != _log_level():
            self.tell_log_level(_log_level())
        self._host.attach()
        if not self._first.done():
            self._first.set_result(None)

    def _answer(self, message: Mapping[str, Any]) -> None:
        number = message.get("id")
        with self._lock:
            question = self._questions.get(number) if isinstance(number, int) else None
        if message.get("fault"):
            _log.debug("is_ready of '%s' raised %s", self._plan.name, message["fault"])
        if question is not None and not question.done():
            question.set_result(message.get("ready") is True)


#: that look after workers now
_running: weakref.WeakSet[Supervisor] = weakref.WeakSet()


def tell_log_level(level: int) -> None:
    """Have all workers make the lines of the log from ``level`` on. Any thread."""
    for supervisor in list(_running):
        supervisor.tell_log_level(level)


def _log_level() -> int:
    """Below which no line of the log is wanted now."""
    return logging.getLogger("pyinfer").getEffectiveLevel()


def ask_once(plan: Plan) -> dict[str, Any]:
    """The answer of a process that is started for one question, and why there is none as ``error``."""
    try:
        worker = _Worker(plan, [])
    except ModelError as error:
        return {"error": str(error)}
    try:
        never = threading.Event()
        last: dict[str, Any] | None = None
        for message, fds in worker.messages(None, never):
            close_all(fds)
            if message.get("event") in ("completed", "failed"):
                last = message
        return last if last is not None else {"error": f"the process that was asked {worker.how_it_ended()}"}
    finally:
        worker.close()


class _Worker:
    """One process. Of the thread that makes it."""

    def __init__(self, plan: Plan, fds: list[int]) -> None:
        """Raises ModelError."""
        self._plan = plan
        #: what it was told when it started
        self.log_level = 0
        self._fds = fds
        self._process, self.channel = launch(plan.environment, plan.name, plan.start_limit_s)
        self._killed_for = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def messages(self, wake: int | None, ending: threading.Event) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """What the process says, until it has ended, and descriptors with it, which are the caller's to close.

        Lines for the log are written. A process that does not say hello in time is killed; so is one that goes on for
        too long once ``ending`` is set, which ``wake`` tells of.
        """
        poll = select.poll()
        watched = self._process.fileno()
        for descriptor in (self.channel.fileno(), watched, wake):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        until = time.monotonic() + self._plan.start_limit_s
        started, seen_ending, open_channel = False, False, True
        while True:
            if ending.is_set() and not seen_ending:
                seen_ending = True
                if wake is not None:
                    poll.unregister(wake)
                until = time.monotonic() + (_FINALIZE_S if started else 0.0)
            left = until - time.monotonic()
            if left <= 0:
                self.kill("did not end in time" if seen_ending else "did not start in time")
                left = until = 1e9
            ready = {descriptor for descriptor, _ in poll.poll(1000 * min(left, _LOOK_S if watched is None else 1e6))}
            if self.channel.fileno() in ready:
                message, fds = self._receive()
                if message is None:
                    poll.unregister(self.channel.fileno())
                    open_channel = False
                elif message.get("event") == "hello":
                    started = True
                    until = until if seen_ending else 1e18
                    close_all(fds)
                    self.log_level = _log_level()
                    with suppress(OSError):  # it has ended meanwhile, which is seen below
                        self.channel.send({**self._plan.wanted, "log_level": self.log_level}, self._fds)
                else:
                    yield message, fds
            elif self._process.ended() is not None:
                return
            if not open_channel and self._process.ended() is None and until > 1e17:
                until = time.monotonic() + 1.0  # it has closed its end, and has no reason to live on

    def kill(self, why: str) -> None:
        self._killed_for = self._killed_for or why
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def how_it_ended(self) -> str:
        """``was ended by SIGSEGV`` and its kind. Requires: it has ended."""
        return self._killed_for or self._process.ended() or "has ended"

    def close(self) -> None:
        """End what is left of it and its children, and forget it."""
        self.kill("was not needed any more")
        self._process.close()
        self.channel.close()

    def _receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        try:
            message, fds = self.channel.receive()
        except (OSError, ValueError) as error:
            if not isinstance(error, OSError):
                self.kill("said what makes no sense")
            return None, []
        if message is not None and message.get("event") == "log":
            name = str(message.get("logger"))
            logger = logging.getLogger(name if name.startswith("pyinfer.") else "pyinfer.model")
            level = message.get("level")
            logger.log(level if isinstance(level, int) else logging.ERROR, "%s", message.get("text"))
            return {}, fds
        return message, fds
