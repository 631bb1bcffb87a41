# SPDX-License-Identifier: Apache-2.0
"""One model of the core under a clock that stands still, and clients that speak HTTP to it without sockets."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pyinfer import _core

__all__ = ["Answer", "House", "int_spec"]


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return str(self.json["error"])


def int_spec(**options: Any) -> _core.ModelSpec:
    """A model "m" with input IN and output OUT, both INT32 [-1]."""
    tensor = ("INT32", [-1])
    return _core.ModelSpec(
        name="m",
        version=1,
        inputs=[_core.TensorSpec("IN", *tensor)],
        outputs=[_core.TensorSpec("OUT", *tensor)],
        **options,
    )


class House:
    """``connections`` by number; ``answers`` by connection, in the order in which they left."""

    def __init__(self, spec: _core.ModelSpec | None = None) -> None:
        self.clock = _core.ManualClock(1000)
        self.engine = _core.Engine(self.clock)
        self.model = self.engine.create(spec or int_spec())
        self.instance = self.model.add_instance("i")
        self.engine.publish("m", [self.model])
        self.mailbox = _core.Mailbox(self.engine)
        self.connections: dict[int, _core.HttpConnection] = {}
        self.answers: dict[int, list[Answer]] = {}
        self._bytes: dict[int, bytearray] = {}

    def connect(self) -> int:
        number = len(self.answers)
        self.connections[number] = _core.HttpConnection(self.mailbox, number)
        self.answers[number] = []
        self._bytes[number] = bytearray()
        return number

    def send(self, connection: int, inputs: Sequence[dict[str, Any]], **members: Any) -> None:
        """Start an inference with JSON inputs."""
        body = json.dumps({"inputs": list(inputs), **members}).encode()
        self.send_body(connection, body)

    def send_body(self, connection: int, body: bytes, header_length: int | None = None) -> None:
        http = self.connections[connection]
        assert http.append(body)
        job = http.infer(_core.InferHead("m", "", header_length=None if header_length is None else str(header_length)))
        if job is not None:
            job()

    def send_ints(self, connection: int, shape: Sequence[int], value: int, **members: Any) -> None:
        count = 1
        for dim in shape:
            count *= dim
        tensor = {"name": "IN", "datatype": "INT32", "shape": list(shape), "data": [value] * count}
        self.send(connection, [tensor], **members)

    def close(self, connection: int) -> None:
        self.connections.pop(connection).close()

    def flush(self) -> None:
        """Dispatch and deliver; what was written is parsed into ``answers``."""
        for connection, data, close in self.mailbox.flush()[0]:
            assert not close
            self._bytes[connection] += b"".join([data] if isinstance(data, bytes) else data)
            self._parse(connection)

    def _parse(self, connection: int) -> None:
        received = self._bytes[connection]
        while (end := received.find(b"\r\n\r\n")) >= 0:
            status, *lines = received[:end].decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            size = end + 4 + int(headers["content-length"])
            assert len(received) >= size
            self.answers[connection].append(Answer(int(status.split()[1]), headers, bytes(received[end + 4 : size])))
            del received[:size]

    def ask(self, inputs: Sequence[dict[str, Any]], **members: Any) -> tuple[int, _core.Batch]:
        """A request on a connection of its own, and the batch that it makes."""
        connection = self.connect()
        self.send(connection, inputs, **members)
        batch = self.instance.poll()
        if batch is None:
            self.flush()
            raise AssertionError(self.answers[connection][0].body)
        return connection, batch

    def metric(self, name: str) -> dict[str, float]:
        """The samples of a metric of the model, by the values of their other labels ("" where there are none)."""
        samples: dict[str, float] = {}
        for line in _core.metrics_page([_core.MetricModel(self.model)]).decode().splitlines():
            labels, _, value = line.removeprefix(f"{name}{{").rpartition("} ")
            if line.startswith(f"{name}{{"):
                others = [
                    text for key, text in re.findall(r'(\w+)="([^"]*)"', labels) if key not in ("model", "version")
                ]
                samples[",".join(others)] = float(value)
        return samples

    def statistics(self) -> dict[str, Any]:
        """The model's own, as the statistics extension tells them."""
        [told] = json.loads(_core.statistics_json([self.model]))["model_stats"]
        return dict(told)

    def failures(self) -> dict[str, float]:
        """Failed requests by reason; only those that there were."""
        return {reason: count for reason, count in self.metric("nv_inference_request_failure").items() if count}

    def answer(self, connection: int) -> Answer:
        """The one answer that the connection has got by now."""
        self.flush()
        assert len(self.answers[connection]) == 1
        return self.answers[connection].pop()
