# SPDX-License-Identifier: Apache-2.0
"""Rows 36 and 37: calls that break the rules of gRPC, and messages that break those of protobuf."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator

import pytest
from tritonclient.grpc import service_pb2 as pb

from faults.client import Grpc, check_text, message
from faults.guard import counter, peak_growth
from faults.h2raw import H2, Reply, grpc_headers
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

GOOD = message("flat", ("INPUT0", "FP32", [2]), raw=[bytes(8)]).SerializeToString()
DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, INVALID_ARGUMENT = 4, 12, 13, 3


@pytest.fixture
def connection(server: RunningServer) -> Iterator[H2]:
    """Each test must leave it usable."""
    with H2(server.grpc_port) as made:
        yield made
        assert made.call(1001, prefixed(b"")).status == 0


def prefixed(data: bytes, *, flag: int = 0, size: int | None = None) -> bytes:
    return bytes([flag]) + (len(data) if size is None else size).to_bytes(4, "big") + data


def refused(reply: Reply, status: int, text: str = "") -> None:
    assert (reply.status, reply.headers[":status"], reply.headers["content-type"]) == (
        status,
        "200",
        "application/grpc",
    )
    assert not reply.body
    assert text in check_text(reply.headers["grpc-message"]), reply


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "application/grp",
        "application/grpcx",
        "application/grpc-web",
        "application/grpc+json",
    ],
)
def test_row_36_content_type(connection: H2, content_type: str | None) -> None:
    reply = connection.call(1, prefixed(GOOD), grpc_headers("ModelInfer", content_type=content_type))
    assert reply.headers[":status"] == "415"
    assert reply.status == -1


@pytest.mark.parametrize("content_type", ["application/grpc+proto", "application/grpc;charset=utf-8"])
def test_row_36_content_type_variants(connection: H2, content_type: str) -> None:
    assert connection.call(1, prefixed(GOOD), grpc_headers("ModelInfer", content_type=content_type)).status == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "BREW"])
def test_row_36_method(connection: H2, method: str) -> None:
    assert connection.headers(1, grpc_headers(method=method)).reply(1).headers[":status"] == "405"


@pytest.mark.parametrize("path", ["/", "/x", "/inference.GRPCInferenceService/None", "/" + "x" * 5000, "/a%0a/b", "*"])
def test_row_36_unknown_method(connection: H2, path: str) -> None:
    if path == "*":  # only OPTIONS may say so
        assert connection.headers(1, grpc_headers(path=path)).ending(1).how == "reset"
        return
    refused(connection.call(1, prefixed(b""), grpc_headers(path=path)), UNIMPLEMENTED, "unknown method")


PREFIXES = {
    "nothing": (b"", "ended before its message was complete"),
    "half a prefix": (b"\0\0\0", "ended before its message was complete"),
    "prefix alone": (prefixed(b"", size=5), "ended before its message was complete"),
    "half a message": (prefixed(GOOD[:-5], size=len(GOOD)), "ended before its message was complete"),
    "longer than its length": (prefixed(GOOD, size=len(GOOD) - 1), "exactly one message"),
    "two messages": (prefixed(GOOD) * 2, "exactly one message"),
    "half a second message": (prefixed(GOOD) + b"\0\0", "exactly one message"),
    "2^31 - 1 announced": (prefixed(b"x", size=2**31 - 1), "ended before its message was complete"),
    "unknown flag": (prefixed(GOOD, flag=2), ""),
    "flag of 255": (prefixed(GOOD, flag=255), ""),
    "compressed without an encoding": (prefixed(gzip.compress(GOOD), flag=1), "names no grpc-encoding"),
}


@pytest.mark.parametrize("case", PREFIXES)
def test_row_36_message_prefix(server: RunningServer, connection: H2, case: str) -> None:
    data, text = PREFIXES[case]

    def attack() -> None:
        refused(connection.call(1, data, grpc_headers("ModelInfer")), INTERNAL, text)

    assert peak_growth(server, attack) < 8 << 20


@pytest.mark.parametrize("rpc_name", ["ModelInfer", "ServerLive"])
def test_row_36_message_larger_than_the_limit(connection: H2, rpc_name: str) -> None:
    """4 GiB are announced: refused at once, whatever follows."""
    reply = connection.call(1, prefixed(b"x", size=2**32 - 1), grpc_headers(rpc_name))
    refused(reply, 8, "Received message larger than max (4294967295 vs. 2147483647)")


def test_row_36_no_body(connection: H2) -> None:
    refused(
        connection.headers(1, grpc_headers("ModelInfer")).reply(1), INTERNAL, "ended before its message was complete"
    )


@pytest.mark.parametrize("encoding", ["br", "snappy", "gzip, gzip", "GZIP", "x" * 1000])
def test_row_36_unknown_encoding(connection: H2, encoding: str) -> None:
    headers = grpc_headers("ModelInfer", ("grpc-encoding", encoding))
    reply = connection.call(1, prefixed(GOOD), headers)
    refused(reply, UNIMPLEMENTED, "is not supported")
    assert reply.headers["grpc-accept-encoding"] == "identity,deflate,gzip"


ENCODED = {
    "truncated": ("gzip", gzip.compress(GOOD)[:-9]),
    "wrong checksum": ("gzip", gzip.compress(GOOD)[:-8] + bytes(8)),
    "not compressed": ("gzip", GOOD),
    "two members": ("gzip", gzip.compress(GOOD) * 2),
    "gzip called deflate": ("deflate", gzip.compress(GOOD)),
    "deflate called gzip": ("gzip", zlib.compress(GOOD)),
    "identity": ("identity", GOOD),
}


@pytest.mark.parametrize("case", ENCODED)
def test_row_36_damaged_compression(connection: H2, case: str) -> None:
    encoding, data = ENCODED[case]
    reply = connection.call(1, prefixed(data, flag=1), grpc_headers("ModelInfer", ("grpc-encoding", encoding)))
    assert reply.status in (INTERNAL, INVALID_ARGUMENT), reply
    check_text(reply.headers["grpc-message"])


def test_row_36_uncompressed_message_of_a_compressing_client(connection: H2) -> None:
    headers = grpc_headers("ModelInfer", ("grpc-encoding", "gzip"))
    assert connection.call(1, prefixed(GOOD), headers).status == 0
    assert connection.call(3, prefixed(gzip.compress(GOOD), flag=1), headers).status == 0


@pytest.mark.parametrize("value", ["0n", "0H", "00000000S", "1n"])
def test_row_36_deadline_that_is_over(server: RunningServer, connection: H2, value: str) -> None:
    before = counter(server, "nv_inference_request_success", "slow")
    slow = message("slow", ("INPUT0", "FP32", [1, 1]), raw=[bytes(4)]).SerializeToString()
    reply = connection.call(1, prefixed(slow), grpc_headers("ModelInfer", ("grpc-timeout", value)))
    refused(reply, DEADLINE_EXCEEDED, "Deadline Exceeded")
    assert counter(server, "nv_inference_request_success", "slow") == before


@pytest.mark.parametrize("value", ["99999999H", "99999999n", "1H", "00000001M"])
def test_row_36_deadline_that_is_far(connection: H2, value: str) -> None:
    # 99999999 ns are 100 ms: the call itself is quicker by far, or tells that it was not
    reply = connection.call(1, prefixed(GOOD), grpc_headers("ModelInfer", ("grpc-timeout", value)))
    assert reply.status in ((0, DEADLINE_EXCEEDED) if value.endswith("n") else (0,))


@pytest.mark.parametrize("value", ["", "1", "S", "-1S", "+1S", "1s", "1.5S", "1 S", "0x1S", "123456789S", "1SS", "１S"])
def test_row_36_malformed_timeout(connection: H2, value: str) -> None:
    reply = connection.call(1, prefixed(GOOD), grpc_headers("ModelInfer", ("grpc-timeout", value)))
    refused(reply, INTERNAL, "malformed grpc-timeout")


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def field(number: int, wire: int, data: bytes = b"") -> bytes:
    prefix = varint(number << 3 | wire)
    return prefix + varint(len(data)) + data if wire == 2 else prefix + data


NAME = field(1, 2, b"flat")
INPUT = field(1, 2, b"INPUT0") + field(2, 2, b"FP32")
SHAPE = field(3, 2, b"\2")
RAW = field(7, 2, bytes(8))


def nested(levels: int, number: int) -> bytes:
    data = b""
    for _ in range(levels):
        data = field(number, 2, data)
    return data


MALFORMED = {
    "truncated": GOOD[:-1],
    "truncated early": GOOD[:3],
    "one byte": b"\x0a",
    "length beyond the message": field(1, 2, b"flat")[:-1] + RAW,
    "length of 2^64 - 1": b"\x0a" + b"\xff" * 9 + b"\x01",
    "length of 2^63": b"\x3a" + varint(1 << 63) + b"x",
    "endless varint": b"\x0a" + b"\xff" * 20,
    "field number 0": field(0, 0, b"\1"),
    "group": NAME + field(9, 3) + field(9, 4),
    "end of a group": NAME + field(9, 4),
    "10^4 groups": NAME + field(9, 3) * 10_000,
    "wire type 6": NAME + field(9, 6),
    "wire type 7": NAME + field(9, 7, b"xxxx"),
    "name that is no UTF-8": field(1, 2, b"\xff") + RAW,
    "id that is no UTF-8": NAME + field(3, 2, b"\xed\xa0\x80"),
    "input name that is no UTF-8": NAME + field(5, 2, field(1, 2, b"\xc0\x80")),
    "truncated input": NAME + field(5, 2, INPUT[:-1]) + RAW,
    "shape cut": NAME + field(5, 2, INPUT + field(3, 2, b"\x80")) + RAW,
    "shape of 11 bytes": NAME + field(5, 2, INPUT + field(3, 2, b"\xff" * 10 + b"\1")) + RAW,
    "truncated parameter": NAME + field(4, 2, field(1, 2, b"a") + b"\x12\x05") + RAW,
    "truncated contents": NAME + field(5, 2, INPUT + SHAPE + field(5, 2, field(6, 2, bytes(7)))),
    "floats as varints": NAME + field(5, 2, INPUT + SHAPE + field(5, 2, field(6, 0, b"\1") * 2)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_row_37_malformed_message(rpc: Grpc, case: str) -> None:
    rpc.refused(MALFORMED[case], "INVALID_ARGUMENT")


WHOLE_INPUT = field(5, 2, INPUT + SHAPE)
ACCEPTED = {
    "unpacked shape": NAME + field(5, 2, INPUT + field(3, 0, b"\2")) + RAW,
    "shape in two packed pieces": field(1, 2, b"plane") + field(5, 2, INPUT + SHAPE + field(3, 2, b"\1")) + RAW,
    "packed and unpacked": field(1, 2, b"plane") + field(5, 2, INPUT + SHAPE + field(3, 0, b"\1")) + RAW,
    "unpacked floats": NAME + field(5, 2, INPUT + SHAPE + field(5, 2, field(6, 5, bytes(4)) * 2)),
    "packed and unpacked floats": NAME
    + field(5, 2, INPUT + SHAPE + field(5, 2, field(6, 5, bytes(4)) + field(6, 2, bytes(4)))),
    "order of fields": RAW + WHOLE_INPUT + NAME,
    "name twice": field(1, 2, b"none") + NAME + WHOLE_INPUT + RAW,
    "varint with leading zeros": b"\x8a\x80\x00\x84\x80\x00flat" + WHOLE_INPUT + RAW,
    "unknown fields": NAME
    + field(900, 0, b"\1")
    + field(901, 2, b"x" * 1000)
    + field(902, 5, b"xxxx")
    + WHOLE_INPUT
    + RAW,
    "10^5 unknown fields": NAME + field(900, 0, b"\1") * 100_000 + WHOLE_INPUT + RAW,
    "10^4 unknown levels": NAME + nested(10_000, 900) + WHOLE_INPUT + RAW,
    "10^4 levels where an input's parameter is": NAME + field(5, 2, INPUT + SHAPE + nested(10_000, 900)) + RAW,
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_row_37_unusual_message(rpc: Grpc, case: str) -> None:
    response = pb.ModelInferResponse.FromString(rpc.call(ACCEPTED[case]))
    assert response.raw_output_contents[0] == bytes(8)


def test_row_37_very_many_parameters(server: RunningServer, rpc: Grpc) -> None:
    """10^6, all taken, at a memory cost that is in proportion to the 37 MB that they are."""
    value = field(2, 2, field(3, 2, b"some text of no use"))
    request = GOOD + b"".join(field(4, 2, field(1, 2, b"key%06d" % number) + value) for number in range(1_000_000))
    assert peak_growth(server, lambda: rpc.call(request)) < 512 << 20


def test_row_37_wrong_types_of_fields(rpc: Grpc) -> None:
    """A known number with another wire type is an unknown field, as protobuf has it: the model has no name then."""
    rpc.refused(field(1, 0, b"\1") + WHOLE_INPUT + RAW, "NOT_FOUND")
    rpc.refused(field(1, 5, b"flat") + WHOLE_INPUT + RAW, "NOT_FOUND")
    rpc.refused(NAME + field(5, 0, b"\1") + RAW, "INVALID_ARGUMENT", "raw_input_contents has 1 entries for 0 inputs")


CONTROL = ["ServerMetadata", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics", "RepositoryIndex"]


@pytest.mark.parametrize("rpc_name", [*CONTROL, "RepositoryModelLoad", "RepositoryModelUnload"])
@pytest.mark.parametrize("data", [b"\x0a\x05a", b"\x0b" * 10_000, b"\xff" * 100, field(1, 2, b"\xff")], ids=ascii)
def test_row_37_malformed_control_messages(rpc: Grpc, rpc_name: str, data: bytes) -> None:
    if rpc_name == "ServerMetadata" and data == field(1, 2, b"\xff"):
        rpc.call(data, rpc_name)  # its request has no fields
        return
    rpc.refused(data, "INVALID_ARGUMENT", f"failed to parse the {rpc_name} request message", name=rpc_name)
