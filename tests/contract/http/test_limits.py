# SPDX-License-Identifier: Apache-2.0
"""Slow, stalled and too many clients: each is ended by its own limit, and the others notice nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer, run_server

LIVE = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def strict(models: Path) -> Iterator[RunningServer]:
    flags = (
        "--http-header-timeout-secs=1",
        "--http-body-timeout-secs=1",
        "--max-connections=20",
        "--http-max-input-size=100000",
    )
    with run_server(models, *flags) as server:
        yield server


@pytest.fixture(scope="module")
def impatient(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--idle-timeout-secs=2") as server:
        yield server


def test_slow_head(strict: RunningServer) -> None:
    with Raw(strict.http_port) as raw, Raw(strict.http_port) as other:
        raw.send(b"GET /v2 HTTP/1.1\r\nHost")
        assert raw.receive().status == 408
        assert raw.ended()
        assert other.send(LIVE).receive().status == 200


def test_slow_body(strict: RunningServer) -> None:
    with Raw(strict.http_port) as raw:
        raw.send(post("/v2/models/fp32/infer", b"x" * 100)[:-50])
        assert raw.receive().status == 408
        assert raw.ended()


def test_slow_chunked_body(strict: RunningServer) -> None:
    with Raw(strict.http_port) as raw:
        raw.send(b"POST /v2/models/fp32/infer HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab")
        assert raw.receive().status == 408
        assert raw.ended()


def test_idle_connection_is_closed_without_a_word(impatient: RunningServer) -> None:
    with Raw(impatient.http_port) as raw, Raw(impatient.http_port) as silent:
        assert raw.send(LIVE).receive().status == 200
        assert raw.ended()
        assert silent.ended()


def test_empty_lines_do_not_keep_a_connection_open(impatient: RunningServer) -> None:
    with Raw(impatient.http_port, timeout_s=0.3) as raw:
        for _ in range(100):
            with suppress(TimeoutError):
                assert raw.socket.recv(1) == b""
                break
            raw.send(b"\r\n")
        else:
            pytest.fail("still open after 100 lines")


def test_too_many_connections(strict: RunningServer) -> None:
    held = [Raw(strict.http_port) for _ in range(20)]
    try:
        for raw in held:
            assert raw.send(LIVE).receive().status == 200
        with Raw(strict.http_port) as extra:
            assert extra.receive().status == 503
            assert extra.ended()
        assert held[0].send(LIVE).receive().status == 200
    finally:
        for raw in held:
            raw.socket.close()
    with Raw(strict.http_port) as again:
        # the server may learn of the closed ones a little later than of this one
        assert again.send(LIVE).receive().status in (200, 503)


@pytest.mark.parametrize("path", ["/v2/models/fp32/infer", "/v2/repository/index"])
def test_body_over_the_limit(strict: RunningServer, path: str) -> None:
    body = json.dumps({"inputs": [], "padding": "x" * 200_000}).encode()
    with Raw(strict.http_port) as raw:
        response = raw.send(post(path, body)).receive()
        assert response.status == 400
        assert response.document["error"].endswith("Use --http-max-input-size to increase the limit.")


def test_chunked_body_over_the_limit(strict: RunningServer) -> None:
    with Raw(strict.http_port) as raw:
        raw.send(b"POST /v2/repository/index HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
        raw.send((b"2710\r\n" + b" " * 10_000 + b"\r\n") * 20 + b"0\r\n\r\n")
        assert raw.receive().status == 400


def test_reader_that_never_reads_holds_up_nobody(server: RunningServer) -> None:
    count = 4 << 20
    header = json.dumps(
        {
            "inputs": [
                {"name": "INPUT0", "datatype": "FP32", "shape": [count], "parameters": {"binary_data_size": count * 4}}
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    request = post(
        "/v2/models/large/infer", header + bytes(count * 4), f"Inference-Header-Content-Length: {len(header)}"
    )
    with Raw(server.http_port) as raw, Raw(server.http_port) as other:
        raw.send(request)
        for _ in range(20):
            assert other.send(LIVE).receive().status == 200
        assert len(raw.receive().body) > count * 4
