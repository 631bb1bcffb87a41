# SPDX-License-Identifier: Apache-2.0
"""One worker process while it runs: what it says, how much time and memory it takes, and how it ended.

It is killed with its process group, and before its end is known to the system's tables: a number is never used for
another process by mistake.
"""

from __future__ import annotations

import logging
import math
import os
import select
import signal
import time
from collections.abc import Container, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfer.backends.python.channel import close_all
from pyinfer.backends.python.launch import launch
from pyinfer.errors import ModelError

__all__ = ["Plan", "RunningWorker", "ask_once", "log_level", "wait_for"]

#: how often a worker's life is looked at where the system can not tell of its end
_LOOK_S = 0.2
#: how long one may live on that has closed its end of the channel
_SILENT_S = 1.0
_PAGE_BYTES = os.sysconf("SC_PAGESIZE")


@dataclass(frozen=True)
class Plan:
    """What a worker is to do."""

    #: of the instance
    name: str
    #: beside the lines of the log that are wanted when it starts
    wanted: Mapping[str, Any]
    environment: Path | None
    #: seconds for the start of its interpreter
    start_limit_s: float
    #: and for what it then does of the model's before it is ready, or has answered; 0: any time
    initialization_limit_s: float
    #: seconds for ``finalize``; 0: any time
    finalization_limit_s: float = 10.0
    #: one that has more memory is replaced; 0: never
    memory_limit_bytes: int = 0


class RunningWorker:
    """See the module. Of the thread that makes it, whose end is also the worker's."""

    def __init__(self, plan: Plan, fds: list[int]) -> None:
        """Starts one, which is given ``fds`` once it is there; they are the caller's. Raises ModelError."""
        self._plan = plan
        self._fds = fds
        self._process, self.channel = launch(plan.environment, plan.name, plan.start_limit_s)
        self._killed_for = ""
        self._said_hello = False
        self._is_open = True
        self._is_ending = False
        self._until = time.monotonic() + plan.start_limit_s
        self._too_late = "did not start in time"
        #: what it was told when it started
        self.log_level = 0
        self.is_ended = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def descriptors(self) -> list[int]:
        """What can be read from when :meth:`look` has something to do."""
        found = [self.channel.fileno()] if self._is_open else []
        watched = self._process.fileno()
        return found if watched is None else [*found, watched]

    def patience_s(self) -> float:
        """Seconds until :meth:`look` is to be called in any case."""
        left = max(0.0, self._until - time.monotonic())
        return left if self._process.fileno() is not None else min(left, _LOOK_S)

    def look(self, ready: Container[int]) -> Iterator[tuple[dict[str, Any], list[int]]]:
        """What the process says, if the channel is among what is ``ready``, and descriptors, which are the caller's.

        Lines for the log are written. It is killed where its time is over. Once it has ended and all is said,
        ``is_ended`` is true.
        """
        if time.monotonic() >= self._until:
            self.kill(self._too_late)
            self._until = math.inf
        if self._is_open and self.channel.fileno() in ready:
            message, fds = self._receive()
            if message is None:
                self._is_open = False
                if self._until == math.inf:
                    self._limit(_SILENT_S, "closed its channel to the server")
            elif message.get("event") == "hello":
                close_all(fds)
                self._greet()
            else:
                yield message, fds
        elif self._process.ended() is not None:
            self.is_ended = True

    def is_initialized(self) -> None:
        """It is ready: what it does takes as long as it takes."""
        if not self._is_ending:
            self._until = math.inf

    def is_to_end(self) -> None:
        """It was told to end, or is about to be, and has its time for that. One that has not started yet is killed."""
        if not self._is_ending:
            self._is_ending = True
            self._limit(
                (self._plan.finalization_limit_s or math.inf) if self._said_hello else 0.0, "did not end in time"
            )

    def kill(self, why: str) -> None:
        self._killed_for = self._killed_for or why
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def how_it_ended(self) -> str:
        """``was ended by SIGSEGV`` and its kind. Requires: it has ended."""
        return self._killed_for or self._process.ended() or "has ended"

    def memory_bytes(self) -> int:
        """Its resident memory, as ``ps`` has it, without that of its children; 0 where it has ended."""
        with suppress(OSError, IndexError, ValueError):
            return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        return 0

    def close(self) -> None:
        """End what is left of it and its children, and forget it."""
        self.kill("was not needed any more")
        self._process.close()
        self.channel.close()

    def _limit(self, seconds: float, too_late: str) -> None:
        self._until, self._too_late = time.monotonic() + seconds, too_late

    def _greet(self) -> None:
        self._said_hello = True
        if not self._is_ending:
            limit_s = self._plan.initialization_limit_s
            work = "complete the configuration" if self._plan.wanted["do"] == "complete" else "initialize the model"
            self._limit(limit_s or math.inf, f"did not {work} within {limit_s:g} s")
        self.log_level = log_level()
        with suppress(OSError):  # it has ended meanwhile, which is seen later
            self.channel.send({**self._plan.wanted, "log_level": self.log_level}, self._fds)

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


def log_level() -> int:
    """Below which no line of the log is wanted now."""
    return logging.getLogger("pyinfer").getEffectiveLevel()


def ask_once(plan: Plan) -> dict[str, Any]:
    """The answer of a process that is started for one question, and why there is none as ``error``."""
    try:
        worker = RunningWorker(plan, [])
    except ModelError as error:
        return {"error": str(error)}
    last: dict[str, Any] | None = None
    try:
        while not worker.is_ended:
            for message, fds in worker.look(wait_for(worker.descriptors(), worker.patience_s())):
                close_all(fds)
                if message.get("event") in ("completed", "failed"):
                    last = message
        return last if last is not None else {"error": f"the process that was asked {worker.how_it_ended()}"}
    finally:
        worker.close()


def wait_for(descriptors: list[int], seconds: float) -> set[int]:
    """Those of the descriptors that can be read from; blocks until there are some, or the time is over."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    limit_ms = None if seconds == math.inf else math.ceil(1000 * min(seconds, 1e6))
    return {descriptor for descriptor, _ in poll.poll(limit_ms)}
