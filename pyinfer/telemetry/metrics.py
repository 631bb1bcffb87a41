# SPDX-License-Identifier: Apache-2.0
"""The page of metrics: the core writes it; the machine's gauges and our own counters are read here.

A scrape reads counters; between scrapes nothing happens, and no request pays for a metric. Which models there are is
handed in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence

from pyinfer._core import MetricModel, metrics_page
from pyinfer.telemetry.cpu import CpuGauges
from pyinfer.telemetry.families import Family, Polled, gauge
from pyinfer.telemetry.gpu import GpuGauges

__all__ = ["CONTENT_TYPE", "Metrics", "machine_families"]

#: the media type of :meth:`Metrics.render`
CONTENT_TYPE = "text/plain; charset=utf-8"


def machine_families(
    *, cpu: bool = True, gpu: bool = True, interval_ms: int = 2000
) -> list[Callable[[], list[Family]]]:
    """What tells of the machine, in the order in which Triton shows it; read at most once in ``interval_ms``."""
    readers: list[Callable[[], list[Family]]] = [_pinned_memory]
    if gpu:
        readers.append(Polled(GpuGauges().read, interval_ms / 1000))
    if cpu:
        readers.append(Polled(CpuGauges().read, interval_ms / 1000))
    return readers


def _pinned_memory() -> list[Family]:
    # There is no such pool in this version.
    return [
        gauge("nv_pinned_memory_pool_total_bytes", "Pinned memory pool total memory size, in bytes", 0),
        gauge("nv_pinned_memory_pool_used_bytes", "Pinned memory pool used memory size, in bytes", 0),
    ]


class _Page:
    """One page, which all get who asked for it before it was begun."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text: bytes | None = None


class Metrics:
    """The metrics of one server. Any thread."""

    def __init__(
        self,
        models: Callable[[], Iterable[MetricModel]],
        families: Sequence[Callable[[], list[Family]]] = (),
        *,
        latency_counters: bool = True,
    ) -> None:
        """``models`` and ``families`` are called for each page."""
        self._models = models
        self._families = families
        self._polled = [read for read in families if isinstance(read, Polled)]
        self._latency_counters = latency_counters
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._next: _Page | None = None

    def may_wait(self) -> bool:
        """Whether the next page waits for another one, or for what the machine tells. Does not block."""
        return self._writing.locked() or any(read.due() for read in self._polled)

    def render(self) -> bytes:
        """The page, not older than the call, in the text format, UTF-8; its media type is ``CONTENT_TYPE``.

        One page is written at a time, so that many who ask cost no more than two.
        """
        with self._lock:
            page = self._next = self._next or _Page()
        with self._writing:
            with self._lock:
                if self._next is page:
                    self._next = None
            if page.text is None:
                page.text = self._write()
            return page.text

    def _write(self) -> bytes:
        families = [family for read in self._families for family in read()]
        return metrics_page(list(self._models()), families, latency_counters=self._latency_counters)
