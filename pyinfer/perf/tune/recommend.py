# SPDX-License-Identifier: Apache-2.0
"""What the measurements say: a table, and the configuration to use with its reasons in comments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.perf.table import Table
from pyinfer.perf.tune.goal import Figures, Goal, Outcome, pareto
from pyinfer.perf.tune.search import Tried
from pyinfer.perf.tune.space import DIMENSIONS, Settings

__all__ = ["MARK", "config_text", "failures", "pareto_table", "reasons", "result_line"]

#: the first words of every file that is written
MARK = "# Recommended by pyinfer perf tune"


def pareto_table(tried: Tried, goal: Goal, winner: Settings | None) -> Table:
    """Who nobody beats in throughput and p99, and the model as it is. ``*`` is recommended, ``!`` exceeds a limit."""
    best = {settings: figures for settings, one in tried.latest().items() if (figures := goal.best(one))}
    shown = pareto({settings: one for settings, one in best.items() if not one.errors})
    shown += [settings for settings in (winner, Settings()) if settings in best and settings not in shown]
    head = ["configuration", "", "load", "infer/s", "avg ms", "p50", "p99", "cpu us", "MiB"]
    rows = []
    for settings in sorted(shown, key=lambda one: -best[one].throughput):
        one = best[settings]
        mark = "*" if settings == winner else "!" if goal.violation(one) else ""
        rows.append(
            [settings.text(), mark, f"{one.level:g}", f"{one.throughput:.1f}", f"{one.avg_ms:.2f}", f"{one.p50_ms:.2f}",
             f"{one.p99_ms:.2f}", _known(one.cpu_us), _known(one.memory_mib)]
        )  # fmt: skip
    return Table(head, rows, named=2)


def _known(value: float) -> str:
    return f"{value:.0f}" if value else "-"


def result_line(figures: Figures, load: str) -> str:
    """Figures in words."""
    memory = f", {figures.memory_mib:.0f} MiB" if figures.memory_mib else ""
    cpu = f", {figures.cpu_us:.0f} us CPU a request" if figures.cpu_us else ""
    at = f" at {load} {figures.level:g}"
    return (
        f"{figures.throughput:.1f} infer/s, p50 {figures.p50_ms:.2f} ms, p99 {figures.p99_ms:.2f} ms{cpu}{memory}{at}"
    )


def reasons(tried: Tried, goal: Goal, winner: Settings) -> Iterator[str]:
    """For each setting of the winner what the others of its values have come to, at best.

    Held against each other is what was measured for equally long, as long as both were.
    """
    for name in DIMENSIONS:
        value = getattr(winner, name)
        others = sorted({getattr(one, name) for one in tried.stages[0] if not one.is_own} - {value}, key=_sort)
        if value is None and name not in ("queue_delay_us", "latency_slo_ms", "preferred_batch_size"):
            continue
        told = [text for other in others if (text := _against(tried, goal, winner, name, other))]
        if told:
            yield f"{name} {_text(value)}: " + "; ".join(told)


def _sort(value: Any) -> tuple[bool, float]:
    return value is not None, value or 0.0


def _text(value: Any) -> str:
    return "none" if value is None else f"{value:g}"


def _against(tried: Tried, goal: Goal, winner: Settings, name: str, other: Any) -> str:
    for stage in reversed(tried.stages):
        rivals = {one: stage[one] for one in stage if not one.is_own and getattr(one, name) == other}
        alive = {one: outcome for one, outcome in rivals.items() if outcome.figures}
        if winner not in stage or not rivals or (not alive and stage is not tried.stages[0]):
            continue
        if not alive:
            return f"{_text(other)} fails ({next(iter(rivals.values())).failure})"
        rival = min(alive, key=lambda one: goal.rank(alive[one]))
        ours, theirs = goal.best(stage[winner]), goal.best(alive[rival])
        assert ours is not None
        assert theirs is not None
        text = f"{_text(other)} gives at best {theirs.throughput / ours.throughput:.2f} of the throughput"
        return f"{text}, p99 {theirs.p99_ms:.1f} ms" + _exceeded(goal, theirs)
    return ""


def _exceeded(goal: Goal, figures: Figures) -> str:
    if figures.errors:
        text, count = max(figures.errors.items(), key=lambda one: one[1])
        return f" and {count} failed requests ({text})"
    over = []
    if goal.max_p99_ms and figures.p99_ms > goal.max_p99_ms:
        over.append("too slow")
    if goal.max_memory_mib and figures.memory_mib > goal.max_memory_mib:
        over.append(f"too large with {figures.memory_mib:.0f} MiB")
    if figures.throughput < goal.min_throughput:
        over.append("too few")
    return f" ({', '.join(over)})" if over else ""


def config_text(config: Any, lines: Sequence[str]) -> str:
    """``config``, a message ModelConfig, as ``config.pbtxt`` with ``lines`` in comments before it."""
    from google.protobuf import text_format

    comments = "".join(f"# {_plain(line)}\n" for line in lines)
    return f"{MARK}\n{comments}\n{text_format.MessageToString(config)}"


def _plain(line: str) -> str:
    """A server's words may have lines of their own, which would be no comment."""
    return " ".join(line.split())


def failures(outcomes: Mapping[Settings, Outcome]) -> list[str]:
    """Who could not be measured, and why."""
    return [f"{settings.text()}: {one.failure}" for settings, one in outcomes.items() if one.failure]
