# SPDX-License-Identifier: Apache-2.0
"""Results as a table for people, as perf_analyzer's CSV, and as its profile export. Pure but for what is written."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pyinfer.perf.composing import composing_table
from pyinfer.perf.measure import Level
from pyinfer.perf.metrics import GPU_COLUMNS, gpu_cells, metrics_lines
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.ramp import ramp_note, ramp_table
from pyinfer.perf.records import records_of
from pyinfer.perf.results import CONFIDENCE, Measured, Window
from pyinfer.perf.streamed import streamed_table
from pyinfer.perf.table import Table

__all__ = [
    "csv_text",
    "error_text",
    "export_text",
    "level_table",
    "level_tables",
    "notes_text",
    "told_errors",
]

_PERCENTILES = (50, 90, 95, 99)
_SERVER = {
    "Server Queue": "queue",
    "Server Compute Input": "compute_input",
    "Server Compute Infer": "compute_infer",
    "Server Compute Output": "compute_output",
    "Server Cache Hit": "cache_hit",
    "Server Cache Miss": "cache_miss",
}


def error_text(text: str) -> str:
    """What the engine says of a failed request, with the ``error`` of a JSON body in place of the body."""
    head, colon, body = text.partition(": ")
    if colon and head.startswith("HTTP status"):
        try:
            parsed = json.loads(body)
        except ValueError:
            return text
        if isinstance(parsed, dict) and "error" in parsed:
            error = parsed["error"]
            return f"{head}: {error.get('message', error) if isinstance(error, dict) else error}"
    return text


def told_errors(errors: Mapping[str, int]) -> Counter[str]:
    """How many requests failed with each text, as :func:`error_text` has it."""
    told: Counter[str] = Counter()
    for text, count in errors.items():
        told[error_text(text)] += count
    return told


def _measured(levels: Iterable[Level]) -> list[Measured]:
    return [level.measured for level in levels if level.measured is not None]


def _has_cache(results: Sequence[Measured]) -> bool:
    servers = [one.window.server for one in results]
    return any(server and server.parts["cache_hit"][0] + server.parts["cache_miss"][0] > 0 for server in servers)


def csv_text(levels: Sequence[Level], options: PerfOptions) -> str:
    """perf_analyzer's columns, one row a level, by throughput. Microseconds."""
    results = sorted(_measured(levels), key=lambda one: one.window.throughput)
    cached = _has_cache(results)
    server = [name for name in _SERVER if cached or "Cache" not in name]
    percentiles = sorted({*_PERCENTILES, *([options.percentile] if options.percentile > 0 else [])})
    kind = results[0].kind if results else "Concurrency"
    streamed = options.streaming
    columns = [kind, "Inferences/Second", *(["Response Throughput"] if streamed else [])]
    columns += ["Client Send", "Network+Server Send/Recv", *server, "Client Recv"]
    columns += [f"p{percentile} latency" for percentile in percentiles]
    if options.verbose_csv:
        # as perf_analyzer: not where a percentile is asked for in its place
        columns += ["Avg latency"] if options.percentile < 0 else []
        columns += ["request/response", "response wait", *(GPU_COLUMNS if options.collect_metrics else [])]
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(columns)
    for one in results:
        window = one.window
        row: list[Any] = [f"{one.value:g}", f"{window.throughput:g}"]
        row += [f"{window.response_throughput:g}"] if streamed else []
        row += [round(window.send_us), round(window.network_us)]
        row += [round(window.server_us(_SERVER[name])) for name in server]
        row += [round(window.receive_us), *(round(window.latency_us(each)) for each in percentiles)]
        if options.verbose_csv:
            client = window.send_us + window.receive_us
            row += [round(window.latency_us())] if options.percentile < 0 else []
            row += [round(client), round(max(0.0, window.latency_us() - client))]
            row += gpu_cells(window.metrics) if options.collect_metrics else []
        rows.writerow(row)
    return out.getvalue()


def export_text(levels: Sequence[Level], options: PerfOptions) -> str:
    """perf_analyzer's profile export: every request that succeeded, in nanoseconds since the epoch."""
    from pyinfer import __version__

    offset = time.time_ns() - time.monotonic_ns()
    experiments = []
    for level in levels:
        requests = [
            {
                "timestamp": one.sent + offset,
                "intended_timestamp": one.intended + offset,
                **({"sequence_id": one.sequence} if one.sequence else {}),
                "response_timestamps": [time + offset for time in (one.responses or [one.ended])],
            }
            for one in records_of(level)
            if not one.failed
        ]
        bounds = level.measured.boundaries_ns if level.measured else ()
        mode = "concurrency" if level.kind == "Concurrency" else "request_rate"
        experiments.append(
            {
                "experiment": {"mode": mode, "value": level.value},
                "requests": requests,
                "window_boundaries": [bound + offset for bound in bounds],
            }
        )
    document = {
        "experiments": experiments,
        "version": f"pyinfer {__version__}",
        "service_kind": options.service_kind,
        "endpoint": options.endpoint if options.service_kind == "openai" else options.url,
    }
    return json.dumps(document)


def level_table(levels: Sequence[Level], options: PerfOptions) -> Table | None:
    """All that was measured, a row for each level; None where nothing was."""
    results = _measured(levels)
    if not results:
        return None
    with_process = any(one.window.process for one in results)
    own = options.percentile if options.percentile > 0 and options.percentile not in _PERCENTILES else None
    percentiles = sorted([*_PERCENTILES, *([own] if own else [])])
    head = [results[0].kind.lower(), "infer/s", "avg us", *(f"p{each}" for each in percentiles), "p99.9", "max"]
    head += ["queue", "compute", "network+", "errors", "client us"] + (["server us", "MiB"] if with_process else [])
    rows = [_row(one, percentiles, with_process) for one in results]
    if options.limit_rows_per_s:
        head.insert(2, "of limit")
        for row, one in zip(rows, results, strict=True):
            row.insert(2, f"{100 * one.window.throughput / options.limit_rows_per_s:.1f} %")
    if any(len(one.windows) > 1 for one in results):
        spreads = (("infer/s", _throughput), ("avg us", Window.latency_us))
        for name, value in spreads:
            place = head.index(name) + 1
            head.insert(place, "+-%")
            for row, one in zip(rows, results, strict=True):
                row.insert(place, _percent(one.spread(value)))
    return Table(head, rows)


def _throughput(window: Window) -> float:
    return window.throughput


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def notes_text(levels: Sequence[Level], options: PerfOptions) -> str:
    """What the table means, what has to be known about its numbers, and what went wrong."""
    with_process = any(one.window.process for one in _measured(levels))
    lines = [
        "Times in us. queue, compute: the server's own average for each request; network+: the rest of the latency. "
        "client us" + (", server us" if with_process else "") + ": CPU time for each request."
    ]
    if any(len(one.windows) > 1 for one in _measured(levels)):
        lines.append(
            f"+-%: the {100 * CONFIDENCE:.0f} % confidence interval of infer/s and of the average, over the windows."
        )
    if options.limit_rows_per_s:
        lines.append(
            f"of limit: infer/s as a share of the {options.limit_rows_per_s:.1f} rows/s that {options.limit_file} has."
        )
    for level in levels:
        texts = [*_notes(level), ramp_note(level, options)]
        lines += [f"{level.kind.lower()} {level.value:g}: {text}" for text in texts if text]
    return "".join(f"{line}\n" for line in lines)


def level_tables(levels: Sequence[Level], options: PerfOptions) -> list[Table]:
    """That of :func:`level_table`, and those of streams, of a growing concurrency and of composing models, if any.

    None where nothing was measured.
    """
    tables = [level_table(levels, options), streamed_table(_measured(levels)) if options.streaming else None]
    tables += [ramp_table(level, options) for level in levels]
    tables.append(composing_table(_measured(levels)))
    return [table for table in tables if table is not None]


def _row(one: Measured, percentiles: Sequence[int], with_process: bool) -> list[str]:
    window, latency = one.window, one.window.load.latency
    compute = sum(window.server_us(part) for part in ("compute_input", "compute_infer", "compute_output"))
    server = (f"{window.server_us('queue'):.0f}", f"{compute:.0f}") if window.server else ("-", "-")
    row = [f"{one.value:g}{'' if one.is_stable else '*'}", f"{window.throughput:.1f}", f"{window.latency_us():.0f}"]
    row += [f"{latency.percentile(each) / 1e3:.0f}" for each in (*percentiles, 99.9, 100)]
    row += [*server, f"{window.network_us:.0f}", str(window.load.failed), f"{window.client_cpu_us:.1f}"]
    if with_process:
        use = window.process
        row += [f"{window.server_cpu_us:.1f}", f"{use.memory_bytes / 2**20:.0f}"] if use else ["-", "-"]
    return row


def _notes(level: Level) -> list[str]:
    errors = told_errors(level.measured.window.load.errors) if level.measured is not None else Counter[str]()
    failed = [f"{count} requests failed: {text}" for text, count in errors.most_common()]
    gauges = metrics_lines(level.measured.window.metrics) if level.measured is not None else []
    return [*level.warnings, *failed, *gauges]
