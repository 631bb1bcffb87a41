# SPDX-License-Identifier: Apache-2.0
"""Streams of events over HTTP: what one event of ``generate_stream`` costs a server, its model included."""

from __future__ import annotations

import json
import socket
import time

from perf.load import LoadError
from perf.procs import cpu_seconds
from perf.servers import Server

__all__ = ["measure_events"]

_END = b"\r\n0\r\n\r\n"


def measure_events(server: Server, model: str, events: int, seconds: float) -> dict[str, float]:
    """Streams of ``events`` each, one after the other over one connection, for ``seconds``.

    Events a second, and server CPU in us an event. Raises LoadError where a stream has another number of events.
    """
    host, port = server.http.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        _stream(connection, model, events)
        count, cpu, start = 0, cpu_seconds(server.pid), time.perf_counter()
        while (took := time.perf_counter() - start) < seconds:
            _stream(connection, model, events)
            count += events
        return {"cpu_us": 1e6 * (cpu_seconds(server.pid) - cpu) / count, "events_per_s": count / took}


def _stream(connection: socket.socket, model: str, events: int) -> None:
    body = json.dumps({"INPUT0": events}).encode()
    path = f"/v2/models/{model}/generate_stream"
    connection.sendall(f"POST {path} HTTP/1.1\r\nHost: perf\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    seen, tail = 0, b""
    while not tail.endswith(_END):
        data = connection.recv(1 << 20)
        if not data:
            raise LoadError("the connection ended within a stream")
        # an event may be cut anywhere: its end is looked for, once
        seen += (tail[-1:] + data).count(b"}\n")
        tail = (tail + data)[-len(_END) :]
    if seen != events:
        raise LoadError(f"{model} was asked for {events} events and sent {seen}")
