# SPDX-License-Identifier: Apache-2.0
"""Streams of inference: rows 12, 15, 16, 22, 29, 31, 36, 37, 38, 47, 54 and 63 over ModelStreamInfer.

What is wrong with one request is said in its place, and the stream goes on; what is wrong with a stream ends it alone.
"""

from __future__ import annotations

import gzip
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from faults import h2raw as h2
from faults.client import Grpc, check_text, message
from faults.guard import counter
from faults.h2raw import END_STREAM, H2, frame, grpc_headers
from faults.test_grpc_wire import ACCEPTED, GOOD, MALFORMED, prefixed, refused
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

pytestmark = pytest.mark.usefixtures("guarded")

MIB = 1 << 20
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNIMPLEMENTED, INTERNAL = 4, 8, 12, 13


@pytest.fixture
def talk(server: RunningServer) -> Iterator[Callable[..., Any]]:
    """Starts one call of bytes; its iterator is what the server answers."""
    unlimited = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc, options=[*unlimited, ("grpc.use_local_subchannel_pool", 1)]) as channel:
        method = channel.stream_stream(STREAM)

        def start(requests: Any, *, timeout_s: float = 60, **options: Any) -> Any:
            return method(iter(requests), timeout=timeout_s, **options)

        yield start


@pytest.fixture
def connection(server: RunningServer) -> Iterator[H2]:
    with H2(server.grpc_port) as made:
        yield made
        assert made.call(1001, prefixed(b"")).status == 0


def answers(call: Any) -> list[pb.ModelStreamInferResponse]:
    return [pb.ModelStreamInferResponse.FromString(data) for data in call]


def values(response: pb.ModelStreamInferResponse) -> list[float]:
    return np.frombuffer(response.infer_response.raw_output_contents[0], "<f4").tolist()


def flat(number: float, request_id: str = "") -> bytes:
    data = np.array([number], "<f4").tobytes()
    return message("flat", ("INPUT0", "FP32", [1]), raw=[data], request_id=request_id).SerializeToString()


def slow(number: float, model: str = "slow") -> bytes:
    data = np.array([number], "<f4").tobytes()
    return message(model, ("INPUT0", "FP32", [1, 1]), raw=[data]).SerializeToString()


def many(count: int, elements: int) -> bytes:
    data = np.array([count, elements], "<i8").tobytes()
    return message("many", ("INPUT0", "INT64", [2]), raw=[data]).SerializeToString()


def with_parameter(**value: Any) -> bytes:
    made = pb.ModelInferRequest.FromString(flat(1, "id"))
    ((name, given),) = value.items()
    kind = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}[type(given)]
    setattr(made.parameters[name], kind, given)
    return made.SerializeToString()


BAD_REQUESTS: dict[str, tuple[bytes, str]] = {
    "12: too few raw contents": (
        message("flat", ("INPUT0", "FP32", [1])).SerializeToString(),
        "unable to find data for input tensor 'INPUT0' for model 'flat' in request.",
    ),
    "12: too many raw contents": (
        message("flat", ("INPUT0", "FP32", [1]), raw=[bytes(4), bytes(4)]).SerializeToString(),
        "raw_input_contents has 2 entries for 1 inputs",
    ),
    "13: unknown input": (
        message("flat", ("OTHER", "FP32", [1]), raw=[bytes(4)]).SerializeToString(),
        "unexpected inference input 'OTHER' for model 'flat'",
    ),
    "15: unknown model": (message("none").SerializeToString(), "Request for unknown model: 'none' is not found"),
    "15: unknown version": (
        message("flat", version="7").SerializeToString(),
        "Request for unknown model: 'flat' version 7 is not found",
    ),
    "15: malformed version": (message("flat", version="1e3").SerializeToString(), "failed to get model version from"),
    "16: long id": (flat(1, "x" * 5000), "the request id has 5000 bytes"),
    "16: id with a line break": (flat(1, "a\nb"), "the request id contains a control character"),
    "16: reserved parameter": (with_parameter(triton_x=1), "parameter keys starting with 'triton_' are reserved"),
    "16: parameter of a wrong type": (with_parameter(priority="high"), "priority"),
}


@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_rows_12_to_16_bad_requests(talk: Callable[..., Any], case: str) -> None:
    request, text = BAD_REQUESTS[case]
    first, error, last = answers(talk([flat(1), request, flat(2)]))
    assert (values(first), values(last)) == ([1], [2])
    assert text in check_text(error.error_message)
    assert not error.infer_response.outputs


def test_row_15_an_unloaded_model_comes_back(talk: Callable[..., Any], rpc: Grpc) -> None:
    name = pb.RepositoryModelUnloadRequest(model_name="fixed").SerializeToString()
    rpc.call(name, "RepositoryModelUnload")
    data = np.ones(4, "<f4").tobytes()
    request = message("fixed", ("INPUT0", "FP32", [1, 4]), raw=[data]).SerializeToString()
    (error,) = answers(talk([request]))
    assert error.error_message.startswith("Request for unknown model: 'fixed'")
    rpc.call(name, "RepositoryModelLoad")
    (answer,) = answers(talk([request]))
    assert values(answer) == [1, 1, 1, 1]


@pytest.mark.parametrize("case", MALFORMED)
def test_row_37_malformed_messages(talk: Callable[..., Any], case: str) -> None:
    first, error, last = answers(talk([flat(1), MALFORMED[case], flat(2)]))
    assert (values(first), values(last)) == ([1], [2])
    check_text(error.error_message)


@pytest.mark.parametrize("case", ACCEPTED)
def test_row_37_unusual_messages(talk: Callable[..., Any], case: str) -> None:
    (answer,) = answers(talk([ACCEPTED[case]]))
    assert not answer.error_message


ENDINGS: dict[str, tuple[bytes, int, str]] = {
    "36: cut within the prefix": (b"\0\0", INTERNAL, "the call ended before its message was complete"),
    "36: cut within a message": (prefixed(GOOD)[:-1], INTERNAL, "the call ended before its message was complete"),
    "36: longer than the limit": (b"\0\xff\xff\xff\xff", RESOURCE_EXHAUSTED, "Received message larger than max"),
    "36: compressed without an encoding": (prefixed(GOOD, flag=1), INTERNAL, "names no grpc-encoding"),
    "36: unknown flag": (prefixed(GOOD, flag=7), INTERNAL, "names no grpc-encoding"),
}


@pytest.mark.parametrize("case", ENDINGS)
def test_row_36_what_ends_a_stream(connection: H2, case: str) -> None:
    data, status, text = ENDINGS[case]
    reply = connection.call(1, prefixed(flat(1)) + data, grpc_headers(STREAM))
    assert reply.status == status
    assert text in check_text(reply.headers["grpc-message"])


@pytest.mark.parametrize("data", [b"nonsense", gzip.compress(GOOD)[:-9], gzip.compress(GOOD) + b"x"], ids=ascii)
def test_row_36_damaged_compression(connection: H2, data: bytes) -> None:
    headers = grpc_headers(STREAM, ("grpc-encoding", "gzip"))
    reply = connection.call(1, prefixed(gzip.compress(GOOD), flag=1) + prefixed(data, flag=1), headers)
    assert reply.status in (INTERNAL, 3)


def test_row_36_heads_of_streams(connection: H2) -> None:
    refused(
        connection.call(1, prefixed(GOOD), grpc_headers(STREAM, ("grpc-encoding", "br"))),
        UNIMPLEMENTED,
        "grpc-encoding",
    )
    refused(connection.call(3, prefixed(GOOD), grpc_headers(STREAM, ("grpc-timeout", "1s"))), INTERNAL, "malformed")
    reply = connection.call(5, prefixed(GOOD), grpc_headers(STREAM, ("grpc-timeout", "0n")))
    assert (reply.status, reply.body) == (DEADLINE_EXCEEDED, b"")
    assert connection.call(7, prefixed(GOOD), grpc_headers(STREAM, content_type="application/json")).headers[
        ":status"
    ] == ("415")
    reply = connection.call(9, b"", grpc_headers(STREAM))
    assert (reply.status, reply.body) == (0, b"")


def test_row_22_messages_over_the_limit(models: Path) -> None:
    with (
        run_server(models, "--grpc-max-message-size=100000") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        large = message("flat", ("INPUT0", "FP32", [50_000]), raw=[bytes(200_000)]).SerializeToString()

        def requests(answered: threading.Event) -> Iterator[bytes]:
            yield flat(1)
            answered.wait(60)  # the end of a call does not wait for answers
            yield large

        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            answered = threading.Event()
            call = channel.stream_stream(STREAM)(requests(answered), timeout=60, compression=compression)
            assert values(pb.ModelStreamInferResponse.FromString(next(call))) == [1]
            answered.set()
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert len(answers(channel.stream_stream(STREAM)(iter([flat(1)] * 3), timeout=60))) == 3


def accounted(server: RunningServer, model: str) -> int:
    """Requests of a model that have come to their end."""
    return counter(server, "nv_inference_request_success", model) + counter(
        server, "nv_inference_request_failure", model
    )


def accounted_when_idle(server: RunningServer, talk: Callable[..., Any]) -> int:
    """The same for the model "slow", once what earlier tests left behind has ended: it takes one after the other."""
    answers(talk([slow(0)]))
    return accounted(server, "slow")


def test_row_38_the_client_ends_early(server: RunningServer, talk: Callable[..., Any]) -> None:
    """Half-closed right after its requests: each is answered."""
    assert [values(answer) for answer in answers(talk([slow(number) for number in range(10)]))] == [
        [number] for number in range(10)
    ]


def test_row_38_the_client_cancels(server: RunningServer, gate: Path, talk: Callable[..., Any]) -> None:
    def cancelled() -> int:
        return counter(server, "nv_inference_request_failure", "gate", reason="CANCELED")

    before, cancelled_before = accounted(server, "gate"), cancelled()
    ending = threading.Event()

    def requests() -> Iterator[bytes]:
        yield from (slow(number, "gate") for number in range(50))
        ending.wait(60)

    call = talk(requests())
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 49, "never queued")
    call.cancel()
    ending.set()
    eventually(lambda: cancelled() - cancelled_before >= 49, "those that wait are not given up")
    (gate / "open").touch()
    eventually(lambda: accounted(server, "gate") - before == 50, "not all are accounted for")


def test_row_38_an_error_in_item_k(talk: Callable[..., Any]) -> None:
    for k in (0, 1, 50, 99):
        requests = [flat(number, str(number)) for number in range(100)]
        requests[k] = message("none", request_id=str(k)).SerializeToString()
        responses = answers(talk(requests))
        assert [response.infer_response.id for response in responses] == [str(number) for number in range(100)]
        assert [bool(response.error_message) for response in responses] == [number == k for number in range(100)]


def test_row_47_very_many_responses(talk: Callable[..., Any]) -> None:
    count = 20_000
    responses = answers(talk([many(count, 1)]))
    assert [int(np.frombuffer(r.infer_response.raw_output_contents[0], "<i8")[0]) for r in responses] == list(
        range(count)
    )


def test_row_29_connections_that_are_lost(server: RunningServer, talk: Callable[..., Any]) -> None:
    """Reset within a message, after it, and while answers come."""
    before = accounted_when_idle(server, talk)
    linger = struct.pack("ii", 1, 0)
    whole = prefixed(slow(1)) * 5
    for cut in (3, len(whole) - 2, len(whole)):
        for _ in range(5):
            with H2(server.grpc_port) as connection:
                connection.headers(1, grpc_headers(STREAM), end=False)
                connection.send(frame(h2.DATA, 0, 1, whole[:cut]))
                assert connection.is_alive()
                connection.socket.setsockopt(h2.socket.SOL_SOCKET, h2.socket.SO_LINGER, linger)
    eventually(lambda: accounted(server, "slow") - before == 5 * (0 + 4 + 5), "not all are accounted for")
    with H2(server.grpc_port) as connection:
        connection.headers(1, grpc_headers(STREAM), end=False)
        connection.send(frame(h2.DATA, 0, 1, prefixed(many(100_000, 1000))))
        next(found for found in connection.frames() if found.kind == h2.DATA)
        connection.socket.setsockopt(h2.socket.SOL_SOCKET, h2.socket.SO_LINGER, linger)
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "many") == 0, "requests are left")


def test_row_35_resets_of_streams(server: RunningServer, talk: Callable[..., Any]) -> None:
    """Streams that are reset with requests in them count like calls that are."""
    before = accounted_when_idle(server, talk)
    with H2(server.grpc_port) as connection:
        for stream in range(1, 4001, 2):
            connection.headers(stream, grpc_headers(STREAM), end=False)
            connection.send(
                frame(h2.DATA, 0, stream, prefixed(slow(1)) * 3) + frame(h2.RST_STREAM, 0, stream, struct.pack(">I", 8))
            )
        ending = connection.ending()
        assert ending.how == "closed" or (ending.how, ending.code) in (("goaway", 11), ("goaway", 2))
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "slow") == 0, "requests are left")
    succeeded = counter(server, "nv_inference_request_success", "slow")
    assert accounted(server, "slow") > before
    assert succeeded < 1000


@pytest.mark.parametrize("timeout_s", [0.001, 0.05, 0.3])
def test_row_63_deadlines(server: RunningServer, talk: Callable[..., Any], timeout_s: float) -> None:
    before = accounted_when_idle(server, talk)
    with pytest.raises(grpc.RpcError) as caught:
        answers(talk([slow(number) for number in range(20)], timeout_s=timeout_s))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "slow") == 0, "requests are left")
    assert accounted(server, "slow") - before <= 20


def test_row_54_the_server_ends(models: Path, gate: Path) -> None:
    """Ten streams with requests under way and ten that are idle: what was accepted is answered, then all end."""
    with run_server(models) as server, grpc.insecure_channel(server.grpc) as channel:
        ending = threading.Event()

        def requests(count: int) -> Iterator[bytes]:
            yield from (slow(number, "gate") for number in range(count))
            ending.wait(60)

        method = channel.stream_stream(STREAM)
        busy = [method(requests(3), timeout=60) for _ in range(10)]
        idle = [method(requests(0), timeout=60) for _ in range(10)]
        eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 29, "never queued")
        server.process.send_signal(signal.SIGTERM)
        eventually(lambda: turned_away(server), "it goes on")
        (gate / "open").touch()
        for call in busy:
            numbers: list[list[float]] = []
            with pytest.raises(grpc.RpcError) as caught:
                numbers.extend(values(pb.ModelStreamInferResponse.FromString(data)) for data in call)
            assert numbers == [[0], [1], [2]]
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            assert caught.value.details().startswith("GRPC server is shutting down")
        for call in idle:
            with pytest.raises(grpc.RpcError) as caught:
                next(call)
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        ending.set()
        assert server.process.wait(60) == 0
        assert "All requests are answered, all models are stopped." in server.log
        assert "Traceback" not in server.log


def turned_away(server: RunningServer) -> bool:
    """Whether a new connection is."""
    try:
        H2(server.grpc_port).socket.close()
    except OSError:
        return True
    return False


def test_row_38_streams_end_with_their_last_answer(connection: H2) -> None:
    """One that the client has ended is not reset; one that it has not is asked to stop."""
    assert connection.call(1, prefixed(flat(1)), grpc_headers(STREAM)).status == 0
    connection.headers(3, grpc_headers(STREAM), end=False)
    connection.send(frame(h2.DATA, 0, 3, b"\0\xff\xff\xff\xff"))
    assert connection.reply(3).status == RESOURCE_EXHAUSTED
    assert connection.ending(3) == ("reset", 0)
    connection.send(frame(h2.DATA, END_STREAM, 3, b"too late"))
