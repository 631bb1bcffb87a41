# SPDX-License-Identifier: Apache-2.0
"""What was measured of a candidate, and which of two is better. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

__all__ = ["Figures", "Goal", "Outcome", "Rung", "combined", "kept", "pareto", "rungs"]

#: how many times longer each rung measures, and the share of candidates that it keeps
_ETA = 3
_FINALISTS = 4
_FINAL_ROUNDS = 2
#: throughputs that differ by less are told apart by their latency
_ALIKE = 0.97


@dataclass(frozen=True)
class Figures:
    """A candidate at one level of load. Latencies in milliseconds, memory in MiB (0: unknown), CPU in us a request."""

    level: float
    throughput: float
    avg_ms: float
    p50_ms: float
    p99_ms: float
    memory_mib: float = 0.0
    cpu_us: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """Of one candidate, measured for a while: figures by level, or why there are none."""

    figures: Sequence[Figures] = ()
    failure: str = ""


@dataclass(frozen=True)
class Rung:
    """How many candidates are measured, for how long at each level of load, and how many times."""

    candidates: int
    interval_ms: int
    rounds: int


@dataclass(frozen=True)
class Goal:
    """``objective`` is ``throughput`` or ``p99``. Limits of 0 do not limit."""

    objective: str = "throughput"
    max_p99_ms: float = 0.0
    max_memory_mib: float = 0.0
    min_throughput: float = 0.0

    def violation(self, figures: Figures) -> float:
        """How many times a limit is exceeded, in the worst case; 0 where all are kept. Errors exceed any limit."""
        if figures.errors or not figures.throughput:
            return math.inf
        shares = [
            figures.p99_ms / self.max_p99_ms if self.max_p99_ms else 0.0,
            figures.memory_mib / self.max_memory_mib if self.max_memory_mib else 0.0,
            self.min_throughput / figures.throughput,
        ]
        return max(shares) if max(shares) > 1 else 0.0

    def best(self, outcome: Outcome) -> Figures | None:
        """The level that a candidate is judged by: the best that keeps all limits, else the nearest to that."""
        return min(outcome.figures, key=self.order, default=None)

    def order(self, figures: Figures) -> tuple[float, float]:
        """Less is better."""
        value = -figures.throughput if self.objective == "throughput" else figures.p99_ms
        return self.violation(figures), value

    def rank(self, outcome: Outcome) -> tuple[float, float]:
        """Less is better; what failed comes last."""
        best = self.best(outcome)
        return self.order(best) if best is not None else (math.inf, math.inf)

    def keeps(self, outcome: Outcome) -> bool:
        """Whether there is a level at which it keeps all limits."""
        best = self.best(outcome)
        return best is not None and self.violation(best) == 0

    def winner(self, outcomes: Mapping[Any, Outcome]) -> Any | None:
        """Who is best of those that keep all limits; None where nobody does.

        Of those whose throughput is hardly less than the best one's it is the one with the lowest p99.
        """
        keeping = {name: best for name, one in outcomes.items() if (best := self.best(one)) and self.keeps(one)}
        if not keeping:
            return None
        if self.objective == "throughput":
            enough = _ALIKE * max(one.throughput for one in keeping.values())
            keeping = {name: one for name, one in keeping.items() if one.throughput >= enough}
        return min(keeping, key=lambda name: keeping[name].p99_ms)


def rungs(candidates: int, interval_ms: int) -> list[Rung]:
    """Successive halving: all for a short while, the best third for three times as long, and so on.

    The last ones are measured once more, in the opposite order.
    """
    found, count, interval = [], candidates, interval_ms
    while count > _FINALISTS:
        found.append(Rung(count, interval, 1))
        count, interval = max(_FINALISTS, math.ceil(count / _ETA)), interval * _ETA
    return [*found, Rung(count, interval, _FINAL_ROUNDS)]


def kept(goal: Goal, outcomes: Mapping[Any, Outcome], count: int) -> list[Any]:
    """The ``count`` best, in order, without those that failed."""
    alive = [name for name, outcome in outcomes.items() if outcome.figures]
    return sorted(alive, key=lambda name: goal.rank(outcomes[name]))[:count]


def combined(rounds: Sequence[Outcome]) -> Outcome:
    """Several measurements as one: means, but the worst p99 and the most memory. A failure of one is its failure."""
    failures = [one.failure for one in rounds if one.failure]
    if failures:
        return Outcome(failure=failures[0])
    figures = []
    for same in zip(*(one.figures for one in rounds), strict=True):
        errors: dict[str, int] = {}
        for one in same:
            for text, count in one.errors.items():
                errors[text] = errors.get(text, 0) + count

        def mean(name: str, same: Sequence[Figures] = same) -> float:
            return fmean(getattr(one, name) for one in same)

        figures.append(
            Figures(
                same[0].level, mean("throughput"), mean("avg_ms"), mean("p50_ms"), max(one.p99_ms for one in same),
                max(one.memory_mib for one in same), mean("cpu_us"), errors,
            )
        )  # fmt: skip
    return Outcome(figures)


def pareto(points: Mapping[Any, Figures]) -> list[Any]:
    """Those that nobody beats in both throughput and p99, by throughput, the most first."""
    found, least = [], math.inf
    for name in sorted(points, key=lambda one: (-points[one].throughput, points[one].p99_ms)):
        if points[name].p99_ms < least:
            found.append(name)
            least = points[name].p99_ms
    return found
