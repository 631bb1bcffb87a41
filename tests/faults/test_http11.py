# SPDX-License-Identifier: Apache-2.0
"""Rows 4, 23 and 25 to 28: what RFC 9110 and RFC 9112 demand of a server, message by message."""

from __future__ import annotations

import contextlib
import socket

import pytest

from contract.http.raw import Raw, Response
from faults.client import LIVE, check_text
from faults.guard import counter
from faults.http11 import REFUSED
from faults.http11_served import SERVED
from pyinfer.testing import RunningServer

pytestmark = pytest.mark.usefixtures("guarded")


def executed(server: RunningServer) -> int:
    """Requests of the model that all messages name."""
    return counter(server, "nv_inference_request_success", "fp32")


def test_row_25_the_list_is_complete() -> None:
    """Http11Probe has 113 cases whose outcome the RFCs demand."""
    assert len(REFUSED) + len(SERVED) >= 113


@pytest.mark.parametrize("name", REFUSED)
def test_row_25_refused(server: RunningServer, name: str) -> None:
    case = REFUSED[name]
    before = executed(server)
    with Raw(server.http_port) as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
            raw.send(case.sent)
            if case.eof:
                raw.socket.shutdown(socket.SHUT_WR)
        response = raw.receive()
        assert response.status in case.statuses, response
        assert response.headers["connection"].lower() == "close"
        assert set(response.document) == {"error"}
        check_text(response.document["error"])
        assert raw.ended()
    assert executed(server) == before


@pytest.mark.parametrize("name", SERVED)
def test_row_25_served(server: RunningServer, name: str) -> None:
    case = SERVED[name]
    with Raw(server.http_port) as raw:
        raw.send(case.sent)
        responses = [receive(raw) for _ in case.statuses]
        assert tuple(response.status for response in responses) == case.statuses, responses
        if case.closed:
            assert raw.ended()
        else:
            assert "close" not in responses[-1].headers.get("connection", "").lower()
            assert raw.send(LIVE).receive().status == 200
    for response in responses:
        if response.status == 405:
            assert response.headers["allow"] in ("GET", "POST")  # RFC 9110, 15.5.6
        assert "transfer-encoding" not in response.headers


def receive(raw: Raw) -> Response:
    response = raw.receive()
    return raw.receive() if response.status == 100 else response


def test_row_25_a_hidden_request_is_not_executed(server: RunningServer) -> None:
    """A request within the body of another stays a body."""
    before = executed(server)
    for name in ("GET with a body", "GET with a chunked body", "OPTIONS with a body", "DELETE with a body"):
        with Raw(server.http_port) as raw:
            assert [raw.send(SERVED[name].sent + LIVE).receive().status, raw.receive().status][1] == 200
    with Raw(server.http_port) as raw:
        raw.send(SERVED["nothing after Connection: close"].sent)
        assert raw.receive().status == 200
        assert raw.ended()
    assert executed(server) == before + 1
