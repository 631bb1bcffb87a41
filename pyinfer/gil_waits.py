# SPDX-License-Identifier: Apache-2.0
"""How long the instances of this process that run Python code wait for its lock, on the page of metrics. Any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pyinfer.backends.base import MetricFamily

if TYPE_CHECKING:
    from pyinfer._core import Instance

__all__ = ["counted", "gil_families"]

_lock = threading.Lock()
_running: list[Instance] = []


@contextmanager
def counted(instance: Instance) -> Iterator[None]:
    """``instance`` is on the page as long as this is entered."""
    with _lock:
        _running.append(instance)
    try:
        yield
    finally:
        with _lock:
            _running.remove(instance)


def gil_families() -> list[MetricFamily]:
    """What the instances have waited, one sample each."""
    with _lock:
        running = list(_running)
    if not running:
        return []
    waits = sorted(
        ((("instance", one.name), ("model", one.model), ("version", str(one.version))), *one.gil_wait)
        for one in running
    )
    return [
        (
            "counter",
            "pyinfer_instance_execution_total",
            "Executions by instances that run Python code in the server's process",
            [("", labels, executions) for labels, executions, _ in waits],
        ),
        (
            "counter",
            "pyinfer_instance_gil_wait_seconds_total",
            "Time that these instances had a batch and waited for the interpreter's lock (GIL)",
            [("", labels, waited_ns / 1e9) for labels, _, waited_ns in waits],
        ),
    ]
