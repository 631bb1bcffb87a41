# SPDX-License-Identifier: Apache-2.0
"""Child processes, and what a process tree costs in CPU time and memory, read from /proc.

Linux only. Nothing here knows what a server serves or how load is made.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pyinfer.children import has_ended, wait_for_end
from pyinfer.perf.signals import ended_as_by_ctrl_c, held_back

__all__ = [
    "Child",
    "Memory",
    "StartError",
    "children_ended",
    "cpu_seconds",
    "memory",
    "parse_parent",
    "stolen_share",
    "stolen_ticks",
    "tree",
]


class StartError(RuntimeError):
    """A child process ended, was not ready or did not end in time; the text holds the end of its log."""


class Memory:
    """Resident and proportional set size of a process tree, in MiB."""

    def __init__(self, rss_mib: float, pss_mib: float) -> None:
        self.rss_mib, self.pss_mib = rss_mib, pss_mib


def parse_parent(text: str) -> int:
    """The parent's pid from the text of ``/proc/<pid>/stat``.

    The command name may hold spaces and parentheses, so fields are counted from the last closing one.
    """
    return int(text.rsplit(")", 1)[1].split()[1])


def _read_parent(pid: int) -> int | None:
    try:
        return parse_parent(Path(f"/proc/{pid}/stat").read_text())
    except (OSError, IndexError):  # it ended while we looked
        return None


def tree(pid: int) -> list[int]:
    """``pid`` and all its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (parent := _read_parent(int(entry.name))) is not None:
            children.setdefault(parent, []).append(int(entry.name))
    found, todo = [], [pid]
    while todo:
        found.append(todo.pop())
        todo += children.get(found[-1], [])
    return found


def cpu_seconds(pid: int) -> float:
    """User plus system seconds so far of ``pid`` and its living descendants, by the clocks of the processes."""
    return sum(map(_clock_of, tree(pid)))


def _clock_of(pid: int) -> float:
    """Seconds of CPU time of all threads of one process, also those that have ended; 0 where it is gone."""
    try:
        # what clock_getcpuclockid(3) gives: ticks of /proc/<pid>/stat are too coarse for what costs little
        return time.clock_gettime(~pid << 3 | 2)
    except OSError:
        return 0.0


def memory(pid: int) -> Memory:
    """Memory of ``pid`` and its living descendants."""
    kib = {"Rss:": 0, "Pss:": 0}
    for p in tree(pid):
        with contextlib.suppress(OSError), Path(f"/proc/{p}/smaps_rollup").open() as lines:
            for line in lines:
                key, value, *_ = line.split()
                if key in kib:
                    kib[key] += int(value)
    return Memory(kib["Rss:"] / 1024, kib["Pss:"] / 1024)


def stolen_ticks() -> tuple[int, int]:
    """(ticks the hypervisor took, all ticks) so far, over all CPUs."""
    with Path("/proc/stat").open() as stat:
        ticks = [int(v) for v in stat.readline().split()[1:9]]
    return ticks[7], sum(ticks)


def stolen_share(before: tuple[int, int], after: tuple[int, int]) -> float:
    """Share of the CPU time between two readings of :func:`stolen_ticks` that the hypervisor took, 0 to 1."""
    return (after[0] - before[0]) / max(1, after[1] - before[1])


#: children that nobody has stopped yet
_started: list[Child] = []


@contextlib.contextmanager
def children_ended() -> Iterator[None]:
    """No child is left when the block is: not by an error, Ctrl-C, SIGTERM or SIGHUP, whatever was being started."""
    with ended_as_by_ctrl_c():
        try:
            yield
        finally:
            while _started:
                _started[-1].stop()


class Child:
    """A child process in a session of its own, with its output in a log file.

    Use as a context manager: leaving stops it. ``environment`` is laid over this process's own, ``directory``
    is the working directory, this process's where None.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> None:
        self.command = list(command)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop()
        self.started = time.perf_counter()
        with held_back():
            self._process = subprocess.Popen(
                self.command,
                env={**os.environ, **(environment or {})},
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _started.append(self)

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return not has_ended(self._process)

    def log_tail(self, size: int = 16_000) -> str:
        """The last ``size`` bytes that the child has printed."""
        end = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, max(0, end - size)).decode(errors="replace")

    def wait_ready(self, url: str, seconds: float = 60.0) -> float:
        """Poll ``url`` every 5 ms until it answers 200; return the seconds since the start of the process.

        Raises StartError if the process ends or the time is up; the process is then stopped.
        """
        while self.running() and time.perf_counter() - self.started < seconds:
            try:
                with urllib.request.urlopen(url, timeout=2) as answer:
                    if answer.status == 200:
                        return time.perf_counter() - self.started
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.005)
        tail = self.log_tail()
        self.stop()
        raise StartError(f"{self.command[0]} did not become ready at {url}; the end of its log:\n{tail}")

    def wait(self, seconds: float) -> int:
        """Its exit status, once it has ended by itself; it is stopped where that takes longer than ``seconds``."""
        if wait_for_end(self._process, seconds):
            return self._process.wait()
        tail = self.log_tail()
        self.stop()
        raise StartError(f"{self.command[0]} did not end within {seconds:g} s; the end of its log:\n{tail}")

    def stop(self, seconds: float = 20.0) -> int:
        """Ask it to stop, then kill what is left of its tree; return its exit status. May be called again."""
        left = tree(self.pid)
        if self.running():
            os.kill(self.pid, signal.SIGTERM)
            try:
                wait_for_end(self._process, seconds)
            finally:  # also where it is not waited for any longer
                _kill(left if self.running() else _same_session(left, self.pid))
        with held_back():
            status = self._process.wait()
            self._log.close()
            if self in _started:
                _started.remove(self)
        return status

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _same_session(pids: Iterable[int], session: int) -> list[int]:
    """Those still alive that belong to ``session``: a number that was reused by a stranger does not."""
    alive = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if os.getsid(pid) == session:
                alive.append(pid)
    return alive


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
