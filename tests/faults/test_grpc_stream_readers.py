# SPDX-License-Identifier: Apache-2.0
"""Streams whose clients do not read: rows 31, 38 and 47. What the server holds for them is bounded."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from faults import h2raw as h2
from faults.client import check_text, message
from faults.guard import counter, peak_growth
from faults.h2raw import H2, frame, grpc_headers
from faults.test_grpc_streams import MIB, RESOURCE_EXHAUSTED, STREAM, accounted, flat, many, values
from faults.test_grpc_wire import prefixed
from pyinfer.testing import RunningServer, run_server
from waiting import eventually


@pytest.fixture(scope="module")
def roomy(models: Path) -> Iterator[RunningServer]:
    """A server of their own: it keeps some of the memory, for the next answers."""
    with run_server(models) as server:
        yield server
        assert server.stop() == 0
        assert "All requests are answered, all models are stopped." in server.log


def test_row_38_a_client_that_sends_and_does_not_read(roomy: RunningServer) -> None:
    """240 MiB of answers, and nobody takes one: most requests are not sent until the client begins to read.

    The core's own tests do it with 10^5 requests.
    """
    sent = 0

    def requests() -> Iterator[bytes]:
        nonlocal sent
        data = np.zeros(2048, "<f4")
        for number in range(30_000):
            sent = number + 1
            data[0] = number
            yield message("flat", ("INPUT0", "FP32", [2048]), raw=[data.tobytes()]).SerializeToString()

    calls: list[Any] = []
    channel = grpc.insecure_channel(roomy.grpc, options=[("grpc.use_local_subchannel_pool", 1)])

    def attack() -> None:
        calls.append(channel.stream_stream(STREAM)(requests(), timeout=300))
        last = -1
        while last != sent or not sent:  # until flow control has stopped it
            last = sent
            threading.Event().wait(0.5)

    assert peak_growth(roomy, attack) < 160 * MIB
    assert sent < 25_000
    number = -1
    for number, data in enumerate(calls[0]):
        assert values(pb.ModelStreamInferResponse.FromString(data))[0] == number
    assert number == 29_999
    assert calls[0].code() is grpc.StatusCode.OK
    channel.close()


@pytest.mark.parametrize("window", [0, 1000])
def test_row_31_windows_that_stay_closed(roomy: RunningServer, window: int) -> None:
    """Streams of clients whose windows stay as they are: what is held is bounded, and all others flow."""
    requests = b"".join(frame(h2.DATA, 0, 1, prefixed(flat(number)) * 100) for number in range(100))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(H2(roomy.grpc_port, pairs=[(4, window)])) for _ in range(20)]

        def attack() -> None:
            for connection in connections:
                connection.headers(1, grpc_headers(STREAM), end=False).send(requests)
            with H2(roomy.grpc_port) as other:
                assert other.call(1, prefixed(b"")).status == 0

        assert peak_growth(roomy, attack) < 96 * MIB


def test_row_31_large_answers_that_are_not_read(roomy: RunningServer) -> None:
    """Each request wants 4 MiB: few are made before somebody takes them."""
    data = np.array([MIB], "<i8").tobytes()
    request = message("huge", ("INPUT0", "INT64", [1]), raw=[data]).SerializeToString()
    before = accounted(roomy, "huge")
    with H2(roomy.grpc_port, pairs=[(4, 0)]) as connection:

        def attack() -> None:
            connection.headers(1, grpc_headers(STREAM), end=False)
            # the size of an answer is known after the first one
            connection.send(frame(h2.DATA, 0, 1, prefixed(request)))
            eventually(lambda: accounted(roomy, "huge") - before == 1, "never answered")
            connection.send(frame(h2.DATA, 0, 1, prefixed(request) * 100))
            eventually(lambda: accounted(roomy, "huge") - before >= 15, "never answered")

        assert peak_growth(roomy, attack) < 160 * MIB
        assert accounted(roomy, "huge") - before <= 17


def test_row_47_responses_that_nobody_reads(roomy: RunningServer) -> None:
    """A decoupled model that makes 40 GiB for a client whose window is closed is told to stop."""
    with H2(roomy.grpc_port, pairs=[(4, 0)], timeout_s=60) as connection:

        def attack() -> None:
            connection.headers(1, grpc_headers(STREAM), end=False)
            connection.send(frame(h2.DATA, 0, 1, prefixed(many(10_000, 512 * 1024))))
            reply = connection.reply(1)
            assert reply.status == RESOURCE_EXHAUSTED
            assert "does not read" in check_text(reply.headers["grpc-message"])

        assert peak_growth(roomy, attack) < 400 * MIB
        eventually(lambda: counter(roomy, "nv_inference_pending_request_count", "many") == 0, "requests are left")
