# SPDX-License-Identifier: Apache-2.0
"""The documented rules of the dynamic batcher in plain Python: what the core is compared with.

Requests are looked at in order of arrival and are never split. Those that may run together are the longest run from the
head whose inputs have one shape and whose rows add up to at most ``max_batch_size``; the head itself always may.
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Options", "Queue", "Waiting"]


@dataclass(frozen=True)
class Options:
    """A model's options; times in nanoseconds."""

    max_batch_size: int = 0
    dynamic: bool = False
    preferred: tuple[int, ...] = ()
    delay: int = 0
    queue_limit: int = 0


@dataclass(frozen=True)
class Waiting:
    """A request in the queue."""

    number: int
    rows: int
    width: int
    arrived: int

    @property
    def counted(self) -> int:
        return max(1, self.rows)


@dataclass
class Queue:
    """The queue of one model, with all its rules."""

    options: Options
    waiting: list[Waiting] = field(default_factory=list)

    def push(self, request: Waiting) -> bool:
        """False where the queue is full."""
        if self.options.queue_limit and len(self.waiting) >= self.options.queue_limit:
            return False
        self.waiting.append(request)
        return True

    def take(self, now: int) -> list[Waiting]:
        """The batch that is ripe, empty where there is none."""
        count = self._ripe(now)
        batch, self.waiting = self.waiting[:count], self.waiting[count:]
        return batch

    def wake_at(self, now: int) -> int | None:
        """When there will be a batch if nothing more comes."""
        if not self.waiting:
            return None
        return now if self._ripe(now) else self.waiting[0].arrived + self.options.delay

    def _together(self) -> list[Waiting]:
        together: list[Waiting] = []
        for request in self.waiting:
            rows = sum(other.counted for other in together) + request.counted
            if together and (rows > self.options.max_batch_size or request.width != together[0].width):
                break
            together.append(request)
        return together

    def _ripe(self, now: int) -> int:
        if not self.waiting:
            return 0
        if not self.options.dynamic or not self.options.max_batch_size:
            return 1
        together = self._together()
        rows = 0
        preferred = 0
        for count, request in enumerate(together, 1):
            rows += request.counted
            if rows in self.options.preferred:
                preferred = count
        expired = self.options.delay > 0 and now - self.waiting[0].arrived >= self.options.delay
        if preferred and not expired:
            return preferred
        can_grow = rows < self.options.max_batch_size and len(together) == len(self.waiting)
        return 0 if self.options.delay and not expired and can_grow else len(together)
