# SPDX-License-Identifier: Apache-2.0
"""Results -> ``docs/perf/`` and the table of ``README.md``. All numbers come from JSON files; none is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from perf.goals import Verdict, figure, judge
from perf.plots import Row, chart
from perf.results import Result
from perf.scenarios import SCENARIOS, Scenario

__all__ = ["PAGE", "README", "pages", "readme_with", "render", "verdicts"]

_ROOT = Path(__file__).resolve().parents[1]
PAGE, README = _ROOT / "docs" / "perf" / "README.md", _ROOT / "README.md"

_HEAD = """# Performance

This page is written by `python -m perf render` from the files in `perf/results/`; change those by `python -m perf run`.

Server CPU is user plus system time of all processes of the server per request, by the clocks of the kernel: load and
server share the cores, so requests per second move with what else the machine does, and CPU per request much less.
Servers of one row are up at the same time and take turns. The load is made by the engine of `pyinfer perf`, on one
thread, where [Machines](#machines) does not name other tools; latencies are those that it sees. `triton` is the real
tritonserver of the PyPI package `nvidia-pytriton`; its `identity` backend is compiled from `perf/triton_identity.c`,
its Python backend is its own. `fastapi`, `litserve` and `mlserver` serve the same ONNX file, each with one session on
one thread. `echo` answers with the bytes it was sent, under uvloop, with nothing else around. `in_process` is
onnxruntime alone, at the mean batch that the server formed. Readers of JSON turn the request's body into numbers on
one thread: `core` is pyinfer's own, into a tensor; `json` and `orjson` make Python's objects, and with `_numpy` an
array of these. `waiting_N` is the scheduler's queue alone, on one thread, with so many requests in it; of these
`expired` is the share whose time ran out. MiniLM is `all-MiniLM-L6-v2`, made an ONNX model of its trained weights, on
one server as two models that take turns: `unpadded` puts texts of equal length into one batch, `padded` pads them
([padding](../padding.md)).

Where load tools are beside each other, each loads pyinfer: `client_us` is the tool's own CPU per request while it is
under way, `cpu_us` that of the server, `served_per_s` what the server counts meanwhile. `agreement` says how far
`pyinfer perf` is from another tool, as a share, and what of it may be chance (`noise`): the 95 % confidence interval of
the ratio over the rounds, the difference between two runs of one and the same tool, and what a histogram can tell
apart, whichever is widest; of several tools, the one that is furthest beyond its noise. Goals allow a hundredth on top:
each tool counts the time that its own client takes as the server's.
"""

_LOAD_COLUMNS = (
    "work",
    "server",
    "CPU us",
    "req/s",
    "p50 us",
    "p99 us",
    "load's CPU us",
    "mean batch",
    "RSS MiB",
    "failures",
    "stolen",
)
_README_BEGIN, _README_END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"


def pages(results: Mapping[str, Result]) -> dict[Path, str]:
    """All that is rendered: the page, its charts, and the README with its table."""
    charts = _charts(results)
    return {
        PAGE: render(results),
        **{PAGE.with_name(name): text for name, text in charts.items()},
        README: readme_with(README.read_text(), results),
    }


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
    parts += [f"![{name.removesuffix('.svg')}]({name})\n" for name in _charts(results)]
    if loads:
        parts.append("## Load\n\n" + _table(_LOAD_COLUMNS, _load_rows(loads)))
    for scenario, result in others:
        parts.append(_section(scenario, result))
    missing = [f"`{s.name}`" for s in SCENARIOS if s.name not in results]
    if missing:
        parts.append(f"## Not measured yet\n\n{', '.join(missing)}\n")
    parts.append("## Machines\n\n" + _machines(chosen))
    return "\n".join(parts)


def readme_with(text: str, results: Mapping[str, Result]) -> str:
    """The README ``text`` with its table rendered anew. Raises ValueError where the marks are not there."""
    before, begin, rest = text.partition(_README_BEGIN)
    _, end, after = rest.partition(_README_END)
    if not begin or not end:
        raise ValueError("the README has no marks for the table of measurements")
    rows = []
    for scenario in SCENARIOS:
        servers = results[scenario.name].servers if scenario.name in results else {}
        own, other = (figure(servers, f"{name}.cpu_us") for name in ("pyinfer", "triton"))
        if scenario.shown and own and other:
            rows.append((scenario.title, f"{_number(own)} us", f"{_number(other)} us", f"{other / own:.1f} x"))
    table = _table(("server CPU for each request", "pyinfer", "Triton", "Triton costs"), rows)
    return before + begin + table + end + after


def _charts(results: Mapping[str, Result]) -> dict[str, str]:
    """File name -> SVG, of the charts for which there are results."""
    loads = [(s, results[s.name]) for s in SCENARIOS if s.kind == "load" and s.name in results]
    tools = [(s, results[s.name]) for s in SCENARIOS if s.kind == "clients" and s.name in results]
    drawn = {
        "cpu.svg": ("Server CPU for each request", "us", _spreads(loads, "cpu_us"), "median", "all windows"),
        "latency.svg": ("Latency", "us", _latencies(loads), "p50", "p50 to p99"),
        "clients.svg": ("CPU of load tools for each request", "us", _spreads(tools, "client_us"), "median", "all runs"),
    }
    return {
        name: chart(title, unit, rows, middle=middle, ends=ends)
        for name, (title, unit, rows, middle, ends) in drawn.items()
        if rows
    }


def _spreads(chosen: Sequence[tuple[Scenario, Result]], key: str) -> list[Row]:
    rows: list[Row] = []
    for scenario, result in chosen:
        spreads = {}
        for server, figures in result.servers.items():
            seen = [window[key] for window in figures.get("windows", ()) if window.get(key)]
            if seen and figures.get(key):
                spreads[server] = (min(seen), figures[key], max(seen))
        rows += [(scenario.title, spreads)] if spreads else []
    return rows


def _latencies(chosen: Sequence[tuple[Scenario, Result]]) -> list[Row]:
    rows: list[Row] = []
    for scenario, result in chosen:
        spreads = {
            server: (figures["p50_us"], figures["p50_us"], figures["p99_us"])
            for server, figures in result.servers.items()
            if figures.get("p50_us") and figures.get("p99_us")
        }
        rows += [(scenario.title, spreads)] if spreads else []
    return rows


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
            text = goal.text
            if goal.of is not None and verdict.limit is not None:
                text += f" ({_number(verdict.limit)})"
            rows.append((scenario.title, text, _number(verdict.value), met))
    return rows


def _load_rows(loads: Sequence[tuple[Scenario, Result]]) -> list[tuple[str, ...]]:
    keys = ("cpu_us", "requests_per_s", "p50_us", "p99_us", "client_us", "mean_batch", "rss_mib", "failures")
    rows = []
    for scenario, result in loads:
        for index, (server, figures) in enumerate(result.servers.items()):
            title = scenario.title if index == 0 else ""
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
        lines.setdefault(f"{_facts(result.machine)}; load by {result.load}", []).append(
            f"`{scenario.name}` ({result.taken[:10]})"
        )
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
