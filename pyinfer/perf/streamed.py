# SPDX-License-Identifier: Apache-2.0
"""What was met of answers that are streams of responses, for people. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from pyinfer.perf.results import Measured
from pyinfer.perf.table import Table

__all__ = ["streamed_table"]

_HEAD = [
    "responses/s",
    "first avg us",
    "p50",
    "p90",
    "p99",
    "gap avg us",
    "p50",
    "p90",
    "p99",
    "tokens/s",
    "token avg us",
]


def streamed_table(results: Sequence[Measured]) -> Table | None:
    """A row for each level; None where there are none."""
    return Table([results[0].kind.lower(), *_HEAD], [_row(one) for one in results]) if results else None


def _row(one: Measured) -> list[str]:
    times = one.window.load.streamed
    row = [f"{one.value:g}", f"{one.window.response_throughput:.1f}"]
    for histogram in (times.first, times.gap):
        row += [f"{histogram.mean_ns / 1e3:.0f}", *(f"{histogram.percentile(p) / 1e3:.0f}" for p in (50, 90, 99))]
    return [*row, f"{one.window.token_throughput:.1f}", f"{times.token.mean_ns / 1e3:.0f}"]
