# SPDX-License-Identifier: Apache-2.0
"""The machine's processor and memory gauges, out of ``/proc``. Knows nothing of models or of an exposition format."""

from __future__ import annotations

import threading
from pathlib import Path

from pyinfer.telemetry.families import Family, gauge

__all__ = ["CpuGauges", "parse_meminfo", "parse_stat", "utilization"]


class CpuGauges:
    """Reads the gauges; a reading compares with the one before it. Any thread."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._lock = threading.Lock()
        self._ratio = 0.0
        self._times = self._read_times()

    def read(self) -> list[Family]:
        """The gauges that this machine tells; empty where there is no ``/proc``."""
        gauges: list[Family] = []
        with self._lock:
            times = self._read_times()
            if times is not None and self._times is not None:
                self._ratio = utilization(self._times, times, self._ratio)
                gauges.append(gauge("nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", self._ratio))
            self._times = times
        memory = self._read_memory()
        if memory is not None:
            total, available = memory
            gauges.append(gauge("nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", total))
            gauges.append(gauge("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", total - available))
        return gauges

    def _read_times(self) -> tuple[int, int] | None:
        try:
            return parse_stat((self._proc / "stat").read_text())
        except (OSError, ValueError):
            return None

    def _read_memory(self) -> tuple[int, int] | None:
        try:
            return parse_meminfo((self._proc / "meminfo").read_text())
        except (OSError, ValueError, KeyError):
            return None


def parse_stat(text: str) -> tuple[int, int]:
    """(idle, all) clock ticks since boot over all processors, of ``/proc/stat``. Raises ValueError."""
    for line in text.splitlines():
        fields = line.split()
        if fields and fields[0] == "cpu" and len(fields) > 5:
            # user nice system idle iowait irq softirq steal; what follows is contained in user and nice
            ticks = [int(value) for value in fields[1:9]]
            return ticks[3] + ticks[4], sum(ticks)
    raise ValueError("no line of all processors")


def parse_meminfo(text: str) -> tuple[int, int]:
    """(total, available) bytes of ``/proc/meminfo``. Raises KeyError or ValueError."""
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            values[name] = int(rest.split()[0]) * 1024
    return values["MemTotal"], values["MemAvailable"]


def utilization(before: tuple[int, int], after: tuple[int, int], previous: float) -> float:
    """The busy share (0 to 1) between two readings of (idle, all); ``previous`` where no tick lies between them."""
    ticks = after[1] - before[1]
    if ticks <= 0:
        return previous
    return min(1.0, max(0.0, 1.0 - (after[0] - before[0]) / ticks))
