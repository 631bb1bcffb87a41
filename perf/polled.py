# SPDX-License-Identifier: Apache-2.0
"""A monitor that asks too often: what its questions cost a server that has other things to do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from perf.load import LoadError, Window, error_of
from perf.servers import Server
from perf.turns import in_turns, medians
from pyinfer._core import LoadRun

__all__ = ["measure_polled"]

_HZ = 100
#: for the last answer
_DRAIN_S = 10.0


def measure_polled(server: Server, model: str, window: Callable[[], Window], rounds: int) -> dict[str, dict[str, Any]]:
    """Windows of load with and without a monitor, by turns: ``pyinfer`` is the one with it.

    CPU of the server is that for each request of the load, the monitor's included. Raises LoadError where a question is
    not answered.
    """

    def measure(name: str) -> dict[str, float]:
        nobody: AbstractContextManager[list[float]] = contextlib.nullcontext([0.0])
        with _polled(server, model) if name == "pyinfer" else nobody as polls:
            seen = window()
        row = {"requests_per_s": seen.requests_per_s, "cpu_us": seen.cpu_us, "failures": float(seen.failures)}
        return {**row, "polls_per_s": polls[0]}

    window()
    return {name: medians(rows) for name, rows in in_turns(["pyinfer", "unpolled"], rounds, measure).items()}


@contextlib.contextmanager
def _polled(server: Server, model: str) -> Iterator[list[float]]:
    """Ask for metrics, statistics and trace settings, each a hundred times a second; in the end how often it was.

    Whoever asks shares the cores with the server and the load: the engine of loads takes the least of them.
    """
    host, port = server.http.split(":")
    asking = [
        _ask(host, int(port) + 2, ("/metrics",)),
        _ask(host, int(port), (f"/v2/models/{model}/stats", "/v2/trace/setting")),
    ]
    polls: list[float] = []
    started = time.monotonic()
    for run in asking:
        run.start()
    try:
        yield polls
    finally:
        took = time.monotonic() - started
        ended = [run.stop(_DRAIN_S) for run in asking]
    for met in ended:
        if met.failed:
            raise LoadError(f"a question: {error_of(met)}")
    polls.append(min(ended[0].latency.count, ended[1].latency.count / 2) / took)


def _ask(host: str, port: int, paths: tuple[str, ...]) -> LoadRun:
    """Requests on one connection, for one path after the other, each ``_HZ`` times a second."""
    bodies = [f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() for path in paths]
    return LoadRun(protocol="http", address=host, port=port, bodies=bodies, rate=_HZ * len(paths))
