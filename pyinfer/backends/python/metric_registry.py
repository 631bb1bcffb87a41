# SPDX-License-Identifier: Apache-2.0
"""Which metrics models have made, where their numbers are, and the families for the server's page.

A name stands for one family of one kind in the whole server, however many models name it. The numbers of one metric are
a few places in shared memory: that of the server for models that run in it, and one for the workers of each model that
has workers. On the page those with the same labels are one metric. What nobody holds any more leaves the page. Any
thread.
"""

from __future__ import annotations

import math
import re
import threading
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import pairwise

from pyinfer._core import SharedValues
from pyinfer.backends.base import MetricFamily as MetricPageFamily

__all__ = ["Labels", "MetricKind", "MetricMemory", "RegisteredFamily", "RegisteredMetric", "families", "register"]

Labels = tuple[tuple[str, str], ...]

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
#: names of the server's own families begin with these
_RESERVED = ("nv_", "pyinfer_")
_lock = threading.Lock()


class MetricKind(IntEnum):
    """What a metric measures; the names of Prometheus' types."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class MetricMemory:
    """Numbers, and which of them are in use."""

    def __init__(self) -> None:
        """Raises RuntimeError where there is no memory."""
        self.values = SharedValues()
        self._next = 0
        #: how many -> the first ones of those that are free again
        self._free: dict[int, list[int]] = {}
        #: (first, how many) that were let go of, perhaps by a garbage collection that came while the lock was held
        self.returned: deque[tuple[int, int]] = deque()

    def take(self, count: int) -> int:
        """The first of ``count`` numbers, which are 0. Requires: the lock. Raises ValueError where there is no room."""
        while self.returned:
            first, size = self.returned.popleft()
            self._free.setdefault(size, []).append(first)
        if free := self._free.get(count):
            first = free.pop()
        else:
            first = self._next
            if first + count > self.values.count:
                raise ValueError("the model has too many metrics")
            self._next += count
        for index in range(first, first + count):
            self.values.set(index, 0.0)
        return first


class RegisteredMetric:
    """One metric, as far as its numbers are in one memory. Hold it as long as it is used.

    A counter is one number; a gauge two, its value and the time when that was set, in seconds; a histogram the sum of
    what was observed and a count for each bucket and for all above.
    """

    def __init__(self, family: RegisteredFamily, memory: MetricMemory, bounds: Sequence[float]) -> None:
        """Made by :meth:`RegisteredFamily.metric`."""
        self.family = family
        self.bounds = tuple(bounds)
        self.values = memory.values
        self._memory = memory
        self._count = {MetricKind.COUNTER: 1, MetricKind.GAUGE: 2}.get(family.kind, len(self.bounds) + 2)
        self.first = memory.take(self._count)

    def __del__(self) -> None:
        if hasattr(self, "first"):
            self._memory.returned.append((self.first, self._count))

    def number(self, index: int) -> float:
        return self.values.get(self.first + index)


class RegisteredFamily:
    """All metrics of one name. Hold it, or one of its metrics, as long as it is to be on the page."""

    def __init__(self, name: str, text: str, kind: MetricKind) -> None:
        """Made by :func:`register`."""
        self.name, self.text, self.kind = name, text, kind
        self.metrics: weakref.WeakValueDictionary[tuple[Labels, int], RegisteredMetric] = weakref.WeakValueDictionary()

    def metric(self, labels: Mapping[str, object], bounds: Sequence[float], memory: MetricMemory) -> RegisteredMetric:
        """The metric with these labels in that memory. ``bounds``: of the buckets, where it is a histogram.

        Raises ValueError for labels or buckets that can not be.
        """
        pairs: list[tuple[str, str]] = []
        for name, value in labels.items():
            if not _is_text(value):
                raise ValueError("attempt to access JSON non-string as string")
            if not _LABEL_NAME.fullmatch(name) or (self.kind is MetricKind.HISTOGRAM and name == "le"):
                raise ValueError("Invalid label name")
            pairs.append((name, str(value)))
        if any(not lower < upper for lower, upper in pairwise(bounds)):
            raise ValueError("Bucket Boundaries must be strictly sorted")
        key = tuple(sorted(pairs)), id(memory)
        with _lock:
            found = self.metrics.get(key)
            if found is None:
                found = self.metrics[key] = RegisteredMetric(self, memory, bounds)
            return found


_families: weakref.WeakValueDictionary[str, RegisteredFamily] = weakref.WeakValueDictionary()


def register(name: str, text: str, kind: MetricKind) -> RegisteredFamily:
    """The family ``name``. Raises ValueError for a name that Prometheus does not take or that has another kind."""
    if not _METRIC_NAME.fullmatch(name):
        raise ValueError("Invalid metric name")
    if not _is_text(text):
        raise ValueError("the description of a metric must be text that UTF-8 has")
    if name.startswith(_RESERVED):
        raise ValueError(f"names that begin with {' or '.join(_RESERVED)} are the server's own")
    with _lock:
        found = _families.get(name)
        if found is None:
            found = _families[name] = RegisteredFamily(name, text, kind)
        elif found.kind is not kind:
            raise ValueError("Family name already exists with different type")
        return found


def _is_text(value: object) -> bool:
    """Whether the page can show it: a lone surrogate is no character."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def families() -> list[MetricPageFamily]:
    """What models have made, for the page of metrics."""
    with _lock:
        known = [(family, list(family.metrics.items())) for family in _families.values()]
    known.sort(key=lambda entry: entry[0].name)
    return [_shown(family, metrics) for family, metrics in known]


def _shown(
    family: RegisteredFamily, metrics: Sequence[tuple[tuple[Labels, int], RegisteredMetric]]
) -> MetricPageFamily:
    by_labels: dict[Labels, list[RegisteredMetric]] = {}
    for (labels, _), metric in metrics:
        by_labels.setdefault(labels, []).append(metric)
    samples: list[tuple[str, Sequence[tuple[str, str]], float]] = []
    for labels, parts in sorted(by_labels.items()):
        if family.kind is MetricKind.HISTOGRAM:
            samples += _buckets(labels, parts)
        else:
            samples.append(("", labels, _gauge(parts) if family.kind is MetricKind.GAUGE else _sum(parts)))
    if family.kind is MetricKind.COUNTER:
        return "counter", family.name, family.text, samples
    return ("gauge" if family.kind is MetricKind.GAUGE else "histogram"), family.name, family.text, samples


def _sum(parts: Sequence[RegisteredMetric]) -> float:
    return sum(part.number(0) for part in parts)  # whatever models have written there: it does not raise


def _gauge(parts: Sequence[RegisteredMetric]) -> float:
    """What was set last; the sum of all increments where nothing was."""
    last = max(parts, key=lambda part: part.number(1))
    return last.number(0) if last.number(1) > 0 else _sum(parts)


def _buckets(labels: Labels, parts: Sequence[RegisteredMetric]) -> list[tuple[str, Sequence[tuple[str, str]], float]]:
    bounds = parts[0].bounds
    alike = [part for part in parts if part.bounds == bounds]
    samples: list[tuple[str, Sequence[tuple[str, str]], float]] = []
    total = 0.0
    for index, bound in enumerate((*bounds, math.inf)):
        total += sum(part.number(1 + index) for part in alike)
        samples.append(("_bucket", (*labels, ("le", _bound_text(bound))), total))
    return [*samples, ("_sum", labels, _sum(alike)), ("_count", labels, total)]


def _bound_text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound).removesuffix(".0")
