# SPDX-License-Identifier: Apache-2.0
"""Every RPC, as each of its categories is restricted: no key, a wrong one, the right one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pyinfer.config.messages import pool
from pyinfer.config.restrictions import CATEGORIES
from pyinfer.frontends.endpoints import RPCS, Answer, Endpoint
from pyinfer.testing import RunningServer, run_server

#: one server restricts all categories with one key
FLAGS = (
    "--grpc-restricted-protocol=health,metadata,model-config,shared-memory:admin=s3cret",
    "--grpc-restricted-protocol=inference,statistics,model-repository,trace,logging:Client-Key=t0ken",
)
KEYS = {
    **dict.fromkeys(("health", "metadata", "model-config", "shared-memory"), ("admin", "s3cret")),
    **dict.fromkeys(("inference", "statistics", "model-repository", "trace", "logging"), ("client-key", "t0ken")),
}
BY_PATH = {endpoint.grpc_path: endpoint for endpoint in RPCS}


@pytest.fixture(scope="module")
def channel(models: Path) -> Iterator[grpc.Channel]:
    with run_server(models, *FLAGS) as server, grpc.insecure_channel(server.grpc) as made:
        yield made


def status(channel: grpc.Channel, endpoint: Endpoint, metadata: list[tuple[str, str]]) -> tuple[str, str]:
    """Code and details of one call with an empty message; of one that never ends, what its first message brings."""
    try:
        if endpoint.answer is Answer.STREAM or endpoint.rpc == "ModelStreamInfer":
            call = channel.stream_stream(endpoint.grpc_path)(iter([b""]), metadata=metadata, timeout=60)
            next(call)
            call.cancel()
        else:
            channel.unary_unary(endpoint.grpc_path)(b"", metadata=metadata, timeout=60)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK", ""


def test_every_method_of_the_protocol_has_a_category() -> None:
    """What is served is in the table, what is in the table has a category that can be restricted."""
    for name in sorted({endpoint.grpc_service for endpoint in RPCS}):
        for method in pool().FindServiceByName(name).methods:
            path = f"/{name}/{method.name}"
            assert path in BY_PATH, f"{path} is in protos/ but not among the endpoints"
    assert all(endpoint.category in CATEGORIES for endpoint in RPCS)


@pytest.mark.parametrize("path", BY_PATH)
@pytest.mark.parametrize("given", ["no key", "wrong key", "key of others", "right key"])
def test_restricted(channel: grpc.Channel, path: str, given: str) -> None:
    endpoint = BY_PATH[path]
    key, value = KEYS[endpoint.category]
    other, other_value = next(pair for pair in KEYS.values() if pair[0] != key)
    metadata = {
        "no key": [],
        "wrong key": [(f"triton-grpc-protocol-{key}", value + "x")],
        "key of others": [(f"triton-grpc-protocol-{other}", other_value), (key, value)],
        "right key": [(f"triton-grpc-protocol-{key}", value)],
    }[given]
    code, details = status(channel, endpoint, metadata)
    refusal = f"This protocol is restricted, expecting header 'triton-grpc-protocol-{key}'"
    if given == "right key":
        assert details != refusal
        assert code in ("OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNAVAILABLE", "UNIMPLEMENTED"), (code, details)
    else:
        assert (code, details) == ("UNAVAILABLE", refusal)


def test_what_is_not_restricted_needs_no_key(models: Path) -> None:
    with (
        run_server(models, "--grpc-restricted-protocol=inference:k=v") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        for endpoint in RPCS:
            code, details = status(channel, endpoint, [])
            assert details.startswith("This protocol is restricted") == (endpoint.category == "inference"), endpoint
            assert code != "UNKNOWN"


def test_an_unknown_method_is_unknown_not_restricted(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_running_server_is_still_ready(models: Path) -> None:
    """The restriction is of gRPC alone."""
    with run_server(models, *FLAGS) as server:
        assert isinstance(server, RunningServer)
        assert server.is_ready()
