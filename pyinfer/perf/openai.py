# SPDX-License-Identifier: Apache-2.0
"""Servers of OpenAI's API: what is asked of them, and requests out of payloads in perf_analyzer's files."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfer.errors import InvalidArgument, Unavailable
from pyinfer.perf.encode import post
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import HttpTarget, ModelInfo
from pyinfer.perf.tensors import RequestData, read_document, timestamp
from pyinfer.perf.tls import Tls

__all__ = ["OpenAiTarget", "openai_data", "payload_request", "read_payloads"]

_TIMEOUT_S = 10.0


class OpenAiTarget(HttpTarget):
    """A server that is known to answer at an endpoint, and nothing else: it has no statistics."""

    def metadata(self) -> Mapping[str, Any]:
        """Nothing. Raises Unavailable where nobody listens."""
        try:
            if self.tls is None:
                socket.create_connection((self.address, self.port), _TIMEOUT_S).close()
            else:
                connection = self.tls.connection(self.address, self.port, _TIMEOUT_S)
                connection.connect()
                connection.close()
        except OSError as error:
            reason = Tls.reason(error) if self.tls else error.strerror or str(error)
            raise Unavailable(f"the server at {self.url} can not be reached: {reason}") from None
        return {}

    def config(self) -> Mapping[str, Any]:
        return {}

    def model_stats(self) -> Sequence[Mapping[str, Any]]:
        return ()

    def info(self) -> ModelInfo:
        self.metadata()
        return ModelInfo((), (), 0)


def openai_data(target: HttpTarget, options: PerfOptions) -> tuple[RequestData, list[bytes]]:
    """When what is sent, and whole requests: the payloads of the files. Raises InvalidArgument for what is none."""
    bodies, times = [], []
    for payload, entry, where in read_payloads(options):
        bodies.append(payload_request(target, options, payload))
        if options.fixed_schedule:
            times.append(timestamp(entry.get("timestamp"), where))
    return RequestData([], [], [(0, len(bodies))], True, times), bodies


def read_payloads(options: PerfOptions) -> Iterator[tuple[dict[str, Any], Mapping[str, Any], str]]:
    """(what is sent, the entry that has it, where that is): with the model, and ``stream`` where ``--streaming`` asks
    for it and the payload does not say. Raises InvalidArgument.
    """
    for name in options.input_data:
        for entry, where in _entries(Path(name)):
            payload = {"model": options.model, **_payload(entry, where)}
            if options.streaming:
                payload.setdefault("stream", True)
            yield payload, entry, where


def payload_request(target: HttpTarget, options: PerfOptions, payload: Mapping[str, Any]) -> bytes:
    """A whole request; the JSON without spaces is its end."""
    content = json.dumps(payload, separators=(",", ":")).encode()
    headers = [("Content-Type", "application/json"), *options.headers]
    return post(target, f"/{options.endpoint.lstrip('/')}", headers, content)


def _entries(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    number = 0
    for one in read_document(path)["data"]:
        for entry in one if isinstance(one, list) else [one]:
            where = f"{path}, entry {number}"
            if not isinstance(entry, dict):
                raise InvalidArgument(f"{where} is not an object")
            yield entry, where
            number += 1


def _payload(entry: Mapping[str, Any], where: str) -> dict[str, Any]:
    payload = entry.get("payload")
    if isinstance(payload, list) and len(payload) == 1:
        payload = payload[0]
    if not isinstance(payload, dict):
        raise InvalidArgument(f"{where} has no 'payload', the object that is sent")
    return payload
