# SPDX-License-Identifier: Apache-2.0
"""The two benches of latency SLOs: goodput beside the best fixed queue delay, and a model whose batches are no gain."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from perf.servers import Server, start_server
from perf.slo import (
    DELAYS_MS,
    LOADS,
    MODELS,
    Goodput,
    SloModel,
    arrivals,
    build_variants,
    measure_goodput,
    measure_rate,
    write_wide_mlp,
)

__all__ = ["run_batching_hurts", "run_goodput"]

_IN_FLIGHT = 64
#: Twice what all instances have in full batches: these stay full while answers go back and requests come. With an SLO
#: most of them would be refused, and refusals, which cost time, be all that clients see; how many may wait depends on
#: the model.
_QUEUED = (256,)
_QUEUED_WITHIN_SLO = (64, 16)
#: a batch of all that are in flight may take most of a second
_LEAST_S = 2.0
_HURTS = SloModel("magika", 2000, "bytes", "INT32", 2048)
#: ways to serve magika: with threads inside of single executions, with batches on one thread, and left to the SLO
_WAYS = {
    "unbatched": "instance_group [ { count: 1 kind: KIND_CPU } ]",
    "batched": "instance_group [ { count: 1 kind: KIND_CPU } ] dynamic_batching { }\n"
    'parameters { key: "intra_op_thread_count" value: { string_value: "1" } }',
    "slo": f'parameters {{ key: "latency_slo_ms" value: {{ string_value: "{_HURTS.slo_ms}" }} }}',
}


def run_goodput(repository: Path, which: str, seconds: float, rounds: int) -> dict[str, dict[str, Any]]:
    """Figures of the model ``which`` for each load. ``repository`` holds magika, if it is that one."""
    model = next(one for one in MODELS if one.name == which)
    if which == "wide_mlp":
        write_wide_mlp(repository / which)
    served = repository.parent / f"served_{which}"
    variants = build_variants(repository / which, served, model)
    figures: dict[str, dict[str, Any]] = {}
    with start_server("pyinfer", served) as server:
        possible = max(_capacity(server, model, one, max(seconds / 2, _LEAST_S)) for one in variants)
        for name, load in LOADS.items():
            seen: dict[str, list[Goodput]] = {variant: [] for variant in variants}
            for turn in range(rounds):
                length = load.length * seconds
                times = arrivals(load.rate * possible, length, load.burst, 1.5e-3 * model.slo_ms, turn)
                for variant in variants:
                    seen[variant].append(measure_goodput(server, variant, model, times))
            figures[name] = {"rate_per_s": load.rate * possible} | _compared(seen)
    return figures


def _capacity(server: Server, model: SloModel, variant: str, seconds: float) -> float:
    """What the model can do when it is scheduled like this, once the server knows it."""
    queued = _QUEUED_WITHIN_SLO if variant.endswith("_slo") else _QUEUED
    measure_rate(server, variant, model, queued[-1], seconds)
    return max(measure_rate(server, variant, model, in_flight, seconds) for in_flight in queued)


def _compared(seen: dict[str, list[Goodput]]) -> dict[str, Any]:
    slo, *fixed = seen.values()
    shares = [statistics.mean(run.good for run in runs) for runs in fixed]
    good, best = statistics.mean(run.good for run in slo), max(shares)
    return {
        "good": good,
        "late": statistics.mean(run.late for run in slo),
        "refused": statistics.mean(run.refused for run in slo),
        "p99_ms": statistics.median(run.p99_ms for run in slo),
        "best_fixed_good": best,
        "best_fixed_delay_ms": DELAYS_MS[shares.index(best)],
        # a fixed delay under which nothing is in time is beaten by any number; 0.001 keeps the ratio finite
        "ratio": good / max(best, 0.001),
        "runs": [[run.good for run in runs] for runs in seen.values()],
    }


def run_batching_hurts(repository: Path, seconds: float, rounds: int) -> dict[str, dict[str, Any]]:
    """Rows a second of each way, ``better`` of the two that a person would try."""
    source = repository / "magika"
    served = repository.parent / "served"
    plain = [
        line
        for line in (source / "config.pbtxt").read_text().splitlines()
        if line.startswith(("backend", "input", "output"))
    ]
    for way, settings in _WAYS.items():
        (served / way / "1").mkdir(parents=True)
        (served / way / "1" / "model.onnx").symlink_to((source / "1" / "model.onnx").resolve())
        text = "\n".join([f'name: "{way}"', *plain, f"max_batch_size: {_IN_FLIGHT}", settings])
        (served / way / "config.pbtxt").write_text(text + "\n")
    rates: dict[str, list[float]] = {way: [] for way in _WAYS}
    with start_server("pyinfer", served) as server:
        for way in _WAYS:
            measure_rate(server, way, _HURTS, _IN_FLIGHT, seconds)
        for _ in range(rounds):
            for way in _WAYS:
                rates[way].append(measure_rate(server, way, _HURTS, _IN_FLIGHT, seconds))
    figures: dict[str, dict[str, Any]] = {
        way: {"rows_per_s": statistics.median(seen), "windows": seen} for way, seen in rates.items()
    }
    figures["better"] = {"rows_per_s": max(figures[way]["rows_per_s"] for way in ("unbatched", "batched"))}
    return figures
