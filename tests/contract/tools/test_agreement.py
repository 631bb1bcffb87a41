# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf``, perf_analyzer, h2load and wrk on one server: what each counts is what the server counts.

How alike the times are that they measure is a bench (``python -m perf run --only agreement_grpc,agreement_http``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from perf.bodies import Body, Protocol, fp32_rows, make_body
from perf.clients import CLIENTS, Work, measure_client
from perf.servers import build_repository, start_server
from perf.tools import run_h2load
from pyinfer.testing import RunningServer

REQUESTS = 1000
PROTOCOLS: tuple[Protocol, ...] = ("grpc", "http_binary")
FLAGS = ["-m", "fixed", "--concurrency-range=8", "-s999", "--max-trials=3"]


def body(protocol: Protocol, model: str) -> Body:
    return make_body(protocol, model, fp32_rows(16), name="INPUT0", output="OUTPUT0")


def served(server: RunningServer) -> int:
    with triton.InferenceServerClient(server.grpc) as client:
        (stats,) = client.get_inference_statistics("fixed").model_stats
        return int(stats.inference_stats.success.count)


def exported(command: list[str], server: RunningServer, protocol: Protocol, folder: Path, *more: str) -> int:
    """How many requests a tool with perf_analyzer's flags has in its profile export."""
    file = folder / "export.json"
    target = ["-i", "grpc", "-u", server.grpc] if protocol == "grpc" else ["-i", "http", "-u", server.http]
    file.unlink(missing_ok=True)  # perf_analyzer writes over nothing
    command = [*command, *FLAGS, *target, f"--profile-export-file={file}", *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (experiment,) = json.loads(file.read_text())["experiments"]
    return len(experiment["requests"])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_each_tool_counts_what_the_server_counts(loaded: RunningServer, tmp_path: Path, protocol: Protocol) -> None:
    before = served(loaded)
    ours = exported(
        [sys.executable, "-m", "pyinfer", "perf"], loaded, protocol, tmp_path, f"--request-count={REQUESTS}"
    )
    assert ours == served(loaded) - before == REQUESTS

    before, address = served(loaded), loaded.grpc if protocol == "grpc" else loaded.http
    report = run_h2load(body(protocol, "fixed"), address, 8, 1, requests=REQUESTS)
    assert (report.requests, report.failures) == (served(loaded) - before, 0)

    tool, before = shutil.which("perf_analyzer"), served(loaded)
    assert tool is not None, "perf_analyzer is not on PATH: see tests/contract/tools/test_perf_analyzer.py"
    windows = ["--measurement-mode=count_windows", f"--measurement-request-count={REQUESTS}"]
    theirs = exported([tool], loaded, protocol, tmp_path, *windows)
    # windows end by time as well: requests that were under way then are in none of them
    assert REQUESTS <= theirs <= served(loaded) - before


def test_each_tool_is_measured_under_way(tmp_path: Path) -> None:
    with start_server("pyinfer", build_repository(tmp_path / "models", ["identity"])) as server:
        for tool in CLIENTS:
            protocol: Protocol = "http_binary" if tool == "wrk" else "grpc"
            work = Work(
                server=server,
                body=body(protocol, "identity"),
                shape="INPUT0:16",
                connections=2,
                streams=2,
                rate=0,
                seconds=0.5,
                folder=tmp_path,
            )
            found = measure_client(tool, work)
            assert min(found.values()) > 0, (tool, found)
            assert found["p50_us"] <= found["p99_us"]
