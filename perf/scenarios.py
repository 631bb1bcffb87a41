# SPDX-License-Identifier: Apache-2.0
"""What is measured and what is hoped for: every scenario as data.

CPU is server CPU per request in microseconds, user plus system of all processes of the server. A goal is compared by
``perf.goals``; nothing here runs anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from perf.bodies import Protocol

__all__ = ["SCENARIOS", "Goal", "Scenario", "scenario_named"]

_Kind = Literal[
    "load",
    "json",
    "start",
    "growth",
    "shared_memory",
    "events",
    "histograms",
    "ensemble",
    "queue",
    "goodput",
    "batching_hurts",
    "padding",
]


@dataclass(frozen=True)
class Goal:
    """``metric`` must be ``relation`` to ``constant + factor * of``; metrics are written ``server.figure``."""

    metric: str
    relation: Literal["<=", ">="]
    constant: float = 0.0
    factor: float = 0.0
    of: str | None = None


@dataclass(frozen=True)
class Scenario:
    """One row of the table.

    ``peers`` are measured in the same run, alternating with pyinfer. Each request sends one row of ``elements`` FP32
    values over ``connections`` x ``streams`` (HTTP: their product). ``known`` is what Triton showed on the 2-core
    machine on which the goals were set.
    """

    name: str
    title: str
    kind: _Kind = "load"
    model: str = "identity"
    protocol: Protocol = "grpc"
    connections: int = 8
    streams: int = 8
    elements: int = 16
    peers: tuple[str, ...] = ("triton",)
    goals: tuple[Goal, ...] = ()
    known: str = ""
    #: what a text encoder is asked for; see perf.minilm
    texts: Literal["titles", "sentences"] = "sentences"
    #: measure onnxruntime alone in this process too, at the mean batch that the server formed
    in_process: bool = False

    @property
    def input(self) -> str:
        return "x" if self.model == "simple_mlp" else "INPUT0"

    @property
    def output(self) -> str:
        return "y" if self.model == "simple_mlp" else "OUTPUT0"


_MIB_16 = 4 * 1024 * 1024  # FP32 elements
_AS_FAST_AS_60_PERCENT = Goal("pyinfer.requests_per_s", ">=", factor=0.6, of="echo.requests_per_s")

SCENARIOS = (
    Scenario(
        "grpc_8x8",
        "identity FP32[16], gRPC, 8 connections x 8 streams",
        goals=(Goal("pyinfer.cpu_us", "<=", 13),),
        known="74-81 us, 14-16 k req/s",
    ),
    Scenario(
        "grpc_64x1",
        "identity FP32[16], gRPC, 64 connections x 1 stream",
        connections=64,
        streams=1,
        goals=(Goal("pyinfer.cpu_us", "<=", 22),),
        known="95-130 us",
    ),
    Scenario(
        "grpc_1x1",
        "identity FP32[16], gRPC, one at a time",
        connections=1,
        streams=1,
        goals=(
            Goal("pyinfer.p50_us", "<=", factor=1 / 3, of="triton.p50_us"),
            Goal("pyinfer.cpu_us", "<=", factor=1 / 3, of="triton.cpu_us"),
        ),
        known="340-470 us p50, 340-550 us CPU",
    ),
    Scenario(
        "grpc_stream_64",
        "identity FP32[16], gRPC, one stream with 64 requests in flight",
        protocol="grpc_stream",
        connections=1,
        streams=64,
        goals=(Goal("pyinfer.cpu_us", "<=", 13),),
    ),
    Scenario(
        "http_binary_64",
        "identity FP32[16], HTTP binary, 64 connections",
        protocol="http_binary",
        connections=64,
        streams=1,
        goals=(Goal("pyinfer.cpu_us", "<=", 18),),
        known="56-63 us, 19-24 k req/s",
    ),
    Scenario(
        "http_json_64",
        "identity FP32[16], HTTP JSON, 64 connections",
        protocol="http_json",
        connections=64,
        streams=1,
        goals=(Goal("pyinfer.cpu_us", "<=", 20),),
        known="56-64 us",
    ),
    Scenario(
        "python_8x8",
        "Python backend identity FP32[16], gRPC, 8 connections x 8 streams",
        model="python_identity",
        goals=(
            Goal("pyinfer.cpu_us", "<=", 20),
            Goal("pyinfer.cpu_us", "<=", factor=1 / 6, of="triton.cpu_us"),
        ),
        known="142 us with its stub, 8.2 k req/s",
    ),
    Scenario(
        "python_process_8x8",
        "the same in a process of its own, gRPC, 8 connections x 8 streams",
        model="python_process",
        goals=(
            Goal("pyinfer.cpu_us", "<=", 25),
            Goal("pyinfer.cpu_us", "<=", factor=1 / 5, of="triton.cpu_us"),
        ),
    ),
    Scenario(
        "python_process_1x1",
        "the same, one at a time",
        model="python_process",
        connections=1,
        streams=1,
        goals=(Goal("pyinfer.p50_us", "<=", factor=1 / 2, of="triton.p50_us"),),
    ),
    Scenario(
        "python_process_4mib",
        "the same with a tensor of 4 MiB there and back, gRPC, 4 connections",
        model="python_process",
        connections=4,
        streams=1,
        elements=_MIB_16 // 4,
        goals=(Goal("pyinfer.cpu_us", "<=", factor=1 / 3, of="triton.cpu_us"),),
    ),
    Scenario(
        "mlp_64",
        "MLP 256-512-512-10, ONNX, gRPC, 8 connections x 8 streams",
        model="simple_mlp",
        elements=256,
        peers=(),
        in_process=True,
        goals=(Goal("pyinfer.cpu_us", "<=", 15, factor=1, of="in_process.cpu_us"),),
        known="95 us, 14.5 k req/s",
    ),
    Scenario(
        "grpc_16mib",
        "identity, one tensor of 16 MiB there and back, gRPC",
        connections=1,
        streams=1,
        elements=_MIB_16,
        peers=("echo", "triton"),
        goals=(_AS_FAST_AS_60_PERCENT,),
    ),
    Scenario(
        "http_16mib",
        "identity, one tensor of 16 MiB there and back, HTTP binary",
        protocol="http_binary",
        connections=1,
        streams=1,
        elements=_MIB_16,
        peers=("echo", "triton"),
        goals=(_AS_FAST_AS_60_PERCENT,),
    ),
    Scenario(
        "json_fp32_150528",
        "identity, JSON of 150,528 FP32 values there and back, HTTP; and what reads such a request",
        kind="json",
        protocol="http_json",
        connections=1,
        streams=1,
        elements=150_528,
        goals=(Goal("core.read_mb_per_s", ">=", 300),),
        known="56 ms of server CPU",
    ),
    Scenario(
        "shared_memory",
        "identity, one tensor of 64 MiB there and back, gRPC and system shared memory",
        kind="shared_memory",
        elements=4 * _MIB_16,
        goals=(Goal("pyinfer.shm_over_grpc", ">=", 5),),
        known="5,700 against 200 MB/s",
    ),
    Scenario(
        "generate_stream",
        "a Python model that makes 2,000 responses of one short text, each an event of generate_stream",
        kind="events",
        model="events",
        elements=2000,
        goals=(Goal("pyinfer.cpu_us", "<=", factor=1 / 3, of="triton.cpu_us"),),
    ),
    Scenario(
        "start",
        "start to ready and memory, identity only",
        kind="start",
        goals=(Goal("pyinfer.ready_s", "<=", 0.6), Goal("pyinfer.rss_mib", "<=", 80)),
        known="0.10 s, 37 MiB (its container aside)",
    ),
    Scenario(
        "growth",
        "memory after 1,000,000 requests, half gRPC and half HTTP JSON",
        kind="growth",
        peers=(),
        goals=(Goal("pyinfer.growth_mib", "<=", 5),),
    ),
    Scenario(
        "histograms",
        "histograms of each model, in the core alone: identity FP32[16], HTTP binary, bursts of 64",
        kind="histograms",
        peers=(),
        goals=(Goal("pyinfer.cpu_us", "<=", factor=1.01, of="without_histograms.cpu_us"),),
    ),
    Scenario(
        "ensemble_3",
        "an ensemble of 3 identity models one after the other, in the core alone: FP32[16], HTTP binary, bursts of 64",
        kind="ensemble",
        peers=(),
        goals=(Goal("pyinfer.step_us", "<=", 15),),
    ),
    Scenario(
        "queue_depth",
        "the queue alone, by how many wait: to push and to take a request, with priorities and deadlines, batches of 8",
        kind="queue",
        peers=(),
        # The logarithms of 1,000 and of 1,000,000 are as 1 to 2.
        goals=(
            Goal("waiting_1000.request_us", "<=", 1),
            Goal("waiting_1000000.request_us", "<=", factor=2, of="waiting_1000.request_us"),
        ),
    ),
    Scenario(
        "slo_goodput",
        "latency SLO of two models beside the best of five fixed queue delays: share of requests answered in time",
        kind="goodput",
        model="magika",
        peers=(),
        goals=(
            Goal("magika_light.ratio", ">=", 0.99),
            Goal("magika_poisson.ratio", ">=", 1.3),
            Goal("magika_bursts.ratio", ">=", 1),
            Goal("wide_mlp_light.ratio", ">=", 0.99),
            Goal("wide_mlp_poisson.ratio", ">=", 1.3),
            Goal("wide_mlp_bursts.ratio", ">=", 1),
        ),
    ),
    Scenario(
        "slo_batching_hurts",
        "magika with nothing but a latency SLO, beside what one would try by hand: rows a second, 64 in flight",
        kind="batching_hurts",
        model="magika",
        peers=(),
        goals=(Goal("slo.rows_per_s", ">=", factor=0.9, of="better.rows_per_s"),),
        known="71 rows/s with `dynamic_batching {}`",
    ),
    Scenario(
        "padding_titles",
        "MiniLM on titles of the Python reference, HTTP binary, 64 in flight: as it is, and padded",
        kind="padding",
        texts="titles",
        connections=64,
        streams=1,
        peers=(),
        goals=(
            Goal("padded.requests_per_s", ">=", factor=2, of="unpadded.requests_per_s"),
            Goal("padded.p99_us", "<=", factor=1, of="unpadded.p99_us"),
        ),
    ),
    Scenario(
        "padding_sentences",
        "MiniLM on sentences of the Python reference, HTTP binary, 64 in flight: as it is, and padded",
        kind="padding",
        texts="sentences",
        connections=64,
        streams=1,
        peers=(),
        goals=(Goal("padded.requests_per_s", ">=", factor=1, of="unpadded.requests_per_s"),),
    ),
)


def scenario_named(name: str) -> Scenario:
    """Raises ValueError, with the names there are, for an unknown one."""
    for scenario in SCENARIOS:
        if scenario.name == name:
            return scenario
    raise ValueError(f"no scenario {name!r}; there are: {', '.join(s.name for s in SCENARIOS)}")
