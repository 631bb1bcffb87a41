# SPDX-License-Identifier: Apache-2.0
"""Bodies of generate requests: malformed ones, and any JSON at all. Each is answered, and nobody is harmed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.http.raw import Raw, Response, post
from faults.client import check_text
from faults.test_http_bodies import ROW_1
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")

TAILS = ("generate", "generate_stream")
#: names of inputs, and those that mean something to the protocol
NAMES = st.sampled_from(["INPUT0", "INPUT1", "parameters", "id", "priority", "triton_x", "model_name", ""])
SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=5),
    max_leaves=20,
)


def ask(raw: Raw, model: str, tail: str, body: bytes) -> Response:
    return raw.send(post(f"/v2/models/{model}/{tail}", body)).receive()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("case", ROW_1)
def test_row_01_malformed_json(server: RunningServer, case: str, tail: str) -> None:
    with Raw(server.http_port) as raw:
        answer = ask(raw, "fp32", tail, ROW_1[case])
        assert (answer.status, answer.headers["content-type"]) == (400, "application/json")
        check_text(answer.document["error"])
        assert ask(raw, "fp32", "generate", b'{"INPUT0": 1}').document["OUTPUT0"] == 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["fp32", "plane", "text", "pair", "int8", "fp16"]),
    st.sampled_from(TAILS),
    st.dictionaries(NAMES, JSON, max_size=6) | JSON,
)
def test_row_01_any_json(server: RunningServer, model: str, tail: str, document: Any) -> None:
    with Raw(server.http_port) as raw:
        body = json.dumps(document).encode("utf-8", "surrogatepass")
        answer = ask(raw, model, tail, body)
        assert answer.status in (200, 400)
        if answer.headers["content-type"] == "application/json":
            seen = answer.document
        else:
            assert answer.body.startswith(b"data: ") and answer.body.endswith(b"\n\n") and answer.body.count(b"\n") == 2
            seen = json.loads(answer.body[6:])
        assert seen["model_name"] == model if answer.status == 200 else check_text(seen["error"])
        assert ask(raw, "fp32", "generate", b'{"INPUT0": 1}').document["OUTPUT0"] == 1


@pytest.mark.parametrize("depth", [99, 100, 100_000])
def test_row_02_deep_nesting(server: RunningServer, depth: int) -> None:
    body = b'{"INPUT0":' + b"[" * depth + b"1" + b"]" * depth + b"}"
    with Raw(server.http_port) as raw:
        answer = ask(raw, "fp32", "generate", body)
        assert (answer.status, depth) in ((200, 99), (400, depth))
        check_text(answer.body.decode())


def test_row_02_many_members(server: RunningServer) -> None:
    members: dict[str, object] = {f"p{number}": number for number in range(65_535)}
    with Raw(server.http_port) as raw:
        assert ask(raw, "fp32", "generate", json.dumps({"INPUT0": 1, **members}).encode()).status == 200
        refused = ask(raw, "fp32", "generate", json.dumps({"INPUT0": 1, "x": 1, **members}).encode())
        assert "more than 65536 members" in refused.document["error"]
