# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` beside perf_analyzer on the same server: the same columns, the same meanings, the same figures."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from pyinfer.testing import RunningServer, run_server

PROTOCOLS = ["http", "grpc"]
SHORT = ["--measurement-interval=300", "--stability-percentage=999", "--max-trials=5"]
OURS = [sys.executable, "-m", "pyinfer", "perf"]


@pytest.fixture
def theirs() -> list[str]:
    tool = shutil.which("perf_analyzer")
    if tool is None:
        pytest.fail("perf_analyzer is not on PATH: `make build/perf_analyzer/.stamp`, then add build/perf_analyzer/bin")
    return [tool]


def rows(command: list[str], folder: Path, *arguments: str) -> tuple[list[str], list[dict[str, float]]]:
    report = folder / "report.csv"
    done = subprocess.run(
        [*command, *arguments, *SHORT, "-f", str(report)], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with report.open() as lines:
        reader = csv.DictReader(lines)
        found = [{name: float(value) for name, value in row.items() if value} for row in reader]
    return list(reader.fieldnames or ()), found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("more", [[], ["--verbose-csv", "--percentile=85"], ["--request-rate-range=100"]])
def test_columns_are_the_same(
    loaded: RunningServer, tmp_path: Path, theirs: list[str], protocol: str, more: list[str]
) -> None:
    address = loaded.grpc if protocol == "grpc" else loaded.http
    flags = ["-m", "fixed", "-i", protocol, "-u", address, *more]
    assert rows(OURS, tmp_path, *flags)[0] == rows(theirs, tmp_path, *flags)[0]


SLOW = """
import time

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        time.sleep(0.04)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests
        ]
"""


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One model, ``slow``, that takes 40 ms for each request: two tools have little to disagree about, also on a busy
    machine. It does not batch: how requests meet in batches depends on the order in which a tool sends them.
    """
    repository = tmp_path_factory.mktemp("slow")
    add_model(
        repository, "slow", identity("TYPE_FP32", "4", batch=0).replace('"identity"', '"python"'), {"model.py": SLOW}
    )
    with run_server(repository) as server:
        yield server


@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_figures_agree(slow: RunningServer, tmp_path: Path, theirs: list[str], protocol: str) -> None:
    address = slow.grpc if protocol == "grpc" else slow.http
    flags = ["-m", "slow", "-i", protocol, "-u", address, "--concurrency-range=2", "--async"]
    differences = []
    for _ in range(10):  # a busy machine may hold up one of the two
        (ours,), (others,) = rows(OURS, tmp_path, *flags)[1], rows(theirs, tmp_path, *flags)[1]
        names = ("Inferences/Second", "p50 latency", "p90 latency", "Server Compute Infer")
        differences.append({name: ours[name] / others[name] for name in names})
        if all(0.9 < ratio < 1.1 for ratio in differences[-1].values()):
            return
    pytest.fail(f"ratios, ours to theirs: {differences}")
