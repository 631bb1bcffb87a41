# SPDX-License-Identifier: Apache-2.0
"""Calls a function every so many seconds on a thread of its own, whatever it raises."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

__all__ = ["Poller"]

_log = logging.getLogger(__name__)


class Poller:
    """The seconds count from the end of one call to the start of the next: slow calls do not pile up."""

    def __init__(self, poll: Callable[[], object], seconds: float) -> None:
        self._poll = poll
        self._seconds = seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="repository-poll", daemon=True)

    def start(self) -> None:
        """Begin; the first call comes after the first wait."""
        self._thread.start()

    def stop(self) -> None:
        """Call no more. Does not wait for a call that is running. Idempotent; also where it was never started."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            self._once()

    def _once(self) -> None:
        try:
            self._poll()
        except Exception:
            _log.exception("polling the model repositories failed")
