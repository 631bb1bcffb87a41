# SPDX-License-Identifier: Apache-2.0
"""Models with a latency SLO beside the same models with fixed queue delays, under load that does not wait for answers.

A model is served once for each way of scheduling it, by one server; they are loaded in turn. Latency counts from when a
request was to be sent, whatever the client was doing then. ``measure_goodput`` is open-loop, ``measure_rate`` keeps so
many requests in flight.
"""

from __future__ import annotations

import json
import math
import random
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from perf.bodies import Body
from perf.load import LoadError, begin_load, measure_window
from perf.servers import Server
from perf.tools import percentile

__all__ = [
    "DELAYS_MS",
    "LOADS",
    "MODELS",
    "Goodput",
    "Load",
    "SloModel",
    "arrivals",
    "build_variants",
    "measure_goodput",
    "measure_rate",
    "write_wide_mlp",
]

#: more than can be answered within an SLO: what is to wait does so in the server
_CONNECTIONS = 512
#: for the last answer, seconds
_PATIENCE_S = 30.0
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


@dataclass(frozen=True)
class Load:
    """``rate`` is a share of what the model can do; in bursts it is ``burst`` times as high."""

    rate: float
    burst: float
    #: times the length of a window: it has to have bursts in it
    length: float


LOADS: Mapping[str, Load] = {
    "light": Load(0.5, 1, 0.7),
    "near": Load(0.95, 1, 0.8),
    "poisson": Load(1.2, 1, 0.8),
    "bursts": Load(0.8, 4, 1.5),
}


@dataclass(frozen=True)
class Goodput:
    """Of the requests of one run: shares answered in time, answered late and refused; latency of those answered."""

    good: float
    late: float
    refused: float
    p99_ms: float


def arrivals(rate: float, seconds: float, burst: float, burst_s: float, seed: int) -> list[float]:
    """Times in seconds of a Poisson process of ``rate`` a second; with ``burst`` > 1 half of it comes in bursts.

    A burst has ``burst`` times the rate and lasts ``burst_s``. Each ``2 * burst * burst_s`` has one, somewhere in it: a
    short run has its share of them. The same for the same seed.
    """
    draw = random.Random(seed)
    high, low = rate, rate
    period, begins = math.inf, [0.0]
    if burst > 1:
        high, low = rate * burst, rate * burst / (2 * burst - 1)
        period = 2 * burst * burst_s
        begins = [at * period + draw.uniform(0, period - burst_s) for at in range(int(seconds / period) + 1)]
    times: list[float] = []
    now = draw.expovariate(high)
    while now < seconds:
        bursting = 0 <= now - begins[int(now / period)] < burst_s
        if bursting or draw.random() * high < low:
            times.append(now)
        now += draw.expovariate(high)
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
    whole = [round(1e9 * at) for at in times]
    run = begin_load(server, [_body(variant, model)], _CONNECTIONS, times_ns=whole, record=True)
    try:
        run.wait(times[-1] + _PATIENCE_S)
    finally:
        met = run.stop(_PATIENCE_S)
    others = [text for text in met.errors if not text.startswith("HTTP status 503")]
    if others or met.unanswered or met.overdue:
        raise LoadError(f"{variant}: {met.unanswered + met.overdue} requests without an answer, {others[:1]}")
    # intended, sent, ended, body, error
    records = np.frombuffer(met.records, np.int64).reshape(-1, 5)
    taken = np.sort((records[:, 2] - records[:, 0])[records[:, 4] == 0])
    answered, good = len(taken), int((taken <= 1e6 * model.slo_ms).sum())
    return Goodput(
        good=good / len(times),
        late=(answered - good) / len(times),
        refused=1 - answered / len(times),
        p99_ms=percentile(taken.tolist(), 0.99) / 1e6,
    )


def measure_rate(server: Server, variant: str, model: SloModel, in_flight: int, seconds: float) -> float:
    """Rows a second that are answered, with ``in_flight`` requests of one row at any time."""
    return measure_window(server, _body(variant, model), in_flight, 1, seconds).requests_per_s


def _body(variant: str, model: SloModel) -> Body:
    row = np.random.default_rng(0).integers(0, 256, (1, model.elements))
    data = row.astype(np.int32 if model.datatype == "INT32" else np.float32).tobytes()
    tensor = {"name": model.input, "shape": [1, model.elements], "datatype": model.datatype}
    document = {
        "inputs": [tensor | {"parameters": {"binary_data_size": len(data)}}],
        "parameters": {"binary_data_output": True},
    }
    head = json.dumps(document).encode()
    return Body(head + data, "http_binary", variant, len(head))


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
