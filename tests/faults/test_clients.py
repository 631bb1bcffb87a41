# SPDX-License-Identifier: Apache-2.0
"""Rows 22, 29, 30 and 31: clients that vanish, that are slow to send, and that are slow to read."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from contract.http.raw import HOST, Raw, post
from faults.client import LIVE, Grpc, document, http, is_live, message, tensor
from faults.guard import Guard, counter, peak_growth
from faults.h2raw import DATA, END_STREAM, H2, HEADERS, PREFACE, block, frame, grpc_headers, settings
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MIB = 1 << 20
BODY = document(tensor((1, 1), [7]))
WAITS = post("/v2/models/gate/infer", BODY)


@pytest.fixture(scope="module")
def strict(models: Path) -> Iterator[RunningServer]:
    """A server whose limits are low enough to be reached."""
    flags = (
        "--http-header-timeout-secs=2",
        "--http-body-timeout-secs=2",
        "--http-max-input-size=100000",
        "--grpc-max-message-size=100000",
        "--grpc-message-timeout-secs=2",
    )
    with run_server(models, *flags) as running:
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="module")
def strict_guard(strict: RunningServer) -> Iterator[Guard]:
    with Guard(strict) as made:
        yield made


@pytest.fixture(scope="module")
def pinging(models: Path) -> Iterator[RunningServer]:
    """A server that pings clients which say nothing, with calls or without."""
    times = ("--grpc-keepalive-time=1000", "--grpc-keepalive-timeout=1000")
    with run_server(models, *times, "--grpc-keepalive-permit-without-calls=true") as running:
        yield running
        assert running.stop() == 0


@pytest.fixture
def patient(strict: RunningServer, strict_guard: Guard) -> Iterator[RunningServer]:
    yield strict
    strict_guard.check()


def reset(raw: Raw) -> None:
    """End the connection with RST."""
    raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raw.socket.close()


def accounted(server: RunningServer, model: str) -> tuple[int, int, int]:
    """Requests of a model that succeeded, that were cancelled, and that failed otherwise."""
    cancelled = counter(server, "nv_inference_request_failure", model, reason="CANCELED")
    failed = counter(server, "nv_inference_request_failure", model)
    return counter(server, "nv_inference_request_success", model), cancelled, failed - cancelled


def idle(server: RunningServer, model: str) -> bool:
    return counter(server, "nv_inference_pending_request_count", model) == 0


def test_row_22_grpc_message_over_the_limit(patient: RunningServer) -> None:
    channel = Grpc(patient)
    request = message("fp32", ("INPUT0", "FP32", (1, 50_000)), raw=[bytes(200_000)])
    channel.refused(request, "RESOURCE_EXHAUSTED", "Received message larger than max (200")
    # and after it is unpacked
    with pytest.raises(grpc.RpcError) as caught:
        channel.infer(request, compression=grpc.Compression.Gzip)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    channel.infer(message("fp32", ("INPUT0", "FP32", (1, 1)), raw=[bytes(4)]), compression=grpc.Compression.Gzip)
    channel.close()


def test_row_22_http_bodies_over_the_limit(patient: RunningServer) -> None:
    over = document(tensor((1, 1), [7]), id="x" * 100_001)
    text = "Use --http-max-input-size to increase the limit."
    response = http(patient, "/v2/models/fp32/infer", over)
    assert response.status == 400
    assert response.document["error"] == (
        f"Request JSON size of {len(over)} bytes exceeds the maximum allowed value of 100000 bytes. {text}"
    )
    with Raw(patient.http_port) as raw:
        raw.send(b"POST /v2/models/fp32/infer HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        raw.send(b"%x\r\n%s\r\n0\r\n\r\n" % (len(over), over))
        assert raw.receive().document["error"].endswith(text)
        assert raw.send(LIVE).receive().status == 200
    # Triton limits the raw input and the JSON, not the binary data behind it
    data = bytes(400_000)
    header = document(tensor((1, 100_000), parameters={"binary_data_size": 400_000}))
    length = f"Inference-Header-Content-Length: {len(header)}"
    assert http(patient, "/v2/models/fp32/infer", header + data, length).status == 200
    raw_input = http(patient, "/v2/models/flat/infer", data, "Inference-Header-Content-Length: 0")
    assert raw_input.status == 400
    assert raw_input.document["error"].startswith("Request raw input size of 400000 bytes exceeds")


@pytest.mark.parametrize("cut", [1, 20, len(WAITS) - len(BODY), len(WAITS) - 1])
@pytest.mark.usefixtures("guarded")
def test_row_29_reset_within_a_request(server: RunningServer, cut: int) -> None:
    before = accounted(server, "gate")
    for _ in range(50):
        raw = Raw(server.http_port)
        raw.send(WAITS[:cut])
        reset(raw)
    assert http(server, "/v2/models/fp32/infer", BODY).status == 200
    assert accounted(server, "gate") == before


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.usefixtures("guarded")
def test_row_29_vanish_after_a_request(server: RunningServer, gate: Path, end: str) -> None:
    """The one that is being executed is finished, the others are never started; all are accounted for."""
    before = accounted(server, "gate")
    clients = [Raw(server.http_port) for _ in range(40)]
    for raw in clients:
        raw.send(WAITS)
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 39, "never queued")
    for raw in clients:
        # a client that only says that it sends no more still gets its answer: it must be gone altogether
        reset(raw) if end == "reset" else raw.socket.close()
    if end == "reset":
        eventually(lambda: accounted(server, "gate")[1] - before[1] >= 39, "those that wait are not given up")
    (gate / "open").touch()
    eventually(lambda: sum(accounted(server, "gate")) - sum(before) == 40, "not all are accounted for")
    assert idle(server, "gate")
    assert accounted(server, "gate")[2] == before[2]


@pytest.mark.usefixtures("guarded")
def test_row_29_grpc_cancel(server: RunningServer, gate: Path, rpc: Grpc) -> None:
    before = accounted(server, "gate")
    request = message("gate", ("INPUT0", "FP32", (1, 1)), raw=[bytes(4)]).SerializeToString()
    calls = [rpc.method().future(request, timeout=60) for _ in range(40)]
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 39, "never queued")
    for call in calls:
        call.cancel()
    eventually(lambda: accounted(server, "gate")[1] - before[1] >= 39, "those that wait are not given up")
    (gate / "open").touch()
    eventually(lambda: sum(accounted(server, "gate")) - sum(before) == 40, "not all are accounted for")
    assert accounted(server, "gate")[2] == before[2]


@pytest.mark.usefixtures("guarded")
def test_row_29_grpc_deadlines(server: RunningServer, gate: Path, rpc: Grpc) -> None:
    """Those that wait are given up when their time is over, whatever the instance does."""
    before = accounted(server, "gate")
    request = message("gate", ("INPUT0", "FP32", (1, 1)), raw=[bytes(4)]).SerializeToString()
    first = rpc.method().future(request, timeout=60)
    eventually((gate / "began").exists, "never began")
    sent = b"\0" + len(request).to_bytes(4, "big") + request
    connections = [H2(server.grpc_port) for _ in range(20)]
    for connection in connections:
        connection.headers(1, grpc_headers("ModelInfer", ("grpc-timeout", "50m")), end=False)
        connection.send(frame(DATA, END_STREAM, 1, sent))
    for connection in connections:
        assert connection.reply(1).status == 4
        connection.socket.close()
    eventually(lambda: sum(accounted(server, "gate")) - sum(before) == 20, "not all are accounted for")
    (gate / "open").touch()
    assert first.exception() is None
    assert sum(accounted(server, "gate")) - sum(before) == 21


@pytest.mark.usefixtures("guarded")
def test_row_29_reset_within_an_answer(server: RunningServer) -> None:
    request = post("/v2/models/huge/infer", document(tensor([1], [4 << 20], datatype="INT64"), **BINARY_OUTPUT))
    for _ in range(5):
        raw = Raw(server.http_port)
        raw.send(request)
        assert raw.socket.recv(1000)
        reset(raw)
    eventually(lambda: idle(server, "huge"), "requests are left")


@pytest.mark.usefixtures("guarded")
def test_row_29_storm_of_connections(server: RunningServer) -> None:
    for _ in range(20):
        clients = [Raw(server.http_port) for _ in range(50)] + [Raw(server.grpc_port) for _ in range(50)]
        for number, raw in enumerate(clients):
            reset(raw) if number % 2 else raw.socket.close()


def test_row_30_slow_heads_and_bodies(patient: RunningServer) -> None:
    """250 sockets that stand still in the head and 250 in the body: each gets 408, nobody else notices."""
    head = b"POST /v2/models/fp32/infer HTTP/1.1\r\nHo"
    body = post("/v2/models/fp32/infer", BODY)[:-5]
    clients = [Raw(patient.http_port, timeout_s=60) for _ in range(500)]
    for number, raw in enumerate(clients):
        raw.send(head if number % 2 else body)
    for raw in clients:
        assert is_live(patient)
        assert raw.receive().status == 408
        assert raw.ended()
        raw.socket.close()


@pytest.mark.parametrize("data", [b"X-Slow: " + b"x" * 100, b"x" * 100], ids=["head", "body"])
def test_row_30_drip(patient: RunningServer, data: bytes) -> None:
    """A byte now and then is no progress."""
    start = b"POST /v2/models/fp32/infer HTTP/1.1\r\n" + HOST
    if not data.startswith(b"X-"):
        start += b"Content-Length: 1000\r\n\r\n"
    with Raw(patient.http_port, timeout_s=0.1) as raw:
        raw.send(start)
        for byte in data:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                raw.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                assert raw.receive().status == 408
                break
        else:
            raise AssertionError("the connection was never closed")


@pytest.mark.parametrize("rpc_name", ["ModelInfer", "ModelStreamInfer", "ServerLive"])
def test_row_30_messages_that_stand_still(patient: RunningServer, rpc_name: str) -> None:
    """Calls that stop within their message are ended; others on the same connection, and a stream at rest, are not."""
    stalled = message("fp32", ("INPUT0", "FP32", (1, 1000)), raw=[bytes(4000)]).SerializeToString()
    part = b"\0" + len(stalled).to_bytes(4, "big") + stalled[:1000]
    connections = [H2(patient.grpc_port) for _ in range(100)]
    for connection in connections:
        connection.headers(1, grpc_headers("ModelStreamInfer"), end=False)
        connection.headers(3, grpc_headers(rpc_name), end=False).send(frame(DATA, 0, 3, part))
        assert connection.call(5, bytes(5)).status == 0
    for connection in connections:
        assert is_live(patient)
        reply = connection.reply(3)
        assert (reply.status, reply.headers["grpc-message"]) == (4, "the request message took too long")
        assert connection.send(frame(DATA, 1, 1)).reply(1).status == 0
        connection.socket.close()


@pytest.mark.parametrize("sent", ["nothing", "half a preface", "no call", "half a header block"])
def test_row_30_silent_grpc_connections_can_be_ended(pinging: RunningServer, sent: str) -> None:
    """gRPC gives a connection without calls all the time it wants; pings end those that do not answer."""
    start = {
        "nothing": b"",
        "half a preface": PREFACE[:10],
        "no call": PREFACE + settings(),
        "half a header block": PREFACE + settings() + frame(HEADERS, 0, 1, block(grpc_headers())[:20]),
    }
    with Raw(pinging.grpc_port, timeout_s=30) as raw:
        raw.send(start[sent])
        with contextlib.suppress(ConnectionResetError):
            while raw.socket.recv(65536):
                pass
    assert is_live(pinging)


def test_row_30_silent_connections_are_no_burden(patient: RunningServer) -> None:
    silent = [Raw(patient.http_port) for _ in range(200)] + [Raw(patient.grpc_port) for _ in range(200)]
    assert is_live(patient)
    for raw in silent:
        raw.socket.close()


BINARY_OUTPUT = {"parameters": {"binary_data_output": True}}


def huge(size: int) -> bytes:
    """A request whose answer has ``size`` bytes."""
    return post("/v2/models/huge/infer", document(tensor([1], [size // 4], datatype="INT64"), **BINARY_OUTPUT))


@pytest.mark.usefixtures("guarded")
def test_row_31_slow_reader(server: RunningServer) -> None:
    """64 MiB, read in small pieces at first; it comes whole, and others are answered meanwhile."""
    request = huge(64 * MIB)
    with Raw(server.http_port, timeout_s=60) as raw:
        raw.send(request)
        received = bytearray()
        for _ in range(50):
            received += raw.socket.recv(1000)
            time.sleep(0.002)
        assert is_live(server)
        head, _, rest = bytes(received).partition(b"\r\n\r\n")
        fields = [line.split(b": ") for line in head.lower().split(b"\r\n")[1:]]
        missing = int(dict(fields)[b"content-length"]) - len(rest)
        assert missing > 63 * MIB
        while missing:
            piece = raw.socket.recv(min(missing, MIB))
            assert piece, f"{missing} bytes never came"
            missing -= len(piece)
        assert raw.send(LIVE).receive().status == 200


@pytest.mark.usefixtures("guarded")
def test_row_31_never_reads(server: RunningServer) -> None:
    """A pipeline of 10^4 requests whose answers nobody reads: the server stops reading instead of keeping them."""
    request = post("/v2/models/fp32/infer", document(tensor((1, 100), [0.12345] * 100)))
    with Raw(server.http_port, timeout_s=0.5) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def attack() -> None:
            with contextlib.suppress(TimeoutError):
                for _ in range(100):
                    raw.send(request * 100)
            assert is_live(server)

        assert peak_growth(server, attack) < 64 * MIB
        reset(raw)


@pytest.mark.usefixtures("guarded")
def test_row_31_never_reads_large_answers(server: RunningServer) -> None:
    """Twenty answers of 4 MiB each to one connection: more than a few are not even made."""
    with Raw(server.http_port) as raw:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.send(huge(4 * MIB) * 20)
        for _ in range(20):
            assert is_live(server)
        reset(raw)
