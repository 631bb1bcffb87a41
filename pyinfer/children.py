# SPDX-License-Identifier: Apache-2.0
"""Child processes of whoever may be interrupted: their end, seen without a lock that could stay taken."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

__all__ = ["has_ended", "wait_for_end"]

#: between two looks at a process that is waited for
_LOOK_S = 0.005


def has_ended(process: subprocess.Popen[Any]) -> bool:
    """Whether a child has ended. Its status is left to ``process.wait()``, which does not block any more.

    ``poll`` and ``wait`` of Popen take a lock. Where a KeyboardInterrupt comes just then it stays taken, and ``wait``
    would block for ever: what may be interrupted asks here.
    """
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def wait_for_end(process: subprocess.Popen[Any], seconds: float) -> bool:
    """Whether a child has ended within ``seconds``, as :func:`has_ended` says."""
    until = time.monotonic() + seconds
    while not has_ended(process):
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True
