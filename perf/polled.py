# SPDX-License-Identifier: Apache-2.0
"""A monitor that asks too often: what its questions cost a server that has other things to do."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
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
    refused: list[str] = []

    def poll() -> None:
        places = [
            (http.client.HTTPConnection(host, int(port) + offset, timeout=10), path)
            for offset, path in ((2, "/metrics"), (0, f"/v2/models/{model}/stats"), (0, "/v2/trace/setting"))
        ]
        due = time.monotonic()
        while not done.is_set() and not refused:
            for connection, path in places:
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                if answer.status != HTTPStatus.OK:
                    refused.append(f"{path}: {answer.status}")
            asked.append(due)
            due = max(due + 1 / _HZ, time.monotonic())  # what is late is not made up for
            time.sleep(max(0.0, due - time.monotonic()))
        for connection, _ in places:
            connection.close()

    poller = threading.Thread(target=poll, name="poller")
    poller.start()
    try:
        yield asked
    finally:
        done.set()
        poller.join()
    if refused:
        raise LoadError(refused[0])
