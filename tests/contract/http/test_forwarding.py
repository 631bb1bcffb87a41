# SPDX-License-Identifier: Apache-2.0
"""Headers that become request parameters, as a Python model sees them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contract.conftest import add_model
from contract.grpc.test_forwarding import CONFIG, SHOW
from contract.http.raw import Raw, Response, post
from pyinfer.testing import RunningServer, run_server

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033%02x-01"
PATTERN = "--http-header-forward-pattern=^(x-|priority|traceparent|content-type|host|admin)"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("forwarding")
    add_model(made, "show", CONFIG, {"model.py": SHOW})
    return made


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with run_server(repository, PATTERN, "--http-restricted-api=statistics:Admin=secret") as running:
        yield running


def request(*headers: str, **parameters: Any) -> bytes:
    tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [1], "data": [1]}
    return post("/v2/models/show/infer", json.dumps({"inputs": [tensor], "parameters": parameters}).encode(), *headers)


def shown(response: Response) -> dict[str, Any]:
    assert response.status == 200, response.body
    parameters: dict[str, Any] = json.loads(response.document["outputs"][0]["data"][0])
    assert parameters.pop("Host") == "test"
    return parameters


def test_names_and_values_are_as_the_client_wrote_them(server: RunningServer) -> None:
    headers = ["X-Tenant: acme", "x-tenant:  b ", "other: 1", "x-empty:", "Content-Type: a/b", "Admin: secret"]
    expected = {"mine": 7, "X-Tenant": "acme", "x-tenant": "b", "x-empty": "", "Content-Type": "a/b"}
    with Raw(server.http_port) as raw:
        for _ in range(2):  # the head is known the second time
            assert shown(raw.send(request(*headers, mine=7)).receive()) == expected


def test_a_header_counts_more_than_a_parameter(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        assert shown(raw.send(request("x-a: header", **{"x-a": "body", "b": True})).receive()) == {
            "x-a": "header",
            "b": True,
        }


def test_each_request_has_its_own_trace(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for number in (1, 2, 2, 3):
            parent = PARENT % number
            response = raw.send(request(f"traceparent: {parent}")).receive()
            assert shown(response) == {"traceparent": parent}
        assert shown(raw.send(request()).receive()) == {}


def test_large_and_compressed_bodies(server: RunningServer) -> None:
    """Read on another thread."""
    tensor = {"name": "INPUT0", "datatype": "UINT8", "shape": [200_000], "data": [1] * 200_000}
    body = json.dumps({"inputs": [tensor]}).encode()
    with Raw(server.http_port) as raw:
        assert shown(raw.send(post("/v2/models/show/infer", body, "x-a: 1")).receive()) == {"x-a": "1"}
        packed = post("/v2/models/show/infer", gzip.compress(body), "x-a: 2", "Content-Encoding: gzip")
        assert shown(raw.send(packed).receive()) == {"x-a": "2"}


@pytest.mark.parametrize("header", ["priority: 1", "Priority: 1"])
def test_reserved_names_are_refused(server: RunningServer, header: str) -> None:
    name = header.partition(":")[0]
    with Raw(server.http_port) as raw:
        refused = raw.send(request(header, "x-a: 1")).receive()
        assert refused.status == 400
        text = f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
        assert refused.document == {"error": text}
        # neither the connection nor a control request is harmed
        get = f"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n{header}\r\n\r\n".encode()
        assert raw.send(get).receive().status == 200
        assert shown(raw.send(request("x-a: 1")).receive()) == {"x-a": "1"}


def test_values_that_are_no_text_are_refused(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        data = request("x-a: @").replace(b"@", b"\xff")
        refused = raw.send(data).receive()
        assert refused.document == {"error": "Header 'x-a' cannot be forwarded: its value is not UTF-8 text."}


def test_nothing_is_forwarded_unless_asked_for(repository: Path) -> None:
    with run_server(repository) as server, Raw(server.http_port) as raw:
        response = raw.send(request("x-a: 1", "priority: 1", "triton_x: 1")).receive()
        assert json.loads(response.document["outputs"][0]["data"][0]) == {}


def test_a_pattern_that_is_none(repository: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="--http-header-forward-pattern: .* is not a regular expression of RE2"),
        run_server(repository, "--http-header-forward-pattern=("),
    ):
        pass
