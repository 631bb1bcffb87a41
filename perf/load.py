# SPDX-License-Identifier: Apache-2.0
"""Load on one server for one window of time, and what it cost the server: by the load engine of ``pyinfer perf``.

The load shares the machine's cores with the server: requests per second move with the neighbours, CPU time per request
much less. A window says how much CPU time the hypervisor took, so that the caller can try again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from perf.bodies import Body
from perf.procs import cpu_seconds, stolen_share, stolen_ticks
from perf.servers import Counts, Server
from perf.tools import LoadError
from pyinfer._core import LoadRun, LoadWindow
from pyinfer.perf.signals import raise_if_interrupted
from pyinfer.perf.target import GrpcTarget

__all__ = ["LoadError", "Reading", "Window", "begin_load", "error_of", "measure_window", "read_counters", "send_all"]

#: until all connections have brought an answer, at most
_CONNECT_S = 10.0
_DRAIN_S = 10.0


@dataclass(frozen=True)
class Window:
    """One window of load. Latencies in microseconds; ``mean_batch`` is 0 where the server has no statistics.

    ``cpu_us`` is server CPU per request, ``client_us`` that of the load.
    """

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float
    failures: int
    client_us: float
    cpu_us: float
    cores_busy: float
    mean_batch: float
    stolen: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Reading:
    """Counters of a server, or of any process, and of the machine at one time."""

    at: float
    cpu_s: float
    stolen: tuple[int, int]
    counts: Counts


def read_counters(server: Server, model: str) -> Reading:
    """What ``server`` has done for ``model`` so far, and what it has cost."""
    counts = server.counts(model)
    return Reading(time.perf_counter(), cpu_seconds(server.pid), stolen_ticks(), counts)


def begin_load(server: Server, bodies: Sequence[Body], connections: int, streams: int = 1, **how: Any) -> LoadRun:
    """A load of ``bodies`` in turn, begun; the caller stops it. ``how`` as for :class:`pyinfer._core.LoadRun`.

    Without a schedule it is a closed loop with ``connections`` x ``streams`` requests in flight.
    """
    protocol = bodies[0].protocol
    is_grpc = protocol in ("grpc", "grpc_stream") and not server.http1_only
    method = "ModelInfer" if protocol == "grpc" else "ModelStreamInfer"
    address = server.grpc if is_grpc else server.http
    host, _, port = address.rpartition(":")
    if not how.keys() & {"times_ns", "intervals_ns", "rate"}:
        how["concurrency"] = connections * streams
    run = LoadRun(
        protocol=protocol if is_grpc else "http",
        address=host,
        port=int(port),
        bodies=[body.content if is_grpc else body.http_request(address) for body in bodies],
        headers=GrpcTarget(address, bodies[0].model, "").headers(method) if is_grpc else [],
        connections=connections if is_grpc else connections * streams,
        **how,
    )
    run.start()
    return run


def error_of(window: LoadWindow) -> str:
    """The most frequent error of a load; empty where there was none."""
    return max(window.errors, key=lambda text: window.errors[text], default="")


def measure_window(
    server: Server, bodies: Body | Sequence[Body], connections: int, streams: int, seconds: float
) -> Window:
    """One window of load on ``server``; raises LoadError where nothing was answered."""
    bodies = [bodies] if isinstance(bodies, Body) else bodies
    model = bodies[0].model
    raise_if_interrupted()
    run = begin_load(server, bodies, connections, streams)
    try:
        run.wait(_CONNECT_S, connections * streams)
        before = read_counters(server, model)
        run.take()
        run.wait(seconds)
        met = run.take()
        after = read_counters(server, model)
    finally:
        run.stop(_DRAIN_S)
    if met.latency.count == 0:
        raise LoadError(f"{server.name} answered no request for {model}: {error_of(met) or 'it is silent'}")
    requests, cpu = met.latency.count, after.cpu_s - before.cpu_s
    executions = after.counts.executions - before.counts.executions
    return Window(
        requests=requests,
        requests_per_s=requests / ((met.ended_ns - met.started_ns) / 1e9),
        p50_us=met.latency.percentile(50) / 1e3,
        p99_us=met.latency.percentile(99) / 1e3,
        failures=met.failed,
        client_us=met.cpu_ns / requests / 1e3,
        cpu_us=1e6 * cpu / requests,
        cores_busy=cpu / (after.at - before.at),
        mean_batch=(after.counts.inferences - before.counts.inferences) / executions if executions else 0.0,
        stolen=stolen_share(before.stolen, after.stolen),
    )


def send_all(server: Server, body: Body, connections: int, streams: int, requests: int) -> None:
    """Send ``requests``, all of which have to be answered; raises LoadError where one is not."""
    run = begin_load(server, [body], connections, streams, max_requests=requests)
    answered = 0
    while answered < requests and not run.exhausted:
        now = run.wait(_DRAIN_S, requests - answered)
        answered += now
        if not now:
            break
    met = run.stop(_DRAIN_S)
    if met.latency.count < requests:
        why = error_of(met) or "it is silent"
        raise LoadError(
            f"{server.name} answered {met.latency.count} of {requests} requests over {body.protocol}: {why}"
        )
