# SPDX-License-Identifier: Apache-2.0
"""The generate extension over real sockets: one JSON object in, one out, or an event for each response."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from contract.conftest import add_model, identity
from contract.http.generate import CONFIG, COUNT, EVENTS, NOT_ONE, STREAM, WHOLE, ask, event, numbers
from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer, run_server
from waiting import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("generate")
    add_model(repository, "count", CONFIG, {"model.py": COUNT})
    add_model(repository, "fp32", identity("TYPE_FP32", "-1"))
    add_model(repository, "half", identity("TYPE_FP16", "1", batch=0))
    nested = identity("TYPE_FP32", "-1").replace('"INPUT0"', '"parameters"').replace('"OUTPUT0"', '"parameters"')
    add_model(repository, "nested", nested)
    with run_server(repository) as running:
        yield running
        assert running.process.poll() is None, running.log
        assert running.stop() == 0, running.log


# One answer


def test_generate(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for members in ({}, {"last": True}):
            answer = raw.send(ask(WHOLE, id="7", **members)).receive()
            assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
            assert answer.body == (
                b'{"NUMBER":0,"TEXT":"hi","even":true,"id":"7","id_of_request":"7","model_name":"count",'
                b'"model_version":"1"}'
            )
        for version, status in (("1", 200), ("2", 404)):
            path = f"/v2/models/count/versions/{version}/generate"
            assert raw.send(ask(path)).receive().status == status


def test_generate_with_a_model_that_is_not_decoupled(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for tail, prefix in (("generate", b""), ("generate_stream", b"data: ")):
            path = f"/v2/models/fp32/{tail}"
            answer = raw.send(post(path, b'{"INPUT0": [1, 2.5]}', "Accept-Encoding: gzip")).receive()
            assert answer.body.strip() == prefix + b'{"OUTPUT0":[1.0,2.5],"model_name":"fp32","model_version":"1"}'
            answer = raw.send(post(path, b'{"parameters": {"INPUT0": 3}}', "Content-Encoding: identity")).receive()
            assert answer.body.strip() == prefix + b'{"OUTPUT0":3.0,"model_name":"fp32","model_version":"1"}'


@pytest.mark.parametrize(
    ("members", "status", "text"),
    [
        ({"count": 0}, 200, NOT_ONE),
        ({"count": 2}, 200, NOT_ONE),
        ({"errors": "0"}, 400, "0 is bad"),
        ({"count": 2, "errors": "0"}, 400, NOT_ONE),
        ({"count": 2, "errors": "1"}, 200, NOT_ONE),
    ],
)
def test_generate_wants_exactly_one_response(
    server: RunningServer, members: dict[str, Any], status: int, text: str
) -> None:
    with Raw(server.http_port) as raw:
        for _ in range(2):
            answer = raw.send(ask(WHOLE, **members)).receive()
            assert (answer.status, answer.document) == (status, {"error": text})


# Events


def test_each_response_comes_when_it_is_made(server: RunningServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Raw(server.http_port) as raw:
        raw.send(ask(STREAM, count=3, gate=str(gate), id="a"))
        for number in range(3):
            Path(f"{gate}{number}").touch()
            if number == 0:
                head = raw.receive_head()
                assert (head.status, head.headers) == (
                    200,
                    {"content-type": EVENTS, "transfer-encoding": "chunked"},
                )
            assert event(raw.chunk()) == {
                "NUMBER": number,
                "TEXT": "hi",
                "even": number % 2 == 0,
                "id": "a",
                "id_of_request": "a",
                "model_name": "count",
                "model_version": "1",
            }
        assert raw.chunk() == b""
        assert raw.send(ask(WHOLE)).receive().status == 200


def test_errors_among_the_events(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        for errors, status in (("0", 400), ("1", 200), ("0,2", 400)):
            answer = raw.send(ask(STREAM, count=3, errors=errors)).receive()
            assert (answer.status, answer.headers["content-type"]) == (status, EVENTS)
            seen = [event(part + b"\n\n") for part in answer.body.split(b"\n\n")[:-1]]
            for number in range(3):
                if str(number) in errors.split(","):
                    assert seen[number] == {"error": f"{number} is bad"}
                else:
                    assert seen[number]["NUMBER"] == number


def test_no_response_at_all(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        answer = raw.send(ask(STREAM, count=0)).receive()
        assert (answer.status, answer.body, answer.headers["content-type"]) == (200, b"", EVENTS)


def test_answers_come_in_the_order_of_the_requests(server: RunningServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    live = b"GET /v2/health/live HTTP/1.1\r\n" + HOST + b"\r\n"
    fast = ask(STREAM, count=5)
    with Raw(server.http_port) as raw:
        raw.send(ask(STREAM, count=2, gate=str(gate)) + live + fast + ask(WHOLE) + fast)
        for number in range(2):
            Path(f"{gate}{number}").touch()
        assert numbers(raw.receive().body) == [0, 1]
        assert raw.receive().body == b""
        assert numbers(raw.receive().body) == list(range(5))
        assert raw.receive().document["NUMBER"] == 0
        assert numbers(raw.receive().body) == list(range(5))


def test_many_events_arrive_whole(server: RunningServer) -> None:
    text = "é\n" * 5000
    with Raw(server.http_port) as raw:
        raw.send(ask(STREAM, count=500, TEXT=text))
        assert raw.receive_head().status == 200
        for number in range(500):
            seen = event(raw.chunk())
            assert (seen["NUMBER"], seen["TEXT"]) == (number, text)
        assert raw.chunk() == b""


def test_http_1_0_has_no_chunks(server: RunningServer) -> None:
    body = b'{"TEXT": "hi", "count": 3}'
    with Raw(server.http_port) as raw:
        raw.send(b"POST %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s" % (STREAM.encode(), len(body), body))
        head = raw.receive_head()
        assert (head.status, head.headers) == (200, {"content-type": EVENTS, "connection": "close"})
        rest = raw.rest()
    assert numbers(rest) == [0, 1, 2]


def test_connection_close(server: RunningServer) -> None:
    with Raw(server.http_port) as raw:
        answer = raw.send(ask(STREAM, "Connection: close", count=3)).receive()
        assert (answer.headers["connection"], numbers(answer.body)) == ("close", [0, 1, 2])
        assert raw.ended()


# Requests that are refused


@pytest.mark.parametrize("tail", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("model", "body", "status", "text"),
    [
        ("none", b"{}", 404, "Request for unknown model: 'none' is not found"),
        ("count", b"{", 400, "failed to parse the request JSON buffer: "),
        ("count", b"[]", 400, "attempt to get members for non-object"),
        ("count", b"{}", 400, "[request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'count'"),
        ("count", b'{"TEXT": ["a", "b"]}', 400, "The schema can not convert input 'TEXT' to tensor with proper shape"),
        ("count", b'{"TEXT": 5}', 400, "Unable to parse 'data': an element of input 'TEXT' is not a string"),
        ("count", b'{"TEXT": "a", "x": [1]}', 400, "parameter 'x' has invalid type."),
        ("count", b'{"parameters": {"x": null}}', 400, "Converting keyword: 'parameters': parameter 'x' has invalid"),
        ("count", b'{"parameters": 5}', 400, "Expected JSON object for keyword: 'parameters': "),
        ("half", b'{"INPUT0": 1}', 400, "receiving FP16 data via JSON is not supported."),
        ("nested", b'{"parameters": 1}', 400, "Keyword 'parameters' for nested schema also given as input tensor name"),
    ],
)
def test_what_is_refused_is_answered_in_plain_json(
    server: RunningServer, tail: str, model: str, body: bytes, status: int, text: str
) -> None:
    with Raw(server.http_port) as raw:
        answer = raw.send(post(f"/v2/models/{model}/{tail}", body)).receive()
        assert (answer.status, answer.headers["content-type"]) == (status, "application/json")
        assert answer.document["error"].startswith(text)
        assert raw.send(ask(WHOLE)).receive().status == 200


@pytest.mark.parametrize("path", [WHOLE, STREAM])
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br"])
def test_bodies_are_not_compressed(server: RunningServer, path: str, coding: str) -> None:
    with Raw(server.http_port) as raw:
        answer = raw.send(ask(path, f"Content-Encoding: {coding}")).receive()
        assert answer.status == 400
        assert answer.document == {"error": "Unsupported content-encoding, only 'identity' is supported."}


@pytest.mark.parametrize("path", [WHOLE, STREAM])
def test_other_verbs(server: RunningServer, path: str) -> None:
    with Raw(server.http_port) as raw:
        answer = raw.send(f"GET {path} HTTP/1.1\r\n".encode() + HOST + b"\r\n").receive()
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


# Clients that go away


def cancelled_responses(server: RunningServer) -> int:
    with urllib.request.urlopen(f"http://{server.http}/v2/models/count/stats", timeout=60) as page:
        [stats] = json.load(page)["model_stats"]
    return sum(entry["cancel"]["count"] for entry in stats["response_stats"].values())


@pytest.mark.parametrize("how", ["reset", "close", "half-close"])
@pytest.mark.parametrize("after", [0, 2])
def test_a_client_that_goes_away_cancels(server: RunningServer, tmp_path: Path, how: str, after: int) -> None:
    gate, before = tmp_path / "gate", cancelled_responses(server)
    raw = Raw(server.http_port)
    raw.send(ask(STREAM, count=100, gate=str(gate)))
    for number in range(after):
        Path(f"{gate}{number}").touch()
        if number == 0:
            raw.receive_head()
        assert event(raw.chunk())["NUMBER"] == number
    eventually(Path(f"{gate}began").exists, "the model was not asked")
    if how == "reset":
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half-close":
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.ended()
    else:
        raw.socket.close()
    eventually(Path(f"{gate}cancelled").exists, "the model was not told")
    eventually(lambda: cancelled_responses(server) > before, "not counted")
    raw.socket.close()


def test_a_half_closed_connection_gets_what_came_before_the_events(server: RunningServer, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with Raw(server.http_port) as raw:
        raw.send(ask(WHOLE, gate=str(gate)) + ask(STREAM, count=100, gate=str(gate) + "s") + ask(WHOLE))
        eventually(Path(f"{gate}sbegan").exists, "the model was not asked")
        raw.socket.shutdown(socket.SHUT_WR)
        eventually(Path(f"{gate}scancelled").exists, "the model was not told")
        Path(f"{gate}0").touch()
        assert raw.receive().document["NUMBER"] == 0
        assert raw.ended()


def test_a_stream_that_is_open_when_the_server_stops_is_finished(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "count", CONFIG, {"model.py": COUNT})
    gate = tmp_path / "gate"
    with run_server(tmp_path / "models") as server, Raw(server.http_port) as raw:
        raw.send(ask(STREAM, count=2, gate=str(gate)))
        Path(f"{gate}0").touch()
        raw.receive_head()
        assert event(raw.chunk())["NUMBER"] == 0
        server.process.terminate()
        eventually(lambda: "Waiting for in-flight requests" in server.log, "not stopping")
        Path(f"{gate}1").touch()
        assert event(raw.chunk())["NUMBER"] == 1
        assert raw.chunk() == b""
        assert raw.ended()
        assert server.process.wait(60) == 0


# Clients of others


def test_httpx(server: RunningServer) -> None:
    body = {"TEXT": "hi", "parameters": {"count": 3}}
    with httpx.Client(base_url=f"http://{server.http}") as client:
        with client.stream("POST", STREAM, json=body) as answer:
            lines = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line]
        assert [line["NUMBER"] for line in lines] == [0, 1, 2]
        assert client.post(WHOLE, json={"TEXT": "hi"}).json()["TEXT"] == "hi"


def test_aiohttp(server: RunningServer) -> None:
    async def one(session: aiohttp.ClientSession) -> list[int]:
        async with session.post(f"http://{server.http}{STREAM}", json={"TEXT": "hi", "count": 20}) as answer:
            lines = [line async for line in answer.content if line.strip()]
        return numbers(b"".join(lines))

    async def many() -> list[list[int]]:
        async with aiohttp.ClientSession() as session:
            return await asyncio.gather(*(one(session) for _ in range(50)))

    assert asyncio.run(many()) == [list(range(20))] * 50


def test_urllib(server: RunningServer) -> None:
    request = urllib.request.Request(f"http://{server.http}{STREAM}", b'{"TEXT": "hi", "count": 2, "errors": "0"}')
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    assert caught.value.code == 400
    assert caught.value.read().startswith(b'data: {"error":"0 is bad"}\n\ndata: {"NUMBER":1,')
