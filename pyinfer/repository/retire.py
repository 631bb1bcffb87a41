# SPDX-License-Identifier: Apache-2.0
"""Drains and frees versions that are not published any more, each on a thread of its own. Any thread."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from pyinfer.repository.states import Served, StateTable

__all__ = ["Retirement"]

_log = logging.getLogger(__name__)

#: how often a version that drains looks whether the server wants to end
_DRAIN_STEP_S = 0.5


class Retirement:
    """The versions that are on their way out."""

    def __init__(self, table: StateTable) -> None:
        """``table`` is told of each version that is gone."""
        self._table = table
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._hurry = threading.Event()

    def add(self, served: Served, after: Iterable[threading.Thread] = ()) -> threading.Thread:
        """Drain and free ``served``; the thread that does it, to be waited for.

        It begins once the threads ``after`` have ended: what an ensemble has begun still reaches its steps' models.
        """
        thread = threading.Thread(
            target=self._drain_and_close,
            args=(served, list(after)),
            name=f"retire-{served.name}-{served.version}",
            daemon=True,
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()
        return thread

    def add_broken(self, served: Served) -> None:
        """Free ``served``, which executes nothing any more: what is queued is answered with an error."""
        thread = threading.Thread(
            target=self._close, args=(served,), name=f"broken-{served.name}-{served.version}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def hurry(self) -> None:
        """From now on what is not drained is answered with an error."""
        self._hurry.set()

    def join(self, until: float, threads: Iterable[threading.Thread] | None = None) -> bool:
        """Wait for ``threads`` (all by default) until that moment of ``time.monotonic``. False where one lives on."""
        with self._lock:
            waited = list(self._threads if threads is None else threads)
        for thread in waited:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in waited)

    def _drain_and_close(self, served: Served, after: list[threading.Thread]) -> None:
        try:
            for thread in after:
                while thread.is_alive() and not self._hurry.is_set():
                    thread.join(_DRAIN_STEP_S)
            while not served.handle.drain(_DRAIN_STEP_S) and not self._hurry.is_set():
                pass
        except Exception:
            _log.exception("draining version %d of '%s' failed", served.version, served.name)
        self._close(served)

    def _close(self, served: Served) -> None:
        try:
            served.handle.close()
            _log.info("successfully unloaded '%s' version %d", served.name, served.version)
        except Exception:
            _log.exception("unloading version %d of '%s' failed", served.version, served.name)
        finally:
            served.lease.release()
            self._table.unloaded(served.model, served.version)
            with self._lock:
                self._threads.discard(threading.current_thread())
