# SPDX-License-Identifier: Apache-2.0
"""The core alone, in this process: requests as bytes in, answers as bytes out, no socket.

What a part of the core costs is a few nanoseconds of a request, which no load over sockets can show. Here two models
that differ in that part take turns of a third of a millisecond, so that what the machine does meanwhile meets both.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

from perf.bodies import fp32_rows
from perf.load import LoadError

__all__ = ["CoreLoad", "Difference", "compare"]

#: requests that are received, executed and answered together
_BURST = 64
#: the shorter turns are, the more alike are neighbours
_BURSTS_OF_A_TURN = 2


class CoreLoad:
    """An identity model of the core and one HTTP connection to it. Close it."""

    def __init__(self, elements: int, *, ensemble_steps: int = 0, **statistics_options: Any) -> None:
        """With ``ensemble_steps`` the model is an ensemble: a chain of so many identity models."""
        from pyinfer import _core

        tensor = ("FP32", [-1])
        engine = _core.Engine()

        def spec(name: str, ensemble: _core.EnsembleOptions | None = None) -> _core.ModelSpec:
            return _core.ModelSpec(
                name=name,
                version=1,
                inputs=[_core.TensorSpec("INPUT0", *tensor)],
                outputs=[_core.TensorSpec("OUTPUT0", *tensor)],
                max_batch_size=8,
                dynamic_batching=True,
                ensemble=ensemble,
                statistics=_core.StatisticsOptions(**statistics_options),
            )

        names = [f"step{number}" for number in range(ensemble_steps)] or ["identity"]
        self._models = [engine.create(spec(name)) for name in names]
        for name, model in zip(names, self._models, strict=True):
            model.start_native("identity", {}, [name])
            engine.publish(name, [model])
        if ensemble_steps:
            tensors = ["INPUT0", *(f"t{number}" for number in range(1, ensemble_steps)), "OUTPUT0"]
            steps = [
                (name, -1, {"INPUT0": source}, {"OUTPUT0": target})
                for name, source, target in zip(names, tensors, tensors[1:], strict=False)
            ]
            ensemble = engine.create(spec("identity", _core.EnsembleOptions(steps=steps)), self._models)
            self._models.append(ensemble)
            engine.publish("identity", [ensemble])
        self._mailbox = _core.Mailbox(engine)
        self._connection = _core.HttpConnection(self._mailbox, 1)
        header = (
            b'{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[1,%d],"parameters":{"binary_data_size":%d}}],'
            b'"parameters":{"binary_data_output":true}}' % (elements, 4 * elements)
        )
        self._body = header + fp32_rows(elements).tobytes()
        self._head = _core.InferHead("identity", "", header_length=str(len(header)))
        self._json_head = _core.InferHead("identity", "")

    def burst(self) -> int:
        """Ask ``_BURST`` times; the bytes of the answers."""
        for _ in range(_BURST):
            self._connection.infer(self._head, self._body, 0, len(self._body))
        size = 0
        while self._connection.in_flight():
            for _, data, _ in self._mailbox.flush()[0]:
                size += len(data) if isinstance(data, bytes) else sum(map(len, data))
        return size

    def read_us(self, body: bytes) -> float:
        """CPU microseconds of the calling thread from ``body``, which is JSON, to its tensor, and to a binary answer.

        The answer shares the tensor's memory, so that nearly all of it is the reading. Raises LoadError where the body
        is refused, or is so small that it would not be read by a job of its own.
        """
        asking = b'{"parameters":{"binary_data_output":true},' + body[1:]
        job = self._connection.infer(self._json_head, asking, 0, len(asking))
        if job is None:
            raise LoadError("the body is too small to be read by a job of its own")
        start = time.thread_time()
        job()
        taken = 1e6 * (time.thread_time() - start)
        first = b""
        while self._connection.in_flight():
            for _, data, _ in self._mailbox.flush()[0]:
                first = first or bytes(data if isinstance(data, bytes) else data[0])
        if not first.startswith(b"HTTP/1.1 200"):
            raise LoadError(f"the core refuses the body: {first[-200:]!r}")
        return taken

    def turn_us(self) -> float:
        """CPU microseconds of this process for each request, over one turn; the instance has a thread, too."""
        start = time.process_time()
        for _ in range(_BURSTS_OF_A_TURN):
            self.burst()
        return 1e6 * (time.process_time() - start) / (_BURST * _BURSTS_OF_A_TURN)

    def close(self) -> None:
        self._connection.close()
        self._mailbox.close()
        for model in self._models:
            model.stop()


@dataclass(frozen=True)
class Difference:
    """What one load costs a request beyond another: the median over pairs of turns, and how far these are apart."""

    base_us: float
    added_ns: float
    spread_ns: float


def compare(one: CoreLoad, other: CoreLoad, turns: int) -> Difference:
    """``one`` against ``other``, which is the base. Neighbours in time are compared, so that drift meets both alike."""
    for load in (one, other):
        load.turn_us()
    pairs = []
    for turn in range(turns):
        loads = (one, other) if turn % 2 else (other, one)
        taken = {load: load.turn_us() for load in loads}
        pairs.append((taken[one], taken[other]))
    low, middle, high = statistics.quantiles([1000 * (a - b) for a, b in pairs], n=4)
    return Difference(statistics.median(b for _, b in pairs), middle, high - low)
