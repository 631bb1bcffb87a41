# SPDX-License-Identifier: Apache-2.0
"""Load tools of others, run to their end, and what they print: h2load (gRPC, HTTP/1.1), wrk (HTTP/1.1).

The benches have an engine of their own; these are what it is held against.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from perf.bodies import Body

__all__ = [
    "LoadError",
    "ToolReport",
    "find_tool",
    "h2load_command",
    "parse_h2load",
    "parse_wrk",
    "percentile",
    "run_h2load",
    "run_wrk",
    "wrk_command",
]

_RPC_PATH = "/inference.GRPCInferenceService/ModelInfer"
_LUA = Path(__file__).with_name("post.lua")
#: where `make build/perf_analyzer/.stamp` puts it
_BUILT = str(Path(__file__).resolve().parents[1] / "build" / "perf_analyzer" / "bin")
_MICROSECONDS = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 6e7}


class LoadError(RuntimeError):
    """A load tool is missing, failed, or got no answers."""


@dataclass(frozen=True)
class ToolReport:
    """What a load tool saw. Latencies in microseconds; ``bytes_per_answer`` is response data, 0 where unknown."""

    requests: int
    requests_per_s: float
    p50_us: float
    p99_us: float
    failures: int
    bytes_per_answer: float = 0.0


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


def h2load_command(file: Path, body: Body, address: str, connections: int, streams: int, log: str) -> list[str]:
    """POSTs ``file``, which holds ``body``, over HTTP/1.1 if it is no gRPC; lacks how often (-n) or how long (-D)."""
    command = [find_tool("h2load"), "-t1", f"-c{connections}", f"-m{streams}", "-d", str(file), f"--log-file={log}"]
    if body.protocol == "grpc":
        command += ["-H", "te: trailers", "-H", "content-type: application/grpc", f"http://{address}{_RPC_PATH}"]
        return command
    command += ["--h1", "-H", "content-type: application/json"]
    if body.header_length is not None:
        command += ["-H", f"inference-header-content-length: {body.header_length}"]
    return [*command, f"http://{address}{body.url_path}"]


def run_h2load(
    body: Body, address: str, connections: int, streams: int, *, seconds: int = 0, requests: int = 0
) -> ToolReport:
    """POST ``body`` for ``seconds``, or ``requests`` times, over ``connections`` x ``streams``."""
    amount = f"-D{seconds}" if seconds else f"-n{requests}"
    with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("r") as log:
        file = body.write(Path(folder))
        command = h2load_command(file, body, address, connections, streams, log.name)
        done = subprocess.run([*command, amount], capture_output=True, text=True, check=False)
        return parse_h2load(done.stdout + done.stderr, log)


def wrk_command(
    file: Path, body: Body, address: str, connections: int, seconds: int
) -> tuple[list[str], dict[str, str]]:
    """POSTs ``file``, which holds ``body``; and the environment that the command needs beside this one's."""
    environment = {"BODY": str(file)}
    if body.header_length is not None:
        environment["HEADER_LENGTH"] = str(body.header_length)
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "20s", "--latency", "-s", str(_LUA)]
    return [find_tool("wrk"), *options, f"http://{address}{body.url_path}"], environment


def run_wrk(body: Body, address: str, connections: int, seconds: int) -> ToolReport:
    """POST ``body`` over ``connections`` keep-alive connections for ``seconds``."""
    with tempfile.TemporaryDirectory() as folder:
        command, environment = wrk_command(body.write(Path(folder)), body, address, connections, seconds)
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
        return parse_wrk(done.stdout + done.stderr)


def find_tool(name: str) -> str:
    """Where a program is, on PATH or built by the Makefile. Raises LoadError, with what to do, where it is not."""
    found = shutil.which(name) or shutil.which(name, path=_BUILT)
    if found is None:
        package = {"h2load": "nghttp2-client"}.get(name, name)
        how = "make build/perf_analyzer/.stamp" if name == "perf_analyzer" else f"on Debian: apt install {package}"
        raise LoadError(f"{name} is not installed; {how}")
    return found
