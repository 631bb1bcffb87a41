# SPDX-License-Identifier: Apache-2.0
"""Results -> ``docs/perf/README.md``. Every number on that page comes from a JSON file; none is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.goals import Verdict, describe, judge
from perf.results import Result
from perf.scenarios import SCENARIOS, Scenario

__all__ = ["PAGE", "render", "verdicts"]

PAGE = Path(__file__).resolve().parents[1] / "docs" / "perf" / "README.md"

_HEAD = """# Performance

This page is written by `python -m perf render` from the files in `perf/results/`; change those by `python -m perf run`.

Server CPU is user plus system time of all processes of the server per request, read from `/proc`: load tool and server
share the cores, so requests per second move with what else the machine does, and CPU per request much less. Servers of
one row are up at the same time and take turns. Latencies are the load tool's. `triton` is the real tritonserver of the
PyPI package `nvidia-pytriton`; its `identity` backend is compiled from `perf/triton_identity.c`, its Python backend is
its own. `echo` answers with the bytes it was sent, under uvloop, with nothing else around. `in_process` is onnxruntime
alone, at the mean batch that the server formed. Readers of JSON turn the request's body into numbers on one thread:
`core` is pyinfer's own, into a tensor; `json` and `orjson` make Python's objects, and with `_numpy` an array of these.
`waiting_N` is the scheduler's queue alone, on one thread, with so many requests in it; of these `expired` is the share
whose time ran out. MiniLM is `all-MiniLM-L6-v2`, made an ONNX model of its trained weights, on one server as two models
that take turns: `unpadded` puts texts of equal length into one batch, `padded` pads them ([padding](../padding.md)).
"""

_NAMES = {"grpc": "h2load", "grpc_stream": "grpc_stream_load", "http_binary": "wrk", "http_json": "wrk"}


def render(results: Mapping[str, Result]) -> str:
    """The whole page."""
    parts = [_HEAD]
    chosen = [(s, results[s.name]) for s in SCENARIOS if s.name in results]
    if not chosen:
        return _HEAD + "\nNothing has been measured yet.\n"
    if any(result.quick for _, result in chosen):
        parts.append("**Some rows were taken with `--quick`: a glance, not a record.**\n")
    loads = [(s, r) for s, r in chosen if s.kind == "load"]
    others = [(s, r) for s, r in chosen if s.kind != "load"]
    parts.append("## Goals\n\n" + _table(("work", "goal", "is", "met"), _goal_rows(chosen)))
    if loads:
        columns = (
            "work",
            "server",
            "CPU us",
            "req/s",
            "p50 us",
            "p99 us",
            "mean batch",
            "RSS MiB",
            "failures",
            "stolen",
        )
        parts.append("## Load\n\n" + _table(columns, _load_rows(loads)))
    for scenario, result in others:
        parts.append(_section(scenario, result))
    parts.append("## Machines\n\n" + _machines(chosen))
    return "\n".join(parts)


def verdicts(results: Mapping[str, Result]) -> list[tuple[Scenario, Verdict]]:
    """Every goal of every scenario, also of those not measured."""
    rows = []
    for scenario in SCENARIOS:
        servers = results[scenario.name].servers if scenario.name in results else {}
        rows += [(scenario, judge(goal, servers)) for goal in scenario.goals]
    return rows


def _goal_rows(chosen: Sequence[tuple[Scenario, Result]]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for scenario, result in chosen:
        for goal in scenario.goals:
            verdict = judge(goal, result.servers)
            met = {True: "yes", False: "**no**", None: "not measured"}[verdict.met]
            text = describe(goal)
            if goal.of is not None and verdict.limit is not None:
                text += f" ({_number(verdict.limit)})"
            rows.append((scenario.title, text, _number(verdict.value), met))
    return rows


def _load_rows(loads: Sequence[tuple[Scenario, Result]]) -> list[tuple[str, ...]]:
    keys = ("cpu_us", "requests_per_s", "p50_us", "p99_us", "mean_batch", "rss_mib", "failures")
    rows = []
    for scenario, result in loads:
        for index, (server, figures) in enumerate(result.servers.items()):
            title = f"{scenario.title} ({_NAMES[scenario.protocol]})" if index == 0 else ""
            stolen = figures.get("stolen")
            numbers = [_number(figures.get(key)) for key in keys]
            rows.append((title, server, *numbers, "" if stolen is None else f"{100 * stolen:.0f} %"))
    return rows


def _section(scenario: Scenario, result: Result) -> str:
    keys = list(dict.fromkeys(k for row in result.servers.values() for k, v in row.items() if not isinstance(v, list)))
    rows = [(server, *(_number(figures.get(key)) for key in keys)) for server, figures in result.servers.items()]
    return f"## {scenario.title[0].upper()}{scenario.title[1:]}\n\n" + _table(("server", *keys), rows)


def _machines(chosen: Sequence[tuple[Scenario, Result]]) -> str:
    """One line for each set of facts, with the scenarios that were taken under it."""
    lines: dict[str, list[str]] = {}
    for scenario, result in chosen:
        lines.setdefault(_facts(result.machine), []).append(f"`{scenario.name}` ({result.taken[:10]})")
    return "".join(f"- {facts}: {', '.join(names)}\n" for facts, names in lines.items())


def _facts(machine: Mapping[str, Any]) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in machine.get("packages", {}).items())
    where = f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']:.0f} GiB, Linux {machine['kernel']}"
    commit = f", commit {machine['commit']}" if machine.get("commit") else ""
    return f"{where}, Python {machine['python']}, {packages}, {machine['h2load']}, {machine['wrk']}{commit}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]]) + "\n"


def _number(value: float | None) -> str:
    """Three significant digits, thousands apart; empty for None."""
    if value is None:
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
