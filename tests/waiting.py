# SPDX-License-Identifier: Apache-2.0
"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["eventually"]


def eventually(condition: Callable[[], object], what: str, *, timeout_s: float = 60) -> None:
    """Wait until ``condition`` holds; what is waited for comes by itself, the limit is only there to end a hang."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, what
        time.sleep(0.005)
