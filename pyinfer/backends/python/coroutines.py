# SPDX-License-Identifier: Apache-2.0
"""Event loops for models with ``async def execute``.

A model that is not decoupled answers with what ``execute`` returns: its instance runs an event loop of its own until
the batch is done (:class:`OwnLoop`). A decoupled model goes on by itself: its instances share one loop, on a thread,
and take further batches while earlier ones wait (:class:`LoopThread`).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future, wait
from typing import Any

__all__ = ["LoopThread", "OwnLoop"]


class OwnLoop:
    """The event loop of one instance. The instance's thread only."""

    def __init__(self, execute: Callable[[list[Any]], Awaitable[object]]) -> None:
        self._execute = execute
        self._loop = asyncio.new_event_loop()

    def run(self, requests: list[Any]) -> object:
        """What ``execute`` returns, or raises."""
        return self._loop.run_until_complete(self._execute(requests))

    def close(self) -> None:
        _cancel_all(self._loop)
        self._loop.close()
        del self._execute


class LoopThread:
    """A loop that all instances of one model share; its thread starts with the first task. Any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._running: set[Future[None]] = set()

    def start(self, task: Coroutine[Any, Any, None]) -> None:
        """Run ``task``, which raises nothing, on the loop."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=f"{self._name}-loop", daemon=True)
                self._thread.start()
            future = asyncio.run_coroutine_threadsafe(task, self._loop)
            self._running.add(future)
        future.add_done_callback(self._forget)

    def wait_idle(self) -> None:
        """Block until the tasks that were started by now are done."""
        with self._lock:
            running = set(self._running)
        wait(running)

    def close(self) -> None:
        """End the thread; what still runs is cancelled."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is None or thread is None:
            return
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        _cancel_all(loop)
        loop.close()

    def _forget(self, future: Future[None]) -> None:
        with self._lock:
            self._running.discard(future)


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    """Let the tasks that are left on ``loop`` see that they are cancelled. Requires: it does not run."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
