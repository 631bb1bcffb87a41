# SPDX-License-Identifier: Apache-2.0
"""How a command ends that has started servers, or has something open on one: as by Ctrl-C, whatever signal ends it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["ended_as_by_ctrl_c", "held_back", "raise_if_interrupted"]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: signals that have raised KeyboardInterrupt in :func:`ended_as_by_ctrl_c`
_raised: list[int] = []


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Within the block SIGTERM and SIGHUP raise KeyboardInterrupt, as SIGINT does: what is open is closed.

    Signals that are ignored (``nohup``) stay so. Other threads than the main one can not say it: nothing happens there.
    """
    _raised.clear()
    with _handled(_interrupt):
        yield


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt where a signal has done so and work goes on all the same.

    It is raised wherever the interpreter happens to be, also where it is lost: in what is called by a destructor, or by
    code of a library that drops whatever is raised there.
    """
    if _raised:
        raise KeyboardInterrupt


@contextmanager
def held_back() -> Iterator[None]:
    """Signals act when the block is left: within it something is started that nobody could end yet."""
    pending: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        pending.append(number)

    with _handled(note):
        yield
    if pending:
        raise KeyboardInterrupt


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _raised.append(number)
    raise KeyboardInterrupt


@contextmanager
def _handled(handler: Any) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}
    try:
        for each in _ENDING:
            if signal.getsignal(each) not in (signal.SIG_IGN, None):
                before[each] = signal.signal(each, handler)
        yield
    finally:
        for each, old in before.items():
            signal.signal(each, old)
