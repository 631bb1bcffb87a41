# SPDX-License-Identifier: Apache-2.0
"""Load on one server for one window of time, and what it cost the server: by h2load (gRPC), by wrk (HTTP), or by a
program of our own (one gRPC stream), which is compiled when it is first needed.

The load tool shares the machine's cores with the server: requests per second move with the neighbours, CPU time per
request much less. A window says how much CPU time the hypervisor took, so that the caller can try again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from perf.bodies import Body
from perf.procs import cpu_seconds, stolen_share, stolen_ticks
from perf.servers import Server

__all__ = [
    "LoadError",
    "ToolReport",
    "Window",
    "measure_window",
    "parse_h2load",
    "parse_stream_load",
    "parse_wrk",
    "percentile",
    "run_h2load",
    "run_stream_load",
    "run_wrk",
]

_RPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_LUA = Path(__file__).with_name("post.lua")
_STREAM_SOURCE = Path(__file__).with_name("grpc_stream_load.c")
_STREAM_TOOL = Path(__file__).resolve().parents[1] / "build" / "grpc_stream_load"
_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


class LoadError(RuntimeError):
    """A load tool is missing, failed, or got no answers."""


@dataclass(frozen=True)
class ToolReport:
    """What the load tool saw. Latencies in microseconds; ``bytes_per_answer`` of response data, 0 where unknown."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float
    failures: int
    bytes_per_answer: float = 0.0


@dataclass(frozen=True)
class Window:
    """One window of load. ``cpu_us`` is server CPU per request; ``mean_batch`` 0 where the server has no statistics."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float
    failures: int
    bytes_per_answer: float
    cpu_us: float
    cores_busy: float
    mean_batch: float
    stolen: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def percentile(ordered: list[int], share: float) -> float:
    """The value at ``share`` (0 to 1) of a sorted list, 0 for an empty one."""
    return float(ordered[min(len(ordered) - 1, int(len(ordered) * share))]) if ordered else 0.0


def parse_h2load(output: str, log: Iterable[str]) -> ToolReport:
    """From h2load's summary and its ``--log-file`` lines: start in us, status, microseconds taken."""
    rate = re.search(r"finished in [^,]+, ([\d.]+) req/s", output)
    failed = re.search(r"(\d+) failed, (\d+) errored, (\d+) timeout", output)
    data = re.search(r"\((\d+)\) data", output)
    if rate is None or failed is None or data is None:
        raise LoadError(f"h2load printed no summary:\n{output[-800:]}")
    fields = (line.split() for line in log)
    latencies = sorted(int(taken) for _, status, taken in fields if status == "200")
    n = len(latencies)
    return ToolReport(
        requests=n,
        requests_per_s=float(rate[1]),
        p50_us=percentile(latencies, 0.5),
        p99_us=percentile(latencies, 0.99),
        failures=sum(int(group) for group in failed.groups()[:2]),
        bytes_per_answer=int(data[1]) / n if n else 0.0,
    )


def parse_wrk(output: str) -> ToolReport:
    """From the text of ``wrk --latency``."""
    count = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if count is None or rate is None:
        raise LoadError(f"wrk printed no summary:\n{output[-800:]}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    failures = int(refused[1]) if refused else 0
    failures += sum(int(group) for group in broken.groups()) if broken else 0

    def at(share: int) -> float:
        found = re.search(rf"\s{share}%\s+([\d.]+)(us|ms|s|m)\b", output)
        return float(found[1]) * _MICROSECONDS[found[2]] if found else 0.0

    return ToolReport(int(count[1]), float(rate[1]), at(50), at(99), failures)


def parse_stream_load(output: str) -> ToolReport:
    """From the JSON object of ``grpc_stream_load``."""
    try:
        said = json.loads(output)
        n = said["requests"]
        return ToolReport(
            requests=n,
            requests_per_s=n / said["seconds"],
            p50_us=float(said["p50_us"]),
            p99_us=float(said["p99_us"]),
            failures=said["failures"],
            bytes_per_answer=said["bytes"] / n,
        )
    except (ValueError, KeyError, ZeroDivisionError):
        raise LoadError(f"grpc_stream_load printed no summary:\n{output[-800:]}") from None


def run_h2load(
    body: Body,
    address: str,
    connections: int,
    streams: int,
    *,
    seconds: int = 0,
    requests: int = 0,
    http1: bool = False,
) -> ToolReport:
    """POST ``body`` for ``seconds``, or ``requests`` times, over ``connections`` x ``streams`` or over HTTP/1.1."""
    amount = [f"-D{seconds}"] if seconds else [f"-n{requests}"]
    tool = [_tool("h2load"), "-t1", f"-c{connections}", f"-m{streams}", *amount, "-d", str(body.path)]
    headers, path = ["-H", "te: trailers", "-H", "content-type: application/grpc"], _RPC_PATH
    if http1:
        headers, path = ["--h1", "-H", "content-type: application/json"], f"/v2/models/{body.model}/infer"
    with tempfile.NamedTemporaryFile("r") as log:
        command = [*tool, *headers, f"--log-file={log.name}", f"http://{address}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return parse_h2load(done.stdout + done.stderr, log)


def run_wrk(body: Body, address: str, connections: int, seconds: int) -> ToolReport:
    """POST ``body`` over ``connections`` keep-alive connections for ``seconds``."""
    environment = dict(os.environ, BODY=str(body.path))
    if body.header_length is not None:
        environment["HEADER_LENGTH"] = str(body.header_length)
    url = f"http://{address}/v2/models/{body.model}/infer"
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(_LUA)]
    done = subprocess.run([_tool("wrk"), *options, url], env=environment, capture_output=True, text=True, check=False)
    return parse_wrk(done.stdout + done.stderr)


def run_stream_load(body: Body, address: str, in_flight: int, seconds: int) -> ToolReport:
    """Keep ``in_flight`` requests on one stream for ``seconds``. Raises LoadError where the server ends it."""
    port = address.rpartition(":")[2]
    command = [str(_stream_tool()), port, str(seconds), str(in_flight), str(body.path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LoadError(done.stderr.strip())
    return parse_stream_load(done.stdout)


def _stream_tool() -> Path:
    _STREAM_TOOL.parent.mkdir(exist_ok=True)
    if not _STREAM_TOOL.exists() or _STREAM_TOOL.stat().st_mtime < _STREAM_SOURCE.stat().st_mtime:
        compiler = _tool("cc")
        subprocess.run([compiler, "-O2", "-o", str(_STREAM_TOOL), str(_STREAM_SOURCE), "-lnghttp2"], check=True)
    return _STREAM_TOOL


def measure_window(server: Server, body: Body, connections: int, streams: int, seconds: int) -> Window:
    """One window of load on ``server``; raises LoadError where nothing was answered."""
    counts, stolen = server.counts(body.model), stolen_ticks()
    cpu, start = cpu_seconds(server.pid), time.perf_counter()
    if body.protocol == "grpc":
        report = run_h2load(body, server.grpc, connections, streams, seconds=seconds, http1=server.http1_only)
    elif body.protocol == "grpc_stream":
        report = run_stream_load(body, server.grpc, streams, seconds)
    else:
        report = run_wrk(body, server.http, connections * streams, seconds)
    cpu, elapsed = cpu_seconds(server.pid) - cpu, time.perf_counter() - start
    share, after = stolen_share(stolen, stolen_ticks()), server.counts(body.model)
    if report.requests == 0:
        raise LoadError(f"{server.name} answered no request for {body.model} over {body.protocol}")
    # those still under way when the time is up are cancelled by the tool, and the server may count them
    if after.failures - counts.failures > connections * streams:
        raise LoadError(f"{server.name} counts {after.failures - counts.failures} failed requests for {body.model}")
    executions = after.executions - counts.executions
    return Window(
        requests=report.requests,
        requests_per_s=report.requests_per_s,
        p50_us=report.p50_us,
        p99_us=report.p99_us,
        failures=report.failures,
        bytes_per_answer=report.bytes_per_answer,
        cpu_us=1e6 * cpu / report.requests,
        cores_busy=cpu / elapsed,
        mean_batch=(after.inferences - counts.inferences) / executions if executions else 0.0,
        stolen=share,
    )


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        package = {"h2load": "nghttp2-client", "cc": "gcc"}.get(name, name)
        raise LoadError(f"{name} is not installed; on Debian: apt install {package}")
    return found
