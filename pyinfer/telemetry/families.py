# SPDX-License-Identifier: Apache-2.0
"""Families of metrics that belong to no model, as the core takes them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

__all__ = ["Family", "Polled", "counter", "gauge"]

#: type, name, help text, and samples: a suffix of the name, label pairs and a value
Family: TypeAlias = tuple[
    Literal["counter", "gauge", "histogram"], str, str, Sequence[tuple[str, Sequence[tuple[str, str]], float]]
]


def gauge(name: str, help_text: str, value: float) -> Family:
    """A gauge of one sample without labels."""
    return "gauge", name, help_text, [("", (), value)]


def counter(name: str, help_text: str, value: float) -> Family:
    """A counter of one sample without labels."""
    return "counter", name, help_text, [("", (), value)]


class Polled:
    """Families that are read at most once in an interval, however often they are asked for. Any thread."""

    def __init__(
        self, read: Callable[[], list[Family]], interval_s: float, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._interval = interval_s
        self._now = now
        self._lock = threading.Lock()
        self._families: list[Family] = []
        self._due = -float("inf")

    def due(self) -> bool:
        """Whether the next call reads, which may take its time. Does not block."""
        return self._now() >= self._due

    def __call__(self) -> list[Family]:
        with self._lock:
            now = self._now()
            if now >= self._due:
                self._due = now + self._interval
                self._families = self._read()
            return self._families
