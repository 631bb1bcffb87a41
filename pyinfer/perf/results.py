# SPDX-License-Identifier: Apache-2.0
"""What was measured at one level of load, and when a measurement is stable. Pure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev

from pyinfer._core import LatencyHistogram, LoadWindow
from pyinfer.perf.composing import Readings
from pyinfer.perf.metrics import Samples
from pyinfer.perf.process import ProcessUse
from pyinfer.perf.ratios import student_t
from pyinfer.perf.target import ServerTimes

__all__ = [
    "CONFIDENCE",
    "STABLE_WINDOWS",
    "Measured",
    "Window",
    "client_warnings",
    "is_stable",
    "merged",
    "warnings_of",
]

#: of the intervals that are shown
CONFIDENCE = 0.95
#: windows in a row that have to agree
STABLE_WINDOWS = 3


@dataclass(frozen=True)
class Window:
    """One window of a load: what the client met, and the server's counters before and after it."""

    load: LoadWindow
    before: ServerTimes | None = None
    after: ServerTimes | None = None
    process: ProcessUse | None = None
    batch_size: int = 1
    #: gauges of the server that were read meanwhile
    metrics: Samples = field(default_factory=dict)
    #: of the models that the model calls or is made of, before and after
    composing: tuple[Readings, Readings] = field(default_factory=lambda: ({}, {}))

    @property
    def seconds(self) -> float:
        return max(1e-9, (self.load.ended_ns - self.load.started_ns) / 1e9)

    @property
    def throughput(self) -> float:
        """Inferences a second: requests times their batch size."""
        return self.load.latency.count * self.batch_size / self.seconds

    @property
    def response_throughput(self) -> float:
        """Responses a second, where answers are streams of them."""
        return self.load.streamed.responses / self.seconds

    @property
    def token_throughput(self) -> float:
        """Tokens of output a second, where answers are streams."""
        return self.load.streamed.tokens / self.seconds

    @property
    def server(self) -> ServerTimes | None:
        return self.after.minus(self.before) if self.before and self.after else None

    @property
    def composing_times(self) -> Readings:
        """What came meanwhile, of each model that the model calls or is made of."""
        before, after = self.composing
        return {name: times.minus(before[name]) for name, times in after.items() if name in before}

    def latency_us(self, percentile: int = -1) -> float:
        """The average for -1."""
        latency = self.load.latency
        return (latency.mean_ns if percentile < 0 else latency.percentile(percentile)) / 1e3

    def server_us(self, part: str) -> float:
        """Average time of ``part`` for each request that the server has executed, or answered from its cache."""
        server = self.server
        if server is None:
            return 0.0
        count = server.parts["success"][0]
        return server.parts[part][1] / count / 1e3 if count > 0 else 0.0

    @property
    def client_cpu_us(self) -> float:
        """CPU time of the load for each request that has ended."""
        return self.load.cpu_ns / 1e3 / self._ended

    @property
    def server_cpu_us(self) -> float:
        """CPU time of the server's process for each request that has ended; 0 where it is not looked at."""
        return self.process.cpu_s * 1e6 / self._ended if self.process else 0.0

    @property
    def _ended(self) -> int:
        return max(1, self.load.latency.count + self.load.failed)

    @property
    def send_us(self) -> float:
        return self.load.send_ns / max(1, self.load.latency.count) / 1e3

    @property
    def receive_us(self) -> float:
        return self.load.receive_ns / max(1, self.load.latency.count) / 1e3

    @property
    def client_us(self) -> float:
        """What sending and receiving took. That an answer that is a stream takes its time is the server's doing."""
        return self.send_us + (0.0 if self.load.streamed.responses else self.receive_us)

    @property
    def network_us(self) -> float:
        """What is left of the average latency: the network, and the server outside of the model."""
        parts = ("queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
        accounted = sum(self.server_us(part) for part in parts) + self.client_us
        return max(0.0, self.latency_us() - accounted)


@dataclass(frozen=True)
class Measured:
    """The result of one level: its last stable windows as one. ``kind`` is ``Concurrency`` or ``Request Rate``."""

    kind: str
    value: float
    window: Window
    is_stable: bool
    boundaries_ns: Sequence[int] = field(default_factory=tuple)
    #: those that ``window`` is made of
    windows: Sequence[Window] = field(default_factory=tuple)

    def spread(self, value: Callable[[Window], float]) -> float | None:
        """Half the length of the 95 % confidence interval of a mean over the windows, as a share of the mean.

        None where there are not two windows to tell from.
        """
        values = [value(window) for window in self.windows]
        if len(values) < 2 or fmean(values) <= 0:
            return None
        return float(student_t(len(values) - 1, CONFIDENCE) * stdev(values) / math.sqrt(len(values)) / fmean(values))


def is_stable(windows: Sequence[Window], percent: float, percentile: int) -> bool:
    """Whether the last three agree: neither throughput nor latency differ by more than ``percent``."""
    last = windows[-STABLE_WINDOWS:]
    if len(last) < STABLE_WINDOWS or any(window.load.latency.count == 0 for window in last):
        return False
    series = ([window.throughput for window in last], [window.latency_us(percentile) for window in last])
    return all(max(values) <= min(values) * (1 + percent / 100) for values in series)


def merged(windows: Sequence[Window]) -> Window:
    """Windows that follow each other as one. At least one."""
    load = LoadWindow()
    for window in windows:
        load.merge(window.load)
    uses = [window.process for window in windows if window.process is not None]
    process = ProcessUse(sum(use.cpu_s for use in uses), max(use.memory_bytes for use in uses)) if uses else None
    metrics: dict[tuple[str, str], list[float]] = defaultdict(list)
    for window in windows:
        for key, values in window.metrics.items():
            metrics[key] += values
    first, last = windows[0], windows[-1]
    composing = (first.composing[0], last.composing[1])
    return Window(load, first.before, last.after, process, first.batch_size, metrics, composing)


def warnings_of(measured: Measured, last: LoadWindow) -> list[str]:
    """What a reader has to know about the numbers: what they hide, or who limited them.

    ``last`` is the last window, which knows what had no answer when it ended.
    """
    load, latency = measured.window.load, measured.window.load.latency
    found = []
    if not measured.is_stable:
        found.append("not stable: the windows differ by more than --stability-percentage; take longer windows (-p)")
    if measured.kind == "Concurrency" and latency.count:
        found += _omission(latency)
    late, p99 = load.send_delay.percentile(99), latency.percentile(99)
    if measured.kind == "Request Rate" and latency.count and late > max(p99 / 10, 1_000_000):
        found.append(
            f"1 % of the requests were sent {late / 1e6:.1f} ms late or more; this is in their latency. Either the "
            "server did not keep up, or the load needs more --connections or --threads"
        )
    found += client_warnings(measured.window)
    if last.oldest_ns > max(latency.max_ns, 1_000_000_000):
        found.append(
            f"{last.unanswered + last.overdue} requests had no answer at the end; the oldest had waited for "
            f"{last.oldest_ns / 1e9:.2f} s. No percentile shows them"
        )
    return found


def client_warnings(window: Window) -> list[str]:
    """Where the load itself may have been the limit."""
    if window.load.cpu_ns <= 0.9e9 * window.seconds:
        return []
    return ["the load has used a whole core: it may have limited the throughput; give it more --threads"]


def _omission(latency: LatencyHistogram) -> list[str]:
    """Coordinated omission: a closed loop sends nothing while the server stands still, so few of its requests wait."""
    usual = latency.percentile(50)
    seen, steady = latency.percentile(99), latency.corrected(usual).percentile(99)
    if steady <= 2 * seen or latency.max_ns < 10 * usual:
        return []
    text = (
        f"the server stood still for up to {latency.max_ns / 1e6:.0f} ms, and a closed loop sends nothing meanwhile: "
        f"p99 is {seen / 1e6:.2f} ms here, and about {steady / 1e6:.0f} ms for clients that do not wait for each "
        "other (coordinated omission); measure with --request-rate-range"
    )
    return [text]
