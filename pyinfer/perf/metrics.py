# SPDX-License-Identifier: Apache-2.0
"""Gauges of a server's metrics page, read again and again while it is loaded."""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType

from pyinfer.errors import Unavailable

__all__ = ["GPU_COLUMNS", "MetricsReader", "Samples", "gpu_cells", "metrics_lines", "read_gauges"]

#: (name, labels as they stand on the page) -> values in the order in which they were read
Samples = Mapping[tuple[str, str], Sequence[float]]

_TIMEOUT_S = 5.0
_NAMES = (
    "nv_gpu_utilization",
    "nv_gpu_power_usage",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
    "nv_cpu_utilization",
    "nv_cpu_memory_used_bytes",
    "nv_inference_pending_request_count",
)
_LINE = re.compile(rf"^({'|'.join(_NAMES)})(?:\{{(.*)\}})? +(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)", re.MULTILINE)
_UUID = re.compile(r'gpu_uuid="([^"]*)"')
#: perf_analyzer's column -> the gauge, and whether its average or its maximum
GPU_COLUMNS = {
    "Avg GPU Utilization": ("nv_gpu_utilization", False),
    "Avg GPU Power Usage": ("nv_gpu_power_usage", False),
    "Max GPU Memory Usage": ("nv_gpu_memory_used_bytes", True),
    "Total GPU Memory": ("nv_gpu_memory_total_bytes", True),
}


def read_gauges(page: str) -> dict[tuple[str, str], float]:
    """Those that count, out of a page in Prometheus' text format."""
    return {(name, labels): float(text) for name, labels, text in _LINE.findall(page)}


class MetricsReader:
    """Reads a page every ``interval_ms`` on a thread of its own; use as a context manager.

    Raises Unavailable on entry, where the page can not be read or has none of the gauges.
    """

    def __init__(self, url: str, interval_ms: int) -> None:
        self._url = url if "://" in url else f"http://{url}"
        self._interval_s = interval_ms / 1e3
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._samples: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> MetricsReader:
        try:
            gauges = read_gauges(self._page())
        except (OSError, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise Unavailable(f"--metrics-url: {self._url} can not be read: {reason}") from None
        if not gauges:
            raise Unavailable(f"--metrics-url: {self._url} has none of {', '.join(_NAMES)}")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()

    def take(self) -> Samples:
        """What was read since the last time."""
        with self._lock:
            taken = dict(self._samples)
            self._samples.clear()
        return taken

    def _run(self) -> None:
        while True:
            try:
                gauges = read_gauges(self._page())
            except (OSError, ValueError):  # the requests of the load tell what is wrong
                gauges = {}
            with self._lock:
                for key, value in gauges.items():
                    self._samples[key].append(value)
            if self._end.wait(self._interval_s):
                return

    def _page(self) -> str:
        with urllib.request.urlopen(self._url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http, or what the user says
            text: str = answer.read().decode("utf-8", "replace")
        return text


def gpu_cells(samples: Samples) -> list[str]:
    """Of perf_analyzer's columns, in order: ``uuid:value;`` for each GPU."""
    return [
        "".join(
            f"{uuid[1]}:{max(values) if highest else sum(values) / len(values):g};"
            for (name, labels), values in sorted(samples.items())
            if name == gauge and values and (uuid := _UUID.search(labels))
        )
        for gauge, highest in GPU_COLUMNS.values()
    ]


def metrics_lines(samples: Samples) -> list[str]:
    """Each gauge that was anything but 0: what it was on average and at most."""
    return [
        f"{name}{f'{{{labels}}}' if labels else ''}: {sum(values) / len(values):g} on average, {max(values):g} at most"
        for (name, labels), values in sorted(samples.items())
        if any(values)
    ]
