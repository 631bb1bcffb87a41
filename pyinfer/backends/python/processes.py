# SPDX-License-Identifier: Apache-2.0
"""Processes of workers, started here or by a fork server: seen to end, killed with their group, and forgotten.

Until it is closed, the number of a process is that of no other.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import suppress
from typing import Protocol

from pyinfer.backends.python.fork_server import ENDED

__all__ = ["ExecutedProcess", "ForkedProcess", "WorkerProcess"]


class WorkerProcess(Protocol):
    """The leader of a process group of its own. Of one thread."""

    pid: int

    def fileno(self) -> int | None:
        """What can be read from once it has ended; None where the system has no such thing."""

    def ended(self) -> str | None:
        """How it ended, ``was ended by SIGSEGV`` and its kind; None while it lives."""

    def close(self) -> None:
        """Wait for its end, which is near, and forget it."""


class ExecutedProcess:
    """A child of this process; see :class:`WorkerProcess`."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid
        self._watched: int | None = None
        with suppress(OSError, AttributeError):
            self._watched = os.pidfd_open(process.pid)

    def fileno(self) -> int | None:
        return self._watched

    def ended(self) -> str | None:
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        return None if ended is None else _told(ended.si_code, ended.si_status)

    def close(self) -> None:
        self._process.wait()
        if self._watched is not None:
            os.close(self._watched)


class ForkedProcess:
    """A child of the fork server, which tells of it on ``told``; see :class:`WorkerProcess`.

    It ends with the fork server, which then tells nothing any more. Its number may be another's from then on.
    """

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self._told = told

    def fileno(self) -> int | None:
        return self._told.fileno()

    def ended(self) -> str | None:
        with suppress(BlockingIOError):
            return self._read(socket.MSG_DONTWAIT)
        return None

    def close(self) -> None:
        self._read()
        self._told.close()

    def _read(self, flags: int = 0) -> str:
        """What is said of the end. It is left there, so that there goes on to be something to read."""
        try:
            text = self._told.recv(ENDED.size, flags | socket.MSG_PEEK)
        except ConnectionError:
            text = b""
        return _told(*ENDED.unpack(text)) if text else _told(os.CLD_KILLED, signal.SIGKILL)


def _told(code: int, status: int) -> str:
    if code == os.CLD_EXITED:
        return f"exited with status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(status).name}"
    return f"was ended by signal {status}"
