# SPDX-License-Identifier: Apache-2.0
"""Where the lines of the log go: standard error, or a file that others may rotate, delete or fill the disk of.

A line is one write of one descriptor, so that lines of several processes do not mix. What can not be written is
dropped and counted: the server goes on. It does NOT know how a line looks.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

__all__ = ["LineSink"]

_STDERR = 2
# A pipe that nobody reads must not stop the server; for ordinary files the flag means nothing.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK


class LineSink:
    """One thread at a time."""

    def __init__(self, path: str = "") -> None:
        """``path`` "" is standard error. Raises OSError where the file can not be opened for appending."""
        self._path = Path(path) if path else None
        self._fd = _STDERR
        self._torn = False  # the last line was written in part
        self._closed = False
        #: lines that could not be written since the start
        self.dropped = 0
        if self._path is not None:
            self._fd = os.open(self._path, _FLAGS, 0o644)
            self._file = _identity(os.fstat(self._fd))

    def write(self, line: bytes) -> bool:
        """Append ``line``, which ends with a line feed. False where it is dropped. Never raises."""
        try:
            if self._closed:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            if self._path is not None:
                self._follow(self._path)
            self._write(b"\n" + line if self._torn else line)
        except OSError:
            self.dropped += 1
            return False
        return True

    def close(self) -> None:
        """Close the file; lines after that are dropped. Idempotent."""
        if self._path is not None and not self._closed:
            os.close(self._fd)
        self._closed = True

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            count = os.write(self._fd, rest)
            # a full disk takes what fits, then fails; the next line must not continue this one
            self._torn = rest[count - 1] != ord("\n")
            rest = rest[count:]

    def _follow(self, path: Path) -> None:
        """Open the file anew where another one, or none, has its name: it was rotated or deleted."""
        try:
            if _identity(path.stat()) == self._file:
                return
        except FileNotFoundError:
            pass
        except OSError:
            return  # we may not look at it any more, but what is open can still be written
        fd = os.open(path, _FLAGS, 0o644)
        os.close(self._fd)
        self._fd, self._file, self._torn = fd, _identity(os.fstat(fd)), False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
