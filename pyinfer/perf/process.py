# SPDX-License-Identifier: Apache-2.0
"""CPU time and memory of a local server: of its process and all that it has started. Linux."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pyinfer.errors import InvalidArgument

__all__ = ["ProcessUse", "read_process"]


@dataclass(frozen=True)
class ProcessUse:
    """CPU seconds since the processes were started, or between two readings; resident memory."""

    cpu_s: float
    memory_bytes: int

    def since(self, before: ProcessUse) -> ProcessUse:
        """CPU time between two readings, memory of the later one."""
        return ProcessUse(self.cpu_s - before.cpu_s, self.memory_bytes)


def read_process(pid: int) -> ProcessUse:
    """Of ``pid`` and its descendants. Raises InvalidArgument where there is no such process."""
    fields = {int(path.name): _stat(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    own = [pid] if fields.get(pid) else []
    if not own:
        raise InvalidArgument(f"--server-pid: there is no process {pid} that can be read")
    for parent in own:
        own += [child for child, stat in fields.items() if stat and int(stat[1]) == parent]
    stats = [stat for one in own if (stat := fields[one])]
    ticks = sum(int(stat[11]) + int(stat[12]) for stat in stats)
    pages = sum(int(stat[21]) for stat in stats)
    return ProcessUse(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def _stat(path: Path) -> list[str]:
    """The fields after the name: state, parent, ...; empty where the process is gone."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
