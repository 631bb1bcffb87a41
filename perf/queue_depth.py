# SPDX-License-Identifier: Apache-2.0
"""What it costs the scheduler to queue a request and to take it again, by how many wait: runs ``queue_depth.cc``."""

from __future__ import annotations

import json
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from perf.load import LoadError

__all__ = ["QueueCost", "measure_queue"]

_PROGRAM = Path(__file__).resolve().parents[1] / "build" / "release" / "queue_depth"
#: of 512 requests each
_ROUNDS = 300


@dataclass(frozen=True)
class QueueCost:
    """CPU microseconds of one thread for each request (median over rounds); the share that expired."""

    request_us: float
    expired: float


def measure_queue(depth: int) -> QueueCost:
    """With ``depth`` requests in the queue. Raises LoadError where the program is not there or fails."""
    try:
        done = subprocess.run([_PROGRAM, str(_ROUNDS), str(depth)], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise LoadError(f"{_PROGRAM} is not built: make install") from None
    except subprocess.CalledProcessError as error:
        raise LoadError(f"queue_depth ended with {error.returncode}: {error.stderr[-200:]}") from None
    figures = json.loads(done.stdout)[str(depth)]
    return QueueCost(statistics.median(figures["request_ns"]) / 1000, figures["expired"])
