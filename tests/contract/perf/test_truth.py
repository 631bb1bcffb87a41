# SPDX-License-Identifier: Apache-2.0
"""Measured latencies against a server that knows its own, in real time. (tests/core has the same on a manual clock.)

A busy machine delays the client as it delays the server's thread, which knows by how much: what a comparison allows
beyond 2 % is four times that. It may be tried again.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pyinfer._core import FakeServerReport, LatencyHistogram, LoadRun, LoadWindow
from pyinfer.perf.encode import grpc_request, http_request
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.results import Measured, Window, warnings_of
from pyinfer.perf.target import GrpcTarget, HttpTarget
from pyinfer.perf.tensors import make_requests
from pyinfer.testing import FakeServer

PROTOCOLS = ["http", "grpc"]
PERCENTS = (50, 90, 95, 99, 99.9)
#: further ones cost something only where the machine is busy
ATTEMPTS = 10
pytestmark = pytest.mark.timeout(600)


def load(fake: FakeServer, protocol: str, requests: int, **how: object) -> LoadWindow:
    """Send ``requests`` to the fake server, closed or open loop, and wait for all of them."""
    options = PerfOptions(model="fake")
    target = GrpcTarget(fake.address, "fake", "") if protocol == "grpc" else HttpTarget(fake.address, "fake", "")
    info = target.info()
    (inputs,) = make_requests(info, options)
    if isinstance(target, GrpcTarget):
        body, headers = grpc_request(target, info, options, inputs), target.headers("ModelInfer")
    else:
        body, headers = http_request(target, info, options, inputs), []
    run = LoadRun(
        protocol=protocol, address=target.address, port=target.port, bodies=[body], headers=headers,
        max_requests=requests, **how,  # type: ignore[arg-type]
    )  # fmt: skip
    run.start()
    run.wait(60, requests)
    window = run.stop(10)
    assert window.failed == 0, window.errors
    assert window.latency.count == fake.report().served.count == requests
    return window


def within(measured: LatencyHistogram, truth: FakeServerReport) -> bool:
    served, injected = truth.served, truth.injected
    noise = max(served.percentile(p) - injected.percentile(p) for p in PERCENTS)
    return all(
        abs(measured.percentile(p) - served.percentile(p)) <= 0.02 * served.percentile(p) + 4 * noise for p in PERCENTS
    )


def attempt(once: Callable[[], bool]) -> None:
    assert any(once() for _ in range(ATTEMPTS)), f"not once in {ATTEMPTS} attempts"


# most within 100 ms, one in 67 far beyond, one alone: percentiles that are near each other would hide a mistake
DELAYS = [0.8 if i == 500 else 0.35 if i % 67 == 0 else 0.1 + 0.001 * (i * 37 % 100) for i in range(1000)]


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closed_loop_measures_what_the_server_did(protocol: str) -> None:
    def once() -> bool:
        with FakeServer(DELAYS) as fake:
            window = load(fake, protocol, 1000, concurrency=100, connections=100)
            return within(window.latency, fake.report())

    attempt(once)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_open_loop_shows_a_stall(protocol: str) -> None:
    def once() -> bool:
        with FakeServer(DELAYS, stalls_s=[(1.0, 1.0)]) as fake:
            window = load(fake, protocol, 1500, rate=500.0, connections=8 if protocol == "grpc" else 800)
            # a third of them fell into it
            return within(window.latency, fake.report()) and window.latency.percentile(90) > 800e6

    attempt(once)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_closed_loop_flags_a_stall(protocol: str) -> None:
    with FakeServer([0.002], stalls_s=[(0.5, 1.0)]) as fake:
        window = load(fake, protocol, 1500, concurrency=2, connections=2)
    assert window.latency.percentile(99) < 500e6 < window.latency.max_ns
    notes = warnings_of(Measured("Concurrency", 2, Window(window), is_stable=True), window)
    assert any("coordinated omission" in note for note in notes)
