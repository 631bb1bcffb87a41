# SPDX-License-Identifier: Apache-2.0
"""Metrics that models make: ``pb_utils.MetricFamily`` and what it holds, and the families for the server's page.

A name stands for one family of one kind in the whole process, however many models name it; metrics of one family with
the same labels are one metric. What nobody holds any more leaves the page. Any thread.
"""

from __future__ import annotations

import math
import re
import threading
import weakref
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar

from pyinfer.backends.base import MetricFamily as MetricPageFamily
from pyinfer.backends.python._objects import TritonModelException

__all__ = ["Metric", "MetricFamily", "MetricKind", "families", "refuse"]

_Labels = tuple[tuple[str, str], ...]

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL_NAME = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")
#: names of the server's own families begin with these
_RESERVED = ("nv_", "pyinfer_")
_lock = threading.Lock()
#: why there can be none in this process
_refusal = ""


def refuse(reason: str) -> None:
    """Let every MetricFamily of this process fail, because ``reason``."""
    global _refusal
    _refusal = reason


class MetricKind(IntEnum):
    """What a metric measures; the names of Prometheus' types."""

    COUNTER = 0
    GAUGE = 1
    HISTOGRAM = 2


class _Value:
    """One line of the page, or the lines of one histogram. All access with the lock held."""

    def __init__(self, buckets: Sequence[float] = ()) -> None:
        self.value = 0.0
        #: upper bounds, and observations in each bucket and above all
        self.bounds = tuple(buckets)
        self.counts = [0] * (len(self.bounds) + 1)


class _Shared:
    """What all MetricFamily objects of one name have in common."""

    def __init__(self, name: str, text: str, kind: MetricKind) -> None:
        self.name, self.text, self.kind = name, text, kind
        self.values: weakref.WeakValueDictionary[_Labels, _Value] = weakref.WeakValueDictionary()


_shared: weakref.WeakValueDictionary[str, _Shared] = weakref.WeakValueDictionary()


def _failed(what: str, why: str) -> TritonModelException:
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
        if _refusal:
            raise TritonModelException(_refusal)
        what = "Error when creating MetricFamily"
        if not _METRIC_NAME.fullmatch(name):
            raise _failed(what, "Invalid metric name")
        if name.startswith(_RESERVED):
            raise _failed(what, f"names that begin with {' or '.join(_RESERVED)} are the server's own")
        with _lock:
            found = _shared.get(name)
            if found is None:
                found = _shared[name] = _Shared(name, description, MetricKind(kind))
            elif found.kind != kind:
                raise _failed(what, "Family name already exists with different type")
            self._shared = found

    def Metric(  # noqa: N802 - the name is Triton's
        self, labels: Mapping[str, str] | None = None, buckets: Sequence[float] | None = None
    ) -> Metric:
        """The metric with these labels; ``buckets`` are the ascending upper bounds of a histogram, and needed there.

        Raises TritonModelException for labels or buckets that can not be.
        """
        if labels is not None and not isinstance(labels, Mapping):
            raise TritonModelException("Failed to create metric. Labels must be a dictionary.")
        is_histogram = self._shared.kind is MetricKind.HISTOGRAM
        if is_histogram != (buckets is not None):
            fault = "Missing required buckets." if is_histogram else "Unexpected buckets found."
            raise TritonModelException(f"Failed to create metric. {fault}")
        what = "Error when creating Metric"
        pairs = tuple((labels or {}).items())
        for name, value in pairs:
            if not isinstance(value, str):
                raise _failed(what, "attempt to access JSON non-string as string")
            if not _LABEL_NAME.fullmatch(name) or (is_histogram and name == "le"):
                raise _failed(what, "Invalid label name")
        bounds = [float(bound) for bound in buckets or ()]
        if any(not lower < upper for lower, upper in pairwise(bounds)):
            raise _failed(what, "Bucket Boundaries must be strictly sorted")
        return Metric(self, tuple(sorted(pairs)), bounds)


class Metric:
    """One metric of a family."""

    def __init__(self, family: MetricFamily, labels: _Labels, buckets: Sequence[float]) -> None:
        """Made by :meth:`MetricFamily.Metric`."""
        self._family = weakref.ref(family)
        self._kind = family._shared.kind
        with _lock:
            value = family._shared.values.get(labels)
            if value is None:
                value = family._shared.values[labels] = _Value(buckets)
            self._value = value
            # the family stays on the page as long as one of its metrics does
            self._shared = family._shared

    def increment(self, value: float) -> None:
        """Add ``value``, which must not be negative for a counter."""
        self._check("Failed to increment metric value", "Increment", MetricKind.COUNTER, MetricKind.GAUGE)
        amount = _number(value)
        if self._kind is MetricKind.COUNTER and not amount >= 0:
            raise _failed(
                "Failed to increment metric value",
                "TRITONSERVER_METRIC_KIND_COUNTER can only be incremented monotonically by non-negative values.",
            )
        with _lock:
            self._value.value += amount

    def set(self, value: float) -> None:
        """Make ``value`` the value of a gauge."""
        self._check("Failed to set metric value", "Set", MetricKind.GAUGE)
        with _lock:
            self._value.value = _number(value)

    def observe(self, value: float) -> None:
        """Count ``value`` in a histogram."""
        self._check("Failed to observe metric value", "Observe", MetricKind.HISTOGRAM)
        seen = _number(value)
        with _lock:
            place = len(self._value.bounds) if math.isnan(seen) else bisect_left(self._value.bounds, seen)
            self._value.counts[place] += 1
            self._value.value += seen

    def value(self) -> float:
        """The value of a counter or a gauge."""
        self._check("Failed to get metric value", "Value", MetricKind.COUNTER, MetricKind.GAUGE)
        with _lock:
            return self._value.value

    def _check(self, what: str, operation: str, *kinds: MetricKind) -> None:
        if self._family() is None:
            raise TritonModelException(
                f"{what}: Invalid metric operation as the corresponding 'MetricFamily' has been deleted. The "
                "'MetricFamily' object should be deleted AFTER its corresponding 'Metric' objects have been deleted."
            )
        if self._kind not in kinds:
            raise _failed(what, f"TRITONSERVER_METRIC_KIND_{self._kind.name} does not support {operation}")


def _number(value: object) -> float:
    if not isinstance(value, (int, float)):
        raise TypeError(f"the value of a metric must be a number, found type '{type(value).__name__}'")
    return float(value)


def families() -> list[MetricPageFamily]:
    """What models have made, for the page of metrics."""
    with _lock:
        known = sorted(_shared.values(), key=lambda shared: shared.name)
        return [_family(shared) for shared in known]


def _family(shared: _Shared) -> MetricPageFamily:
    samples: list[tuple[str, Sequence[tuple[str, str]], float]] = []
    for labels, value in sorted(shared.values.items()):
        if shared.kind is not MetricKind.HISTOGRAM:
            samples.append(("", labels, value.value))
            continue
        total = 0
        for bound, count in zip((*value.bounds, math.inf), value.counts, strict=True):
            total += count
            samples.append(("_bucket", (*labels, ("le", _bound_text(bound))), total))
        samples += [("_sum", labels, value.value), ("_count", labels, total)]
    if shared.kind is MetricKind.COUNTER:
        return "counter", shared.name, shared.text, samples
    return ("gauge" if shared.kind is MetricKind.GAUGE else "histogram"), shared.name, shared.text, samples


def _bound_text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound).removesuffix(".0")
