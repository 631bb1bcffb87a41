# SPDX-License-Identifier: Apache-2.0
"""Models with a latency SLO beside the same models with fixed queue delays, under load that does not wait for answers.

A model is served once for each way of scheduling it, by one server; they are loaded in turn. Latency counts from when a
request was to be sent, whatever the client was doing then. ``measure_goodput`` is open-loop, ``measure_rate`` keeps so
many requests in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import uvloop

from perf.load import LoadError, percentile
from perf.servers import Server

__all__ = [
    "DELAYS_MS",
    "LOADS",
    "MODELS",
    "Goodput",
    "SloModel",
    "arrivals",
    "build_variants",
    "measure_goodput",
    "measure_rate",
    "write_wide_mlp",
]

#: fixed queue delays that are tried
DELAYS_MS = (0, 2, 5, 10, 20)


@dataclass(frozen=True)
class SloModel:
    """A model of the bench: its SLO, and how its requests look."""

    name: str
    slo_ms: int
    input: str
    datatype: str
    elements: int


MODELS = (
    SloModel("magika", 250, "bytes", "INT32", 2048),
    SloModel("wide_mlp", 100, "x", "FP32", 256),
)

#: name -> (rate as a share of what the model can do, how many times the rate in bursts)
LOADS: Mapping[str, tuple[float, float]] = {"light": (0.5, 1), "poisson": (1.2, 1), "bursts": (0.8, 4)}


@dataclass(frozen=True)
class Goodput:
    """Of the requests of one run: shares answered in time, answered late and refused; latency of those answered."""

    sent: int
    good: float
    late: float
    refused: float
    p50_ms: float
    p99_ms: float


def arrivals(rate: float, seconds: float, burst: float, burst_s: float, seed: int) -> list[float]:
    """Times in seconds of a Poisson process of ``rate`` a second; with ``burst`` > 1 half of it comes in bursts.

    A burst has ``burst`` times the rate and lasts ``burst_s`` on average. The same for the same seed.
    """
    draw = random.Random(seed)
    share = 1 / (2 * burst)
    low = rate if burst <= 1 else rate * 0.5 / (1 - share)
    now, bursting = 0.0, False
    until = math.inf if burst <= 1 else draw.expovariate(share / (1 - share) / burst_s)
    times: list[float] = []
    while True:
        following = now + draw.expovariate(rate * burst if bursting else low)
        if following > until:
            now, bursting = until, not bursting
            until = now + draw.expovariate(1 / burst_s if bursting else share / (1 - share) / burst_s)
        elif following >= seconds:
            return times
        else:
            now = following
            times.append(now)
        if now >= seconds:
            return times


def build_variants(source: Path, directory: Path, model: SloModel) -> list[str]:
    """Copies of the model ``source`` with an SLO and with each fixed delay; their names, the SLO's first."""
    config = _plain_config(source / "config.pbtxt")
    slo = f'parameters {{ key: "latency_slo_ms" value: {{ string_value: "{model.slo_ms}" }} }}'
    ways = {f"{model.name}_slo": slo} | {
        f"{model.name}_{delay}": f"dynamic_batching {{ max_queue_delay_microseconds: {1000 * delay} }}"
        for delay in DELAYS_MS
    }
    for name, way in ways.items():
        shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        (directory / name / "config.pbtxt").write_text(f'name: "{name}"\n{config}\n{way}\n')
    return list(ways)


def _plain_config(path: Path) -> str:
    """The configuration without its name, instances, batcher and parameters: what is left to the server's defaults."""
    dropped = ("name:", "instance_group", "dynamic_batching", "parameters", "#")
    return "\n".join(line for line in path.read_text().splitlines() if not line.startswith(dropped))


def measure_goodput(server: Server, variant: str, model: SloModel, times: Sequence[float]) -> Goodput:
    """Send a request at each of ``times``; wait for all answers. Raises LoadError for an answer that is no answer."""
    client = _Client(server, variant, model)
    taken = uvloop.run(client.open_loop(times))
    answered = sorted(1e3 * seconds for seconds, status in taken if status == 200)
    if any(status not in (200, 503) for _, status in taken):
        raise LoadError(f"{variant} answered with {sorted({status for _, status in taken})}")
    good = sum(ms <= model.slo_ms for ms in answered)
    whole = [round(1e3 * ms) for ms in answered]
    return Goodput(
        sent=len(taken),
        good=good / len(taken),
        late=(len(answered) - good) / len(taken),
        refused=1 - len(answered) / len(taken),
        p50_ms=percentile(whole, 0.5) / 1e3,
        p99_ms=percentile(whole, 0.99) / 1e3,
    )


def measure_rate(server: Server, variant: str, model: SloModel, in_flight: int, seconds: float) -> float:
    """Rows a second that are answered, with ``in_flight`` requests of one row at any time."""
    client = _Client(server, variant, model)
    answered, took = uvloop.run(client.closed_loop(in_flight, seconds))
    if not answered:
        raise LoadError(f"{variant} answered nothing")
    return answered / took


class _Client:
    """HTTP/1.1 over connections that are kept, in one event loop."""

    def __init__(self, server: Server, variant: str, model: SloModel) -> None:
        host, port = server.http.split(":")
        self._address = (host, int(port))
        row = np.random.default_rng(0).integers(0, 256, (1, model.elements))
        data = row.astype(np.int32 if model.datatype == "INT32" else np.float32).tobytes()
        tensor = {"name": model.input, "shape": [1, model.elements], "datatype": model.datatype}
        head = json.dumps(
            {
                "inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}],
                "parameters": {"binary_data_output": True},
            }
        ).encode()
        lines = [
            f"POST /v2/models/{variant}/infer HTTP/1.1",
            "Host: perf",
            f"Inference-Header-Content-Length: {len(head)}",
            f"Content-Length: {len(head) + len(data)}",
        ]
        self._request = "\r\n".join([*lines, "", ""]).encode() + head + data
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def open_loop(self, times: Sequence[float]) -> list[tuple[float, int]]:
        """(seconds from the time that was meant to the answer, status) of each."""
        loop = asyncio.get_running_loop()
        start, tasks = loop.time() + 0.1, []
        for at in times:
            await asyncio.sleep(max(0.0, start + at - loop.time()))
            tasks.append(asyncio.create_task(self._timed(start + at)))
        try:
            return await asyncio.gather(*tasks)
        finally:
            self._close()

    async def closed_loop(self, in_flight: int, seconds: float) -> tuple[int, float]:
        """How many were answered with 200, and in how many seconds."""
        start = time.perf_counter()

        async def one() -> int:
            count = 0
            while time.perf_counter() - start < seconds:
                count += await self._call() == 200
            return count

        try:
            return sum(await asyncio.gather(*(one() for _ in range(in_flight)))), time.perf_counter() - start
        finally:
            self._close()

    async def _timed(self, meant: float) -> tuple[float, int]:
        status = await self._call()
        return asyncio.get_running_loop().time() - meant, status

    async def _call(self) -> int:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
        writer.write(self._request)
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
        await reader.readexactly(int(fields[b"content-length"]))
        self._idle.append((reader, writer))
        return int(head.split(b" ", 2)[1])

    def _close(self) -> None:
        for _, writer in self._idle:
            with contextlib.suppress(OSError):
                writer.close()


def write_wide_mlp(directory: Path, sizes: Sequence[int] = (256, 4096, 4096, 4096, 10)) -> Path:
    """A model whose batches cost little more than a row: wide layers, whose weights are read once for a batch."""
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, weights, given = np.random.default_rng(0), [], [], "x"
    layers = list(pairwise(sizes))
    for i, (inputs, outputs) in enumerate(layers):
        matrix = (rng.standard_normal((inputs, outputs)) / inputs**0.5).astype(np.float32)
        weights.append(numpy_helper.from_array(matrix, f"weight{i}"))
        last = i == len(layers) - 1
        nodes.append(helper.make_node("MatMul", [given, f"weight{i}"], ["y" if last else f"sum{i}"]))
        if not last:
            nodes.append(helper.make_node("Relu", [f"sum{i}"], [f"layer{i}"]))
            given = f"layer{i}"
    ends = [("x", sizes[0]), ("y", sizes[-1])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size]) for name, size in ends)
    graph = helper.make_graph(nodes, "wide_mlp", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (directory / "1").mkdir(parents=True)
    (directory / "1" / "model.onnx").write_bytes(model.SerializeToString())
    (directory / "config.pbtxt").write_text(
        'name: "wide_mlp"\nbackend: "onnxruntime"\nmax_batch_size: 64\n'
        f'input [ {{ name: "x" data_type: TYPE_FP32 dims: [ {sizes[0]} ] }} ]\n'
        f'output [ {{ name: "y" data_type: TYPE_FP32 dims: [ {sizes[-1]} ] }} ]\n'
    )
    return directory
