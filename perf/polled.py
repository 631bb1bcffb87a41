# SPDX-License-Identifier: Apache-2.0
"""A monitor that asks too often: what its questions cost a server that has other things to do."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import Any

from perf.load import LoadError, Window
from perf.servers import Server
from perf.turns import in_turns, medians

__all__ = ["measure_polled"]

_HZ = 100


def measure_polled(server: Server, model: str, window: Callable[[], Window], rounds: int) -> dict[str, dict[str, Any]]:
    """Windows of load with and without a monitor, by turns: ``pyinfer`` is the one with it.

    CPU of the server is that for each request of the load, the monitor's included. Raises LoadError where a question is
    not answered.
    """

    def measure(name: str) -> dict[str, float]:
        nobody: AbstractContextManager[list[float]] = contextlib.nullcontext([])
        with _polled(server, model) if name == "pyinfer" else nobody as asked:
            start = time.perf_counter()
            seen = window()
            took = time.perf_counter() - start
        row = {"requests_per_s": seen.requests_per_s, "cpu_us": seen.cpu_us, "failures": float(seen.failures)}
        return {**row, "polls_per_s": len(asked) / took}

    window()
    return {name: medians(rows) for name, rows in in_turns(["pyinfer", "unpolled"], rounds, measure).items()}


@contextlib.contextmanager
def _polled(server: Server, model: str) -> Iterator[list[float]]:
    """Ask for metrics, statistics and trace settings, each a hundred times a second; the times of these rounds."""
    host, port = server.http.split(":")
    done = threading.Event()
    asked: list[float] = []

    def poll() -> None:
        places = [
            (http.client.HTTPConnection(host, int(port) + offset, timeout=10), path)
            for offset, path in ((2, "/metrics"), (0, f"/v2/models/{model}/stats"), (0, "/v2/trace/setting"))
        ]
        due = time.monotonic()
        with contextlib.ExitStack() as stack:
            for connection, _ in places:
                stack.enter_context(contextlib.closing(connection))
            while not done.is_set():
                for connection, path in places:
                    _ask(connection, path)
                asked.append(due)
                due = max(due + 1 / _HZ, time.monotonic())  # what is late is not made up for
                time.sleep(max(0.0, due - time.monotonic()))

    with ThreadPoolExecutor(1) as threads:
        polling = threads.submit(poll)
        try:
            yield asked
        finally:
            done.set()
        polling.result()


def _ask(connection: http.client.HTTPConnection, path: str) -> None:
    """Raises LoadError where there is no answer, or one that is no 200."""
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise LoadError(f"{path}: {error}") from error
    if answer.status != HTTPStatus.OK:
        raise LoadError(f"{path}: {answer.status}")
