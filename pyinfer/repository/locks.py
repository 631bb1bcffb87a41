# SPDX-License-Identifier: Apache-2.0
"""One lock for each model name, to be held several at a time. Any thread."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager

__all__ = ["NameLocks"]


class NameLocks:
    """Locks that exist while somebody wants them, so that names do not add up."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._users: dict[str, int] = {}

    @contextmanager
    def hold(self, names: Collection[str]) -> Iterator[None]:
        """Hold the locks of all ``names``. Taken in one order, so that two holders never wait for each other."""
        with ExitStack() as stack:
            for name in sorted(names):
                stack.enter_context(self._one(name))
            yield

    @contextmanager
    def _one(self, name: str) -> Iterator[None]:
        with self._guard:
            lock = self._locks.setdefault(name, threading.Lock())
            self._users[name] = self._users.get(name, 0) + 1
        try:
            with lock:
                yield
        finally:
            with self._guard:
                self._users[name] -= 1
                if self._users[name] == 0:
                    del self._users[name], self._locks[name]
