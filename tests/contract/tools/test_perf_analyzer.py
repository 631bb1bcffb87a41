# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's perf_analyzer, unchanged, measures pyinfer; its server-side columns are differences of our statistics."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from pyinfer.testing import RunningServer

Row = dict[str, float]
Analyze = Callable[..., list[Row]]

#: three windows, the fewest that it takes, of a fifth of a second; every result counts as stable
SHORT = ["--measurement-interval=200", "--stability-percentage=999", "--max-trials=10"]
#: what it derives from ModelStatistics, in microseconds
SERVER_SIDE = ["Server Queue", "Server Compute Input", "Server Compute Infer", "Server Compute Output"]
PROTOCOLS = ["http", "grpc"]
ATTEMPTS = 5
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def analyze(loaded: RunningServer, tmp_path: Path) -> Analyze:
    """``analyze(protocol, model, *options)``: the rows of the CSV report that perf_analyzer wrote."""
    tool = shutil.which("perf_analyzer")
    if tool is None:
        pytest.fail("perf_analyzer is not on PATH: `make build/perf_analyzer/.stamp`, then add build/perf_analyzer/bin")

    def run(protocol: str, model: str, *options: str) -> list[Row]:
        report = tmp_path / "report.csv"
        address = loaded.grpc if protocol == "grpc" else loaded.http
        command = [tool, "-m", model, "-i", protocol, "-u", address, *SHORT, "-f", str(report), "--verbose-csv"]
        for _ in range(ATTEMPTS):
            done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=100)
            assert done.returncode == 0, done.stdout + done.stderr
            with report.open() as lines:
                rows = list(csv.DictReader(lines))
            # columns of what there is not, such as a GPU, are empty
            found = [{name: float(value) for name, value in row.items() if value} for row in rows]
            # a machine that stands still at an edge of a window has the server and the tool count different requests
            if all(sum(row[name] for name in SERVER_SIDE) <= row["Avg latency"] for row in found):
                break
        return found

    return run


def check(row: Row) -> None:
    """Rates are real, and the server's share of the latency is there and is no more than all of it."""
    assert row["Inferences/Second"] > 0
    # what it does in a queue and in a model takes time, and its clients saw the answer later
    server = sum(row[name] for name in SERVER_SIDE)
    assert 0 < server <= row["Avg latency"]
    assert 0 < row["p50 latency"] <= row["p99 latency"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["--sync", "--async"])
def test_range_of_concurrency(analyze: Analyze, protocol: str, mode: str) -> None:
    rows = analyze(protocol, "fixed", mode, "--concurrency-range=1:9:4", "--shared-memory=none")
    assert sorted(row["Concurrency"] for row in rows) == [1, 5, 9]
    for row in rows:
        check(row)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("batch", [2, 8])
def test_batch_size(analyze: Analyze, loaded: RunningServer, protocol: str, batch: int) -> None:
    before = executions_by_batch(loaded)
    (row,) = analyze(protocol, "fixed", f"-b{batch}")
    check(row)
    assert executions_by_batch(loaded).get(batch, 0) > before.get(batch, 0)


def executions_by_batch(server: RunningServer) -> dict[int, int]:
    with triton.InferenceServerClient(server.grpc) as client:
        (stats,) = client.get_inference_statistics("fixed").model_stats
    return {entry.batch_size: entry.compute_infer.count for entry in stats.batch_stats}


def test_batch_larger_than_the_model_takes(analyze: Analyze) -> None:
    with pytest.raises(AssertionError, match="batch-size must be <= 8"):
        analyze("grpc", "fixed", "-b9")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_count_windows(analyze: Analyze, protocol: str) -> None:
    options = ["--measurement-mode=count_windows", "--measurement-request-count=50"]
    (row,) = analyze(protocol, "single", "--shape=INPUT0:1,1000", *options)
    check(row)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("distribution", ["constant", "poisson"])
def test_request_rate(analyze: Analyze, protocol: str, distribution: str) -> None:
    rows = analyze(protocol, "fixed", "--request-rate-range=100:200:100", f"--request-distribution={distribution}")
    assert sorted(row["Request Rate"] for row in rows) == [100, 200]
    for row in rows:
        check(row)


def test_json_tensors(analyze: Analyze) -> None:
    (row,) = analyze("http", "fixed", "--input-tensor-format=json", "--output-tensor-format=json", "-b4")
    check(row)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_strings(analyze: Analyze, protocol: str) -> None:
    (row,) = analyze(protocol, "text", "--string-length=33", "-b2")
    check(row)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_answers_are_what_was_sent(analyze: Analyze, tmp_path: Path, protocol: str) -> None:
    """With validation data it compares each output itself, and fails on a difference."""
    values = np.linspace(-1, 1, 16, dtype=np.float32).tolist()
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(json.dumps({"data": [{"INPUT0": values}], "validation_data": [{"OUTPUT0": values}]}))
    wrong.write_text(json.dumps({"data": [{"INPUT0": values}], "validation_data": [{"OUTPUT0": values[::-1]}]}))
    (row,) = analyze(protocol, "fixed", f"--input-data={right}")
    check(row)
    with pytest.raises(AssertionError, match="doesn't match expected output"):
        analyze(protocol, "fixed", f"--input-data={wrong}")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_grpc(analyze: Analyze, algorithm: str) -> None:
    (row,) = analyze("grpc", "single", "--shape=INPUT0:1,1000", f"--grpc-compression-algorithm={algorithm}")
    check(row)


def test_metrics_are_collected(analyze: Analyze, loaded: RunningServer) -> None:
    """Without a GPU there is nothing in the metrics that it shows, but it must be able to read them all."""
    (row,) = analyze("grpc", "fixed", "--collect-metrics", f"--metrics-url=http://{loaded.metrics}/metrics")
    check(row)
