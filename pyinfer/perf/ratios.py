# SPDX-License-Identifier: Apache-2.0
"""Ratios of paired measurements and how sure they are. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Ratio", "paired_ratio", "student_t"]


@dataclass(frozen=True)
class Ratio:
    """How many times the other's a value is: the geometric mean over ``pairs`` pairs, and its confidence interval.

    ``low`` and ``high`` are None for a single pair, which has no spread to tell from.
    """

    value: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def is_certain(self) -> bool:
        """Whether there is a difference beyond what chance may have made: the interval does not hold 1."""
        return self.low is not None and self.high is not None and not self.low <= 1.0 <= self.high


def paired_ratio(base: Sequence[float], other: Sequence[float], confidence: float = 0.95) -> Ratio | None:
    """``other`` over ``base``, value by value: the two of a pair were measured one right after the other.

    What the two of a pair have in common, such as a busy neighbour, is in neither ratio nor interval. The interval is
    Student's over the logarithms, so that a ratio and its inverse are equally sure. Pairs with a value that is not
    above 0 are left out; None where nothing is left.
    """
    logs = [math.log(b / a) for a, b in zip(base, other, strict=True) if a > 0 and b > 0]
    if not logs:
        return None
    mean = statistics.fmean(logs)
    if len(logs) == 1:
        return Ratio(math.exp(mean), None, None, 1)
    half = student_t(len(logs) - 1, confidence) * statistics.stdev(logs) / math.sqrt(len(logs))
    return Ratio(math.exp(mean), math.exp(mean - half), math.exp(mean + half), len(logs))


def student_t(freedom: int, confidence: float) -> float:
    """How many standard errors to either side of a mean hold the truth with ``confidence`` (0 to 1, exclusive)."""
    low, high = 0.0, 1.0
    while _within(high, freedom) < confidence:
        high *= 2
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """The probability of -t to t: the finite sums of Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, squared = math.sin(angle), math.cos(angle) ** 2
    odd = freedom % 2 == 1
    term = math.cos(angle) if odd else 1.0
    total = 0.0
    for k in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= squared * (k + 1) / (k + 2)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total
