# SPDX-License-Identifier: Apache-2.0
"""Asks a model's own code whether it is ready, without letting it hold up whoever asks.

The code may be slow, raise or never return. Each call of it runs on a thread of its own, one at a time for each
instance; who asks meanwhile waits for the same call, and nobody waits longer than :data:`LIMIT_S` after its start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable

__all__ = ["LIMIT_S", "ReadinessProbe", "all_ready"]

_log = logging.getLogger(__name__)

#: seconds after which an instance that has not answered is not ready
LIMIT_S = 5.0


class ReadinessProbe:
    """The question to one instance. Any thread."""

    def __init__(self, hook: Callable[[], bool], name: str, *, limit_s: float = LIMIT_S) -> None:
        """``hook`` answers for the instance ``name``; where it raises, or is late, the answer is no."""
        self._hook = hook
        self._name = name
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._call: _Call | None = None
        self._closed = False
        self._ready = True

    def begin(self) -> Callable[[], bool]:
        """Start a call, unless one is running; the returned function waits for its answer. Does not block."""
        with self._lock:
            if self._closed:
                return lambda: False
            if self._call is None or self._call.ended.is_set():
                self._call = _Call(self._hook, self._name, self._limit_s)
                self._call.start()
            call = self._call
        return lambda: self._answer(call)

    def close(self) -> None:
        """Ask no more, and wait until a running call has ended, but not longer than it may take."""
        with self._lock:
            self._closed = True
            call = self._call
        if call is not None:
            call.wait()

    def _answer(self, call: _Call) -> bool:
        fault = call.wait()
        ready = fault is None
        with self._lock:
            changed, self._ready = self._ready != ready, ready
        if changed and not self._closed:  # a prober asks every few seconds; only what is new is worth a line
            if ready:
                _log.info("instance '%s' is ready again", self._name)
            else:
                _log.warning("instance '%s' is not ready: %s", self._name, fault)
        return ready


class _Call(threading.Thread):
    """One call of the hook. A daemon: it may never return."""

    def __init__(self, hook: Callable[[], bool], name: str, limit_s: float) -> None:
        super().__init__(name=f"ready-{name}", daemon=True)
        self._hook = hook
        self._limit_s = limit_s
        self._until = time.monotonic() + limit_s
        self._fault: str | None = None
        self.ended = threading.Event()

    def run(self) -> None:
        try:
            if not self._hook():
                self._fault = "is_ready said so"
        except BaseException as error:
            self._fault = f"is_ready raised {type(error).__name__}"
            _log.debug("the readiness hook of '%s' failed", self.name, exc_info=error)
        finally:
            self.ended.set()

    def wait(self) -> str | None:
        """Why the instance is not ready; None where it is."""
        if self.ended.wait(max(0.0, self._until - time.monotonic())):
            return self._fault
        return f"is_ready did not return within {self._limit_s:g} s"


def all_ready(probes: Iterable[ReadinessProbe]) -> bool:
    """Whether all say yes. All are asked at the same time, so that this takes no longer than the slowest of them."""
    return all(answer() for answer in [probe.begin() for probe in probes])
