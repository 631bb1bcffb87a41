# SPDX-License-Identifier: Apache-2.0
"""Metrics that models make: ``pb_utils.MetricFamily`` and what it holds, in the server and in a worker process.

Making one is a step of the server (:class:`MetricSource`); to count is one atomic operation on memory, wherever the
model runs. Any thread.
"""

from __future__ import annotations

import math
import threading
import time
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol

from pyinfer.backends.python._objects import TritonModelException
from pyinfer.backends.python.metric_registry import MetricKind, MetricMemory, RegisteredFamily, register

if TYPE_CHECKING:
    from pyinfer._core import SharedValues

__all__ = ["Metric", "MetricFamily", "MetricKind", "MetricSource", "SourceFamily", "SourceMetric", "failed", "use"]


class SourceMetric(Protocol):
    """Where the numbers of a metric are, for as long as this is held; see ``metric_registry.RegisteredMetric``."""

    values: SharedValues
    first: int
    bounds: tuple[float, ...]


class SourceFamily(Protocol):
    """A family, on the page for as long as this is held."""

    def place(self, labels: Mapping[str, object], bounds: Sequence[float]) -> SourceMetric:
        """Raises ValueError with the reason why not."""


class MetricSource(Protocol):
    """What makes metrics."""

    def family(self, name: str, text: str, kind: MetricKind) -> SourceFamily:
        """Raises ValueError with the reason why not."""


class _Local:
    """Metrics of this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._memory: MetricMemory | None = None

    def family(self, name: str, text: str, kind: MetricKind) -> SourceFamily:
        with self._lock:
            if self._memory is None:
                self._memory = MetricMemory()
        return _LocalFamily(register(name, text, kind), self._memory)


class _LocalFamily:
    def __init__(self, family: RegisteredFamily, memory: MetricMemory) -> None:
        self._family = family
        self._memory = memory

    def place(self, labels: Mapping[str, object], bounds: Sequence[float]) -> SourceMetric:
        return self._family.metric(labels, bounds, self._memory)


_source: MetricSource = _Local()


def use(source: MetricSource) -> None:
    """Let the models of this process make their metrics by ``source``."""
    global _source
    _source = source


def failed(what: str, why: str) -> TritonModelException:
    """The error of a step that the server refuses, in the words that models know: a thread is named by its instance."""
    return TritonModelException(
        f"{what}: Failed to process the request for model '{threading.current_thread().name}', message: {why}"
    )


class MetricFamily:
    """Metrics of one name. Hold it as long as its metrics are used."""

    COUNTER: ClassVar[MetricKind] = MetricKind.COUNTER
    GAUGE: ClassVar[MetricKind] = MetricKind.GAUGE
    HISTOGRAM: ClassVar[MetricKind] = MetricKind.HISTOGRAM

    def __init__(self, name: str, description: str, kind: MetricKind) -> None:
        """Raises TritonModelException for a name that Prometheus does not take or that has another kind elsewhere."""
        self._kind = MetricKind(kind)
        try:
            self._family = _source.family(name, description, self._kind)
        except ValueError as error:
            raise failed("Error when creating MetricFamily", str(error)) from None

    def Metric(  # noqa: N802 - the name is Triton's
        self, labels: Mapping[str, str] | None = None, buckets: list[float] | None = None
    ) -> Metric:
        """The metric with these labels; ``buckets`` are the ascending upper bounds of a histogram, and needed there.

        Raises TritonModelException for labels or buckets that can not be.
        """
        if labels is not None and not isinstance(labels, Mapping):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        if buckets is not None and not isinstance(buckets, list):
            raise TritonModelException("Failed to create metric. Buckets must be a list.")
        is_histogram = self._kind is MetricKind.HISTOGRAM
        if is_histogram != (buckets is not None):
            fault = "Missing required buckets." if is_histogram else "Unexpected buckets found."
            raise TritonModelException(f"Failed to create metric. {fault}")
        try:
            place = self._family.place(labels or {}, [float(bound) for bound in buckets or ()])
        except ValueError as error:
            raise failed("Error when creating Metric", str(error)) from None
        return Metric(self, place)


class Metric:
    """One metric of a family."""

    def __init__(self, family: MetricFamily, place: SourceMetric) -> None:
        """Made by :meth:`MetricFamily.Metric`."""
        self._family = weakref.ref(family)
        self._kind = family._kind
        self._place = place
        self._values = place.values
        self._first = place.first

    def increment(self, value: float) -> None:
        """Add ``value``, which must not be negative for a counter."""
        self._check("Failed to increment metric value", "Increment", MetricKind.COUNTER, MetricKind.GAUGE)
        amount = _number(value)
        if self._kind is MetricKind.COUNTER and not amount >= 0:
            raise failed(
                "Failed to increment metric value",
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by non-negative values.",
            )
        self._values.add(self._first, amount)

    def set(self, value: float) -> None:
        """Make ``value`` the value of a gauge."""
        self._check("Failed to set metric value", "Set", MetricKind.GAUGE)
        self._values.set(self._first, _number(value))
        self._values.set(self._first + 1, time.monotonic())

    def observe(self, value: float) -> None:
        """Count ``value`` in a histogram."""
        self._check("Failed to observe metric value", "Observe", MetricKind.HISTOGRAM)
        seen = _number(value)
        bounds = self._place.bounds
        bucket = len(bounds) if math.isnan(seen) else bisect_left(bounds, seen)
        self._values.add(self._first + 1 + bucket, 1.0)
        self._values.add(self._first, seen)

    def value(self) -> float:
        """The value of a counter or a gauge."""
        self._check("Failed to get metric value", "Value", MetricKind.COUNTER, MetricKind.GAUGE)
        return self._values.get(self._first)

    def _check(self, what: str, operation: str, *kinds: MetricKind) -> None:
        if self._family() is None:
            raise TritonModelException(
                f"{what}: Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The "
                "'MetricFamily' object should be deleted AFTER its corresponding 'Metric' objects have been deleted."
            )
        if self._kind not in kinds:
            raise failed(what, f"TRITONSERVER_METRIC_KIND_{self._kind.name} does not support {operation}")


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"the value of a metric must be a number, found type '{type(value).__name__}'")
    return float(value)
