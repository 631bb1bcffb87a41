# SPDX-License-Identifier: Apache-2.0
"""Restricted APIs over HTTP: every route of the table, with and without its key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.http.raw import HOST, Raw, Response
from pyinfer.config.restrictions import CATEGORIES
from pyinfer.frontends.endpoints import ENDPOINTS
from pyinfer.testing import RunningServer, run_server

#: each category has a key of its own
KEYS = {category: (f"X-{category}-Key", f"secret of {category}") for category in CATEGORIES}
ROUTES = sorted(
    {(endpoint.verb, route, endpoint.category) for endpoint in ENDPOINTS for route in endpoint.routes}
    | {("DELETE", route, endpoint.category) for endpoint in ENDPOINTS for route in endpoint.routes}
)


@pytest.fixture(scope="module")
def locked(models: Path) -> Iterator[RunningServer]:
    """A server on which every category is restricted."""
    flags = [f"--http-restricted-api={category}:{name}={value}" for category, (name, value) in KEYS.items()]
    with run_server(models, "--model-control-mode=explicit", "--load-model=fp32", *flags) as running:
        yield running


def ask(server: RunningServer, verb: str, path: str, *headers: str, body: bytes = b"{}") -> Response:
    with Raw(server.http_port) as raw:
        lines = "".join(f"{header}\r\n" for header in headers).encode()
        head = b"%s %s HTTP/1.1\r\n%sContent-Length: %d\r\n%s\r\n" % (
            verb.encode(),
            path.encode(),
            HOST,
            len(body),
            lines,
        )
        return raw.send(head + body).receive()


def refusal(category: str) -> str:
    return json.dumps(
        {"error": f"This API is restricted, expecting header '{KEYS[category][0]}'"}, separators=(",", ":")
    )


@pytest.mark.parametrize(("verb", "route", "category"), ROUTES)
def test_every_route_needs_the_key_of_its_category(locked: RunningServer, verb: str, route: str, category: str) -> None:
    path = route.format(model="none", version="1", repository="other", region="none")
    name, value = KEYS[category]
    others = [f"{other}: {secret}" for key, (other, secret) in KEYS.items() if key != category]
    for headers in ([], [f"{name}:"], [f"{name}: {value}x"], [f"{name}: {value.upper()}"], others):
        response = ask(locked, verb, path, *headers)
        assert (response.status, response.body.decode()) == (403, refusal(category)), headers
    assert ask(locked, verb, path, f"{name}: {value}").status != 403
    assert ask(locked, verb, path, f"{name.upper()}:  {value}  ", *others).status != 403


def test_an_inference_with_its_key_is_served(locked: RunningServer) -> None:
    body = json.dumps({"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}).encode()
    path = "/v2/models/fp32/infer"
    for _ in range(2):  # heads are remembered, and so are their refusals
        assert ask(locked, "POST", path, body=body).status == 403
        assert ask(locked, "POST", path, ": ".join(KEYS["inference"]), body=body).status == 200


def test_a_key_that_is_given_twice_opens_nothing(locked: RunningServer) -> None:
    header = ": ".join(KEYS["metadata"])
    assert ask(locked, "GET", "/v2", header, header).status == 403


def test_head_requests_are_refused_without_a_body(locked: RunningServer) -> None:
    with Raw(locked.http_port) as raw:
        request = b"HEAD /v2 HTTP/1.1\r\n" + HOST + b"\r\n"
        response = raw.send(request * 2).receive()
        assert (response.status, response.body) == (403, b"")
        assert raw.receive().status == 403


def test_paths_that_do_not_exist_need_no_key(locked: RunningServer) -> None:
    assert ask(locked, "GET", "/v2/none").status == 404


def test_metrics_have_no_key(locked: RunningServer) -> None:
    with Raw(locked.metrics_port) as raw:
        assert raw.send(b"GET /metrics HTTP/1.1\r\n" + HOST + b"\r\n").receive().status == 200
