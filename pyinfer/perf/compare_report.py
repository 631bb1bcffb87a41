# SPDX-License-Identifier: Apache-2.0
"""A comparison as tables and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pyinfer.perf.compare import METRICS, Comparison
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.ratios import Ratio
from pyinfer.perf.report import told_errors
from pyinfer.perf.results import Measured, Window, client_warnings, warnings_of
from pyinfer.perf.table import Table

__all__ = ["compare_document", "notes_of", "ratio_table", "server_table"]

_PERCENTILES = (50, 90, 95, 99, 99.9, 100)


def server_table(found: Comparison) -> Table:
    """What each server did in all its windows together."""
    with_process = any(turn.window.process for turn in found.turns)
    head = ["server", "infer/s", "avg us", "p50", "p90", "p95", "p99", "p99.9", "max", "errors", "client us"]
    head += ["server us", "MiB"] if with_process else []
    rows = []
    for name in found.names:
        total = found.total(name)
        if total is None:
            continue
        latency = total.load.latency
        row = [name, f"{found.mean(name, 'throughput'):.1f}", f"{total.latency_us():.0f}"]
        row += [f"{latency.percentile(each) / 1e3:.0f}" for each in _PERCENTILES]
        row += [str(total.load.failed), f"{total.client_cpu_us:.1f}"]
        if with_process:
            use = total.process
            row += [f"{total.server_cpu_us:.1f}", f"{use.memory_bytes / 2**20:.0f}"] if use else ["-", "-"]
        rows.append(row)
    return Table(head, rows, named=1)


def ratio_table(found: Comparison) -> Table:
    """Every metric of every other server as a multiple of the first one's."""
    base, *others = found.names
    rows = []
    for metric in METRICS:
        ratios = [found.ratio(name, metric) for name in others]
        if any(ratios):
            rows.append([metric, *map(_shown, ratios)])
    return Table(["ratio", *(f"{name} / {base}" for name in others)], rows, named=1)


def _shown(ratio: Ratio | None) -> str:
    if ratio is None:
        return "-"
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.3f}"
    return f"{ratio.value:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]{' ' if ratio.is_certain else '~'}"


def notes_of(found: Comparison) -> list[str]:
    """What has to be known about the tables, and what went wrong."""
    rounds = min(len(found.windows(name)) for name in found.names)
    meaning = (
        f"Times in us. [..]: {found.confidence * 100:g} % confidence interval over {rounds} pairs of windows; "
        "~: it holds 1, so that no difference is shown. CPU is for each request."
    )
    notes = [meaning]
    for name in found.names:
        notes += [f"{name}: {text}" for text in _warnings(found, name)]
        errors = told_errors(found.errors(name)).most_common()
        notes += [f"{name}: {count} requests failed: {text}" for text, count in errors]
    return notes


def _warnings(found: Comparison, name: str) -> list[str]:
    total, windows = found.total(name), found.windows(name)
    if total is None:
        return []
    # all together have lasted while others had their turns as well
    busiest = max(windows, key=lambda one: one.load.cpu_ns / one.seconds)
    load = warnings_of(Measured(found.kind, found.value, total, is_stable=True), windows[-1].load)
    return [*load, *client_warnings(busiest)]


def compare_document(found: Comparison, servers: Mapping[str, PerfOptions]) -> dict[str, Any]:
    """Everything, for programs. Times in microseconds, memory in bytes, throughput in inferences a second."""
    base, *others = found.names
    return {
        "load": {"mode": found.kind.lower().replace(" ", "_"), "value": found.value},
        "base": base,
        "servers": {
            name: {
                "url": options.url,
                "protocol": options.protocol,
                "model": options.model,
                "version": options.version,
                "batch_size": options.batch_size,
                "means": {metric: found.mean(name, metric) for metric in METRICS if found.mean(name, metric)},
                "errors": dict(told_errors(found.errors(name))),
                "given_up": found.failures.get(name),
                "windows": [_window(turn.round, turn.window) for turn in found.turns if turn.name == name],
            }
            for name, options in servers.items()
        },
        "confidence": found.confidence,
        "ratios": {name: {metric: _ratio(found.ratio(name, metric)) for metric in METRICS} for name in others},
    }


def _window(number: int, window: Window) -> dict[str, Any]:
    values = {metric: value for metric, of in METRICS.items() if (value := of(window))}
    counts = {"requests": window.load.latency.count, "failed": window.load.failed, "seconds": window.seconds}
    return {"round": number, **counts, **values}


def _ratio(ratio: Ratio | None) -> dict[str, Any] | None:
    if ratio is None:
        return None
    return {"ratio": ratio.value, "low": ratio.low, "high": ratio.high, "pairs": ratio.pairs}
