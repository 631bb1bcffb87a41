# SPDX-License-Identifier: Apache-2.0
"""A model under the real scheduler whose batches the test takes and answers by hand, at times that the test sets.

No thread, no socket and no wall clock: the same steps give the same result, so that schedules can be generated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._core import Batch, Engine, HttpConnection, InferHead, Mailbox, ManualClock, ModelSpec, serialize_bytes

__all__ = ["Puppet", "PuppetAnswer"]


@dataclass(frozen=True)
class PuppetAnswer:
    """What a client would have got: HTTP status, response JSON and, by name, the raw bytes of each output."""

    status: int
    document: Mapping[str, Any]
    outputs: Mapping[str, bytes]

    @property
    def error(self) -> str:
        """The error text; empty for a success."""
        return str(self.document.get("error", ""))


class Puppet:
    """One model version with ``instances`` instances, all held by the test.

    ::

        puppet = Puppet(spec)
        ticket = puppet.submit({"INPUT0": ("FP32", numpy.zeros((1, 16), "f4"))})
        puppet.advance(microseconds=100)
        batch = puppet.take()
        batch.respond_packed({"OUTPUT0": batch.packed()["INPUT0"]})
        batch.finish()
        assert puppet.answers()[ticket].status == 200

    One thread at a time.
    """

    def __init__(self, spec: ModelSpec, *, instances: int = 1, clock: ManualClock | None = None) -> None:
        self.clock = clock or ManualClock(1_000_000_000)
        self.engine = Engine(self.clock)
        self.spec = spec
        self.model = self.engine.create(spec)
        self._instances = [self.model.add_instance(f"{spec.name}_{number}") for number in range(instances)]
        self.engine.publish(spec.name, [self.model])
        self._mailbox = Mailbox(self.engine)
        self._connections: dict[int, HttpConnection] = {}
        self._answers: dict[int, PuppetAnswer] = {}
        self._last_ticket = 0

    def submit(
        self,
        inputs: Mapping[str, tuple[str, NDArray[Any]]],
        *,
        request_id: str = "",
        outputs: Sequence[str] = (),
        parameters: Mapping[str, str | int | float | bool] | None = None,
    ) -> int:
        """Send a request, as its own client; ``inputs``: name -> (datatype, array). Returns its ticket."""
        blobs = [_raw(array) for _, array in inputs.values()]
        document: dict[str, Any] = {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": list(array.shape),
                    "parameters": {"binary_data_size": len(blob)},
                }
                for (name, (datatype, array)), blob in zip(inputs.items(), blobs, strict=True)
            ],
            "parameters": {**(parameters or {}), "binary_data_output": True},
        }
        if request_id:
            document["id"] = request_id
        if outputs:
            document["outputs"] = [{"name": name, "parameters": {"binary_data": True}} for name in outputs]
        header = json.dumps(document).encode()
        self._last_ticket += 1
        connection = HttpConnection(self._mailbox, self._last_ticket)
        self._connections[self._last_ticket] = connection
        connection.append(b"".join((header, *blobs)))
        job = connection.infer(InferHead(self.spec.name, str(self.spec.version), header_length=str(len(header))))
        if job is not None:
            job()
        self._collect()
        return self._last_ticket

    def cancel(self, ticket: int) -> None:
        """The client of ``ticket`` goes away."""
        self._connections.pop(ticket).close()
        self._collect()

    def advance(self, *, microseconds: int) -> None:
        """Let time pass; what expires is answered."""
        self.clock.advance_ns(microseconds * 1000)
        self._collect()

    def take(self, instance: int = 0) -> Batch | None:
        """The batch that the instance would execute now, or None. Answer it, then call its ``finish``."""
        self._collect()
        return self._instances[instance].poll()

    def wake_at_ns(self, instance: int = 0) -> int | None:
        """When a batch will be ripe without another request; None if never."""
        return self._instances[instance].wake_at_ns()

    def answers(self) -> dict[int, PuppetAnswer]:
        """Ticket -> answer, of all requests answered so far."""
        self._collect()
        return dict(self._answers)

    def close(self) -> None:
        """Answer what is queued with errors and free everything. Idempotent."""
        self.model.stop()
        self._collect()
        for connection in self._connections.values():
            connection.close()
        self._connections.clear()

    def _collect(self) -> None:
        for ticket, data, _ in self._mailbox.flush()[0]:
            response = data if isinstance(data, bytes) else b"".join(data)
            if response:
                self._answers[ticket] = _parse(response)
                self._connections.pop(ticket).close()


def _raw(array: NDArray[Any]) -> bytes:
    return serialize_bytes(array) if array.dtype == np.object_ else np.ascontiguousarray(array).tobytes()


def _parse(response: bytes) -> PuppetAnswer:
    head, _, body = response.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
    length = int(headers.get("inference-header-content-length", len(body)))
    document = json.loads(body[:length])
    outputs: dict[str, bytes] = {}
    for output in document.get("outputs", ()):
        size = int(output.get("parameters", {}).get("binary_data_size", 0))
        outputs[output["name"]] = body[length : length + size]
        length += size
    return PuppetAnswer(int(lines[0].split(" ")[1]), document, outputs)
