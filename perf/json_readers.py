# SPDX-License-Identifier: Apache-2.0
"""A JSON request -> its FP32 tensor, in this process: by the core, by Python's json and by orjson, on one core."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from perf.core_load import CoreLoad
from perf.load import LoadError

__all__ = ["measure_json_readers"]

_TURN_SECONDS = 0.1


def measure_json_readers(body: bytes, turns: int) -> dict[str, dict[str, float]]:
    """For each reader its median CPU milliseconds for ``body`` and megabytes (10^6) of it a second.

    The readers take turns. ``core`` is the whole way from the body to a request and its binary answer; ``json`` and
    ``orjson`` stop at Python's objects, and ``..._numpy`` go on to an array. Raises LoadError where a reader errs.
    """
    with contextlib.closing(CoreLoad(0)) as core:
        readers: Mapping[str, Callable[[bytes], float]] = {
            "core": core.read_us,
            **{name: _timed(read) for name, read in _python_readers().items()},
        }
        wanted = np.array(_data(json.loads(body)), np.float32)
        for name, read in _python_readers().items():
            if not np.array_equal(np.array(read(body), np.float32), wanted):
                raise LoadError(f"{name} reads other numbers")
        taken: dict[str, list[float]] = {name: [] for name in readers}
        for _ in range(turns):
            for name, read_us in readers.items():
                stop = time.monotonic() + _TURN_SECONDS
                while time.monotonic() < stop:
                    taken[name].append(read_us(body))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    return {name: {"read_ms": us / 1000, "read_mb_per_s": len(body) / us} for name, us in medians.items()}


def _python_readers() -> dict[str, Callable[[bytes], Any]]:
    import orjson

    def to_array(read: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        return lambda body: np.array(_data(read(body)), np.float32)

    readers: dict[str, Callable[[bytes], Any]] = {"json": json.loads, "orjson": orjson.loads}
    return {name: lambda body, read=read: _data(read(body)) for name, read in readers.items()} | {
        f"{name}_numpy": to_array(read) for name, read in readers.items()
    }


def _timed(read: Callable[[bytes], Any]) -> Callable[[bytes], float]:
    def read_us(body: bytes) -> float:
        start = time.thread_time()
        read(body)
        return 1e6 * (time.thread_time() - start)

    return read_us


def _data(document: Any) -> Any:
    return document["inputs"][0]["data"]
