# SPDX-License-Identifier: Apache-2.0
"""onnxruntime alone, in this process: what a row of a model costs with no server around it."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["measure_in_process", "run_once"]


def _session(model: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def run_once(model: Path, name: str, tensor: NDArray[np.float32]) -> NDArray[Any]:
    """The model's first output for one batch."""
    return np.asarray(_session(model).run(None, {name: tensor})[0])


def measure_in_process(
    model: Path, name: str, elements: int, batch: int, *, seconds: float, rounds: int
) -> dict[str, float]:
    """Median CPU microseconds per row, and rows per second, of batches [batch, elements] on one thread."""
    session, rng = _session(model), np.random.default_rng(0)
    feed = {name: rng.standard_normal((batch, elements)).astype(np.float32)}
    for _ in range(20):
        session.run(None, feed)
    costs, rates = [], []
    for _ in range(rounds):
        runs, start, cpu = 0, time.perf_counter(), sum(os.times()[:2])
        while time.perf_counter() - start < seconds:
            session.run(None, feed)
            runs += 1
        elapsed, cpu = time.perf_counter() - start, sum(os.times()[:2]) - cpu
        costs.append(1e6 * cpu / (runs * batch))
        rates.append(runs * batch / elapsed)
    return {"cpu_us": statistics.median(costs), "requests_per_s": statistics.median(rates), "batch": float(batch)}
