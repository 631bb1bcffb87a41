# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf --collect-metrics``: the server's gauges during the load."""

from __future__ import annotations

import csv
from pathlib import Path

from contract.conftest import add_model, identity
from contract.perf.test_command import QUICK, perf
from pyinfer.perf.metrics import GPU_COLUMNS
from pyinfer.testing import run_server


def test_gauges_of_the_server_are_shown(tmp_path: Path) -> None:
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
    report = tmp_path / "a.csv"
    with run_server(tmp_path) as server:
        collect = ["--collect-metrics", "--metrics-interval=20", f"--metrics-url={server.metrics}/metrics"]
        shown = perf(server, "grpc", "fixed", *QUICK, *collect, "-f", str(report), "--verbose-csv")
        assert "concurrency 1: nv_cpu_memory_used_bytes: " in shown
        with report.open() as lines:
            (row,) = csv.DictReader(lines)
        assert set(GPU_COLUMNS) <= set(row)
        wrong = f"--metrics-url={server.http}/v2"
        assert "has none of nv_gpu_utilization" in perf(
            server, "grpc", "fixed", *QUICK, "--collect-metrics", wrong, status=1
        )
        nobody = "--metrics-url=127.0.0.1:1/metrics"
        shown = perf(server, "grpc", "fixed", *QUICK, "--collect-metrics", nobody, status=1)
        assert "can not be read" in shown
        assert "Traceback" not in shown
