# SPDX-License-Identifier: Apache-2.0
"""Measures candidates by successive halving. What was measured before comes out of the state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from pyinfer.errors import ModelError, PyinferError
from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.report import error_text, told_errors
from pyinfer.perf.results import Window
from pyinfer.perf.tune.goal import Figures, Goal, Outcome, Rung, combined, kept, rungs
from pyinfer.perf.tune.hosts import Host, HostLost, Served
from pyinfer.perf.tune.space import Settings, applied
from pyinfer.perf.tune.state import State
from pyinfer.perf.turns import take_turns

__all__ = ["Search", "Tried"]

_WARM_UP_MS = 300


@dataclass
class Tried:
    """All that was measured: by rung, the first measured all. ``finished`` once the last one is whole."""

    stages: list[dict[Settings, Outcome]] = field(default_factory=list)
    finished: bool = False

    def latest(self) -> dict[Settings, Outcome]:
        """Of each candidate its longest measurement."""
        return {settings: outcome for stage in self.stages for settings, outcome in stage.items()}


class Search:
    """One search. ``levels`` are the loads that every candidate is put under: (kind, value) as a Level has them."""

    def __init__(
        self,
        host: Host,
        options: PerfOptions,
        levels: Sequence[tuple[str, float]],
        goal: Goal,
        state: State,
        say: Callable[[str], None],
    ) -> None:
        self._host, self._options, self._levels = host, options, levels
        self._goal, self._state, self._say = goal, state, say

    def run(self, candidates: Sequence[Settings], interval_ms: int, tried: Tried) -> None:
        """Fill ``tried``, which keeps what there is when this is interrupted. Raises PyinferError where the search can
        not go on: there is no server, the model as it is does not run, the state can not be written.

        The model as it is stays to the end, to be told how much was won.
        """
        left = list(candidates)
        for number, rung in enumerate(rungs(len(left), interval_ms)):
            left = [Settings(), *(one for one in left if not one.is_own)]
            stage: dict[Settings, Outcome] = {}
            tried.stages.append(stage)
            self._say(f"{len(left)} configurations, {rung.interval_ms} ms at each level of load")
            self._measure(left, rung, stage)
            following = rungs(len(candidates), interval_ms)[number + 1 :]
            left = kept(self._goal, stage, following[0].candidates if following else 0)
        tried.finished = True

    def _measure(self, left: Sequence[Settings], rung: Rung, stage: dict[Settings, Outcome]) -> None:
        rounds: dict[Settings, list[Outcome]] = {}
        for number, settings in take_turns(left, rung.rounds):
            if settings in stage and stage[settings].failure:
                continue
            outcome = self._state.find(settings, rung.interval_ms, number)
            if outcome is None:
                outcome = self._outcome(settings, rung.interval_ms)
                if settings.is_own and outcome.failure:
                    raise ModelError(f"the model as it is can not be measured: {outcome.failure}")
                self._state.keep(settings, rung.interval_ms, number, outcome)
            rounds.setdefault(settings, []).append(outcome)
            stage[settings] = combined(rounds[settings])
            self._tell(settings, outcome)

    def _tell(self, settings: Settings, outcome: Outcome) -> None:
        best = self._goal.best(outcome)
        what = f"{best.throughput:.1f} infer/s, p99 {best.p99_ms:.1f} ms" if best else f"failed: {outcome.failure}"
        self._say(f"  {settings.text()}: {what}")

    def _outcome(self, settings: Settings, interval_ms: int) -> Outcome:
        config = None if settings.is_own else applied(self._host.base, settings)
        try:
            with self._host.serving(config) as served:
                return Outcome(self._figures(served, interval_ms))
        except HostLost:
            raise
        except PyinferError as error:
            return Outcome(failure=" ".join(error_text(str(error)).split()))  # a line each

    def _figures(self, served: Served, interval_ms: int) -> list[Figures]:
        options = replace(
            self._options,
            url=served.url,
            server_pid=served.pid,
            max_trials=1,
            interval_ms=min(interval_ms, _WARM_UP_MS),
        )
        session = Session(options)
        found = []
        session.measure(Level(*self._levels[-1]))
        session.options = replace(options, interval_ms=interval_ms)
        for kind, value in self._levels:
            level = Level(kind, value)
            session.measure(level)
            found.append(_figures(value, level.windows[0]))
        return found


def _figures(level: float, window: Window) -> Figures:
    return Figures(
        level,
        window.throughput,
        window.latency_us() / 1e3,
        window.latency_us(50) / 1e3,
        window.latency_us(99) / 1e3,
        window.process.memory_bytes / 2**20 if window.process else 0.0,
        window.server_cpu_us,
        dict(told_errors(window.load.errors)),
    )
