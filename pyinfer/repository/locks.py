# SPDX-License-Identifier: Apache-2.0
"""One lock for each model name, to be held several at a time, whose holders never wait for each other. Any thread.

Locks are taken in one order, so that operations alone can not wait in a ring. Code of models can close one: while a
model is loaded, its own code may ask for the load of another and wait for that. Each such question is known here with
the operation that waits for it, and one question of every ring is refused.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from pyinfer.errors import InvalidArgument

__all__ = ["NameLocks"]


class _Operation:
    """Holds names, may want one more, and may have been asked for by the code of a model."""

    __slots__ = ("asking", "held", "refused", "wanted")

    def __init__(self, asking: str) -> None:
        #: the model whose load or unload waits for this operation; "" where none does
        self.asking = asking
        self.held: list[str] = []
        self.wanted = ""
        self.refused = False


class NameLocks:
    """Locks that exist while somebody holds them, so that names do not add up."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._holders: dict[str, _Operation] = {}
        #: what the code of models asks for, and waits for
        self._asked: set[_Operation] = set()

    @contextmanager
    def hold(self, names: Collection[str], asking: str = "") -> Iterator[None]:
        """Hold the locks of all ``names``.

        ``asking``: the model of which code waits for this while the model itself is loaded or unloaded. Raises
        InvalidArgument where that would wait for ever, because what is waited for waits for that model in turn.
        """
        operation = _Operation(asking)
        try:
            with self._changed:
                if asking:
                    self._asked.add(operation)
                for name in sorted(names):
                    self._take(name, operation)
            yield
        finally:
            with self._changed:
                for name in operation.held:
                    del self._holders[name]
                self._asked.discard(operation)
                self._changed.notify_all()

    def _take(self, name: str, operation: _Operation) -> None:
        operation.wanted = name
        while name in self._holders:
            self._refuse_one(operation)
            if operation.refused:
                raise InvalidArgument(
                    f"model '{operation.asking}' would wait for ever for model '{name}', which is being loaded or "
                    f"unloaded and waits for '{operation.asking}'"
                )
            self._changed.wait()
        operation.wanted = ""
        operation.held.append(name)
        self._holders[name] = operation

    def _refuse_one(self, operation: _Operation) -> None:
        """Where ``operation`` is part of a ring, refuse a question in it that waits: its own, or the next one."""
        ring = self._path(operation, operation, set())
        if ring:
            # Locks alone close none: one of its questions waits for a lock.
            next(each for each in ring if each.asking and each.wanted).refused = True
            self._changed.notify_all()

    def _path(self, at: _Operation, end: _Operation, seen: set[_Operation]) -> list[_Operation]:
        """The operations from ``at`` to ``end``, each waiting for the next; none where it does not wait for that."""
        for following in self._waits_for(at):
            if following is end:
                return [at]
            if following not in seen:
                seen.add(following)
                if path := self._path(following, end, seen):
                    return [at, *path]
        return []

    def _waits_for(self, operation: _Operation) -> Iterator[_Operation]:
        if operation.wanted in self._holders:
            yield self._holders[operation.wanted]
        for question in self._asked:
            if self._holders.get(question.asking) is operation and not question.refused:
                yield question
