# SPDX-License-Identifier: Apache-2.0
"""Load tools beside each other on one server: what each costs for a request, and whether they see the same.

``pyinfer`` is ``pyinfer perf``, a process as the others are. Each tool makes the same work for itself: rows of FP32
over so many connections, closed loop, or so many requests a second. All of them are measured from outside while they
are under way, so that neither their start nor their end counts; what they say themselves is shown beside.
"""

from __future__ import annotations

import csv
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perf.bodies import Body, fp32_rows, make_body
from perf.load import read_counters
from perf.procs import Child, cpu_seconds
from perf.scenarios import Scenario
from perf.servers import Server, start_server
from perf.tools import LoadError, ToolReport, find_tool, h2load_command, parse_h2load, parse_wrk, wrk_command
from perf.turns import in_turns, medians
from pyinfer._core import LatencyHistogram
from pyinfer.perf.ratios import paired_ratio

__all__ = ["CLIENTS", "Work", "apart", "measure_client", "parse_csv", "run_agreement", "run_clients"]

#: from a tool's first answer until it is looked at, and how much longer it goes on afterwards; seconds
_WARM_S = 0.5
_SPARE_S = 1.5
#: for the first answer
_PATIENCE_S = 30.0
#: requests in flight
_FEW = 8


@dataclass(frozen=True)
class Work:
    """What is asked of a tool. ``rate`` 0: a closed loop of ``connections`` x ``streams``."""

    server: Server
    body: Body
    #: of the input tensor, without the batch
    shape: str
    connections: int
    streams: int
    rate: int
    seconds: float
    #: for files of the tool
    folder: Path

    @property
    def is_grpc(self) -> bool:
        return self.body.protocol == "grpc"

    @property
    def address(self) -> str:
        return self.server.grpc if self.is_grpc else self.server.http

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams

    @property
    def lasting(self) -> int:
        """Seconds that a tool goes on."""
        return math.ceil(_WARM_S + self.seconds + _SPARE_S)

    @property
    def report(self) -> Path:
        return self.folder / "report"


@dataclass(frozen=True)
class _Client:
    """``command`` makes the work; ``read`` understands what the tool has printed and written."""

    command: Callable[[Work], tuple[list[str], Mapping[str, str]]]
    read: Callable[[str, Work], ToolReport]


def _flags(work: Work) -> list[str]:
    """perf_analyzer's: three windows and no more, that cover the time in which it is looked at."""
    load = f"--request-rate-range={work.rate}" if work.rate else f"--concurrency-range={work.in_flight}"
    window_ms = round(1000 * work.lasting / 3)
    return [
        *("-m", work.body.model, "-i", "grpc" if work.is_grpc else "http", "-u", work.address, load),
        *(f"--shape={work.shape}", f"-p{window_ms}", "-s999", "-r3", "-f", str(work.report)),
    ]


def _pyinfer(work: Work) -> tuple[list[str], Mapping[str, str]]:
    connections = [f"--connections={work.connections}"] if work.is_grpc and not work.rate else []
    return [sys.executable, "-m", "pyinfer", "perf", *_flags(work), *connections], {}


def _perf_analyzer(work: Work) -> tuple[list[str], Mapping[str, str]]:
    # Over gRPC many requests cost it least with callbacks; few are seen sooner by threads that wait. Over HTTP its
    # callbacks are not to be relied upon: it reads what curl has said of a transfer after it has freed the transfer,
    # and takes the rubbish there for a failure (CURLMsg=0).
    mode = "--async" if work.is_grpc and (work.rate or work.in_flight > _FEW) else "--sync"
    return [find_tool("perf_analyzer"), *_flags(work), mode], {}


def _h2load(work: Work) -> tuple[list[str], Mapping[str, str]]:
    file = work.body.write(work.folder)
    streams = work.streams if work.is_grpc else 1
    connections = work.connections if work.is_grpc else work.in_flight
    command = h2load_command(file, work.body, work.address, connections, streams, str(work.report))
    return [*command, f"-D{work.lasting}"], {}


def _wrk(work: Work) -> tuple[list[str], Mapping[str, str]]:
    return wrk_command(work.body.write(work.folder), work.body, work.address, work.in_flight, work.lasting)


def parse_csv(text: str) -> ToolReport:
    """perf_analyzer's report, of one level of load. It has no count: ``requests`` is 0."""
    rows = list(csv.DictReader(text.splitlines()))
    if len(rows) != 1:
        raise LoadError(f"a report of one level was expected:\n{text[-800:]}")
    (row,) = rows
    p50, p99 = float(row["p50 latency"]), float(row["p99 latency"])
    return ToolReport(0, float(row["Inferences/Second"]), p50, p99, failures=0)


def _read_csv(_: str, work: Work) -> ToolReport:
    return parse_csv(work.report.read_text())


def _read_h2load(output: str, work: Work) -> ToolReport:
    with work.report.open() as log:
        return parse_h2load(output, log)


CLIENTS: Mapping[str, _Client] = {
    "pyinfer": _Client(_pyinfer, _read_csv),
    "perf_analyzer": _Client(_perf_analyzer, _read_csv),
    "h2load": _Client(_h2load, _read_h2load),
    "wrk": _Client(_wrk, lambda output, _: parse_wrk(output)),
}


def measure_client(name: str, work: Work) -> dict[str, float]:
    """One run of the tool. Requests are those that the server counts meanwhile; CPU is the tool's, and the server's.

    Raises LoadError where the tool fails, or ends before it was looked at.
    """
    client = CLIENTS[name]
    work.report.unlink(missing_ok=True)  # h2load would add to it
    command, environment = client.command(work)
    with Child(command, environment) as child:
        _wait_for_load(name, child, work)
        time.sleep(_WARM_S)
        before, cpu = read_counters(work.server, work.body.model), cpu_seconds(child.pid)
        time.sleep(work.seconds)
        after, cpu = read_counters(work.server, work.body.model), cpu_seconds(child.pid) - cpu
        if not child.running():
            raise LoadError(f"{name} has ended early:\n{child.log_tail(800)}")
        status = child.wait(60)
        output = child.log_tail()
    if status != 0:
        raise LoadError(f"{name} has ended with status {status}:\n{output[-800:]}")
    report, requests = client.read(output, work), after.counts.inferences - before.counts.inferences
    if requests == 0 or report.failures:
        raise LoadError(f"{name}: {requests} requests, {report.failures} failures:\n{output[-800:]}")
    return {
        "client_us": 1e6 * cpu / requests,
        "cpu_us": 1e6 * (after.cpu_s - before.cpu_s) / requests,
        "requests_per_s": report.requests_per_s,
        "served_per_s": requests / (after.at - before.at),
        "p50_us": report.p50_us,
        "p99_us": report.p99_us,
    }


def _wait_for_load(name: str, child: Child, work: Work) -> None:
    """Until the server has answered a request of the tool, so that its start is not looked at."""
    model, until = work.body.model, time.monotonic() + _PATIENCE_S
    before = work.server.counts(model).inferences
    while work.server.counts(model).inferences == before:
        if not child.running() or time.monotonic() > until:
            raise LoadError(f"{name} makes no load:\n{child.log_tail(800)}")
        time.sleep(0.05)


def apart(figures: Mapping[str, Mapping[str, Any]], ours: str) -> dict[str, float]:
    """How far ``ours`` is from another tool, as a share, for each figure that tools have to agree about, and what of
    it may be chance (``..._noise``). Of several other tools the one counts that is furthest beyond its noise.

    Runs of one round are a pair, one right after the other. Noise is the widest of the 95 % confidence interval of the
    ratio (to either side), the difference between two runs of one tool, and what our histogram can tell apart. A single
    round has no noise to tell.
    """
    found = {}
    for key in ("requests_per_s", "p50_us", "p99_us"):
        seen = [
            _difference(figures[name]["windows"], figures[ours]["windows"], key) for name in figures if name != ours
        ]
        furthest = max(seen, key=lambda one: one[0] / one[1] if one[1] else one[0])
        found[f"{key}_apart"] = furthest[0]
        if len(figures[ours]["windows"]) > 1:
            found[f"{key}_noise"] = furthest[1]
    return found


def _difference(
    theirs: Sequence[Mapping[str, float]], own: Sequence[Mapping[str, float]], key: str
) -> tuple[float, float]:
    """(share, noise) of one figure of two tools, over their runs."""
    base, ours = ([row[key] for row in rows] for rows in (theirs, own))
    ratio = paired_ratio(base, ours)
    if ratio is None:
        raise LoadError(f"a tool has reported no {key}")
    noise = [max(values) / min(values) - 1 for values in (base, ours)]
    if ratio.low is not None and ratio.high is not None:
        noise.append(ratio.high / ratio.value - 1)
    if key.endswith("_us"):
        noise.append(_resolution(round(1e3 * statistics.median(ours))))
    return abs(ratio.value - 1), max(noise)


def _resolution(duration_ns: int) -> float:
    """How far the histogram's value for such a duration may be from it, as a share."""
    ends: list[int] = []
    for _ in range(2):
        histogram = LatencyHistogram()
        histogram.record(ends[-1] + 1 if ends else duration_ns)
        histogram.record(4 * duration_ns)  # a range ends where its values do, if it is the last
        ends.append(histogram.ranges()[0][0])
    return (ends[1] - ends[0]) / 2 / duration_ns


def run_clients(scenario: Scenario, repository: Path, seconds: float, rounds: int) -> dict[str, dict[str, Any]]:
    """Figures of each tool: ``pyinfer``, and the scenario's peers."""
    tensor = fp32_rows(scenario.elements)
    body = make_body(scenario.protocol, scenario.model, tensor, name=scenario.input, output=scenario.output)
    tools = ["pyinfer", *scenario.peers]
    with start_server("pyinfer", repository) as server, tempfile.TemporaryDirectory(prefix="perf-") as folder:
        work = Work(
            server=server,
            body=body,
            shape=f"{scenario.input}:{scenario.elements}",
            connections=scenario.connections,
            streams=scenario.streams,
            rate=scenario.rate,
            seconds=seconds,
            folder=Path(folder),
        )
        seen = in_turns(tools, rounds, lambda tool: measure_client(tool, work))
    figures = {tool: medians(rows) for tool, rows in seen.items()}
    for row in figures.values():
        row["requests_per_core_s"] = 1e6 / row["client_us"]
    return figures


def run_agreement(scenario: Scenario, repository: Path, seconds: float, rounds: int) -> dict[str, dict[str, Any]]:
    """The same, and ``agreement``: how far ``pyinfer`` is from the others."""
    figures = run_clients(scenario, repository, seconds, rounds)
    return {**figures, "agreement": apart(figures, "pyinfer")}
