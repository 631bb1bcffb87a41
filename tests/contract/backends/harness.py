# SPDX-License-Identifier: Apache-2.0
"""Runs a backend's instance under the real core, without sockets: requests and answers are HTTP bytes in memory."""

from __future__ import annotations

import json
from typing import Any

from pyinfer import _core
from pyinfer.backends.base import Instance

__all__ = ["Harness"]


def _wire_name(data_type: str) -> str:
    return "BYTES" if data_type == "TYPE_STRING" else data_type.removeprefix("TYPE_")


def _spec(entry: dict[str, Any]) -> _core.TensorSpec:
    reshape = entry["reshape"]["shape"] if "reshape" in entry else None
    wire, dims = _wire_name(entry["data_type"]), entry["dims"]
    return _core.TensorSpec(entry["name"], wire, dims, reshape=reshape, optional=entry.get("optional", False))


class Harness:
    """One model with one instance, and one client connection."""

    def __init__(self, config: dict[str, Any], instance: Instance) -> None:
        spec = _core.ModelSpec(
            name="m",
            version=1,
            inputs=[_spec(entry) for entry in config["input"]],
            outputs=[_spec(entry) for entry in config["output"]],
            max_batch_size=config["max_batch_size"],
            dynamic_batching="dynamic_batching" in config,
        )
        self._engine = _core.Engine()
        self._model = self._engine.create(spec)
        self._core_instance = self._model.add_instance("m_0")
        self._engine.publish("m", [self._model])
        self._mailbox = _core.Mailbox(self._engine)
        self._connection = _core.HttpConnection(self._mailbox, 1)
        self._instance = instance

    def infer(self, *requests: dict[str, Any]) -> list[tuple[int, dict[str, Any]]]:
        """(status, body) of each request; all are queued before the instance looks for a batch."""
        for request in requests:
            assert self._connection.append(json.dumps(request).encode())
            assert self._connection.infer(_core.InferHead("m", "")) is None
        received = self._flush()
        while (batch := self._core_instance.poll()) is not None:
            try:
                self._instance.execute(batch)
            finally:
                batch.finish()
        received += self._flush()
        return _answers(received)

    def close(self) -> None:
        self._instance.close()
        self._connection.close()
        self._model.stop()
        self._mailbox.close()

    def _flush(self) -> bytes:
        received = b""
        for _, data, _ in self._mailbox.flush()[0]:
            received += data if isinstance(data, bytes) else b"".join(bytes(part) for part in data)
        return received


def _answers(received: bytes) -> list[tuple[int, dict[str, Any]]]:
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        status, *fields = head.decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        size = int(headers["content-length"])
        answers.append((int(status.split()[1]), json.loads(rest[:size])))
        received = rest[size:]
    return answers
