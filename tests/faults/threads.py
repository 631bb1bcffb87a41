# SPDX-License-Identifier: Apache-2.0
"""Work on a thread that has, as the processes that it starts have, something other than the rest of the test."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterable

import pytest

__all__ = ["all_succeed", "on_prepared_thread"]


def all_succeed(steps: Iterable[Callable[[], int]]) -> None:
    """Calls of a library that was opened with ``use_errno``, in order. Raises OSError at the first that is not 0."""
    for step in steps:
        if step() != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def on_prepared_thread(prepare: Callable[[], None], work: Callable[[], None], lacking: str) -> None:
    """Run both on a new thread. Skips, with ``lacking``, where ``prepare`` raises OSError or KeyError."""
    refusals: list[BaseException] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            prepare()
        except (OSError, KeyError) as error:
            refusals.append(error)
            return
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if refusals:
        pytest.skip(f"{lacking}: {refusals[0]}")
    if errors:
        raise errors[0]
