# SPDX-License-Identifier: Apache-2.0
"""A Python model's worker is killed over and over under load: how soon another is there, and what it costs others."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

from perf.bodies import Body, fp32_rows, make_body
from perf.load import LoadError, begin_load, error_of
from perf.procs import memory, tree
from perf.servers import Server
from perf.tools import percentile
from pyinfer._core import LoadWindow

__all__ = ["KILLED", "OTHER", "measure_kills"]

#: the model whose worker is killed, and one that has none; both give back what they are sent
KILLED, OTHER = "python_process", "identity"
#: requests a second that the other model is sent, by an open loop: what stands still shows
_OTHER_RATE = 200.0
#: more is no coming back
_PATIENCE_S = 30.0


def measure_kills(server: Server, kills: int) -> dict[str, float]:
    """Of ``kills`` kills: milliseconds until the model answers again; failures and latency of the other model.

    ``more_...`` is what there is afterwards beyond what there was before: open files, processes, names in /dev/shm,
    MiB. Raises LoadError where the model does not come back.
    """
    bodies = {
        model: make_body("grpc", model, fp32_rows(16), name="INPUT0", output="OUTPUT0") for model in (KILLED, OTHER)
    }
    _until_answered(server, bodies[KILLED])
    before = _holdings(server)
    other = begin_load(server, [bodies[OTHER]], 4, rate=_OTHER_RATE)
    killed = begin_load(server, [bodies[KILLED]], 4)
    back_us: list[int] = []
    try:
        for _ in range(kills):
            start = time.perf_counter()
            os.kill(_worker(server), signal.SIGKILL)
            _until_answered(server, bodies[KILLED])
            back_us.append(round(1e6 * (time.perf_counter() - start)))
    finally:
        killed.stop(_PATIENCE_S)
        met = other.stop(_PATIENCE_S)
    del killed, other  # and their connections
    time.sleep(1)
    after = _holdings(server)
    back_us.sort()
    return {
        "kills": float(kills),
        "back_p50_ms": percentile(back_us, 0.5) / 1e3,
        "back_p99_ms": percentile(back_us, 0.99) / 1e3,
        **_of_the_other(met),
        **{f"more_{key}": after[key] - before[key] for key in before},
    }


def _of_the_other(met: LoadWindow) -> dict[str, float]:
    if met.failed:
        print(f"  {OTHER}: {error_of(met)}")
    return {
        "other_requests": float(met.latency.count),
        "other_failures": float(met.failed + met.unanswered),
        "other_p99_us": met.latency.percentile(99) / 1e3,
    }


def _worker(server: Server) -> int:
    """The one process below the server's that has started none itself. Requires: there is one, which has answered."""
    until = time.monotonic() + _PATIENCE_S
    while time.monotonic() < until:
        with contextlib.suppress(ValueError):
            (worker,) = [pid for pid in tree(server.pid) if tree(pid) == [pid]]
            return worker
        time.sleep(0.001)
    raise LoadError(f"{server.name} has more than one process for its model")


def _until_answered(server: Server, body: Body) -> None:
    """Ask until there is an answer: one request waits for the new worker, unless it was under way in the old one."""
    run = begin_load(server, [body], 1)
    try:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            run.wait(_PATIENCE_S, 1)
            met = run.take()
            if met.latency.count:
                return
    finally:
        run.stop()
    raise LoadError(f"{server.name} does not answer for {body.model} any more: {error_of(met)}")


def _holdings(server: Server) -> dict[str, float]:
    return {
        "files": float(len(list(Path(f"/proc/{server.pid}/fd").iterdir()))),
        "processes": float(len(tree(server.pid))),
        "shm_names": float(len(list(Path("/dev/shm").iterdir()))),
        "rss_mib": memory(server.pid).rss_mib,
    }
