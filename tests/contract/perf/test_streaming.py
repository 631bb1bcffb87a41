# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf --streaming``: many requests on a stream, several responses to each, and what is said of them."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from contract.perf.test_command import PROTOCOLS, command, counts, perf
from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.testing import FakeServer, RunningServer, run_server

REPEAT = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """As many responses as its input says; where that is negative, the last one has the flag."""

    def execute(self, requests):
        for request in requests:
            count = int(pb_utils.get_input_tensor_by_name(request, "COUNT").as_numpy()[0])
            sender = request.get_response_sender()
            for i in range(abs(count)):
                flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if count < 0 and i == -count - 1 else 0
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("NUMBER", np.array([i], np.int32))]), flags)
            if count >= 0:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
'''
REPEAT_CONFIG = """
backend: "python"
input [ { name: "COUNT" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
instance_group [ { count: 1 kind: KIND_CPU } ]
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """``fixed`` (FP32 [16]), and ``repeat``, which is decoupled."""
    repository = tmp_path_factory.mktemp("streaming")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    add_model(repository, "repeat", REPEAT_CONFIG, {"model.py": REPEAT})
    with run_server(repository) as server:
        yield server
        assert server.process.poll() is None, server.log
        assert server.stop() == 0, server.log


def asked(tmp_path: Path, *numbers: int) -> str:
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"data": [{"COUNT": [number]} for number in numbers]}))
    return f"--input-data={path}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("threads", [1, 2])
def test_requests_on_streams_are_each_answered_once(served: RunningServer, protocol: str, threads: int) -> None:
    before = counts(served, "fixed")
    flags = ["--streaming", "--request-count=300", "-b2", "--concurrency-range=20", f"--threads={threads}"]
    shown = perf(served, protocol, "fixed", *flags)
    after = counts(served, "fixed")
    assert (after[0] - before[0], after[1] - before[1]) == (300, 600)
    assert "responses/s" in shown


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_responses_of_a_decoupled_model(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    report, export = tmp_path / "a.csv", tmp_path / "a.json"
    page = tmp_path / "a.html"
    files = ["-f", str(report), "--profile-export-file", str(export), "--report", str(page)]
    flags = ["--streaming", "--request-count=60", "--concurrency-range=4", asked(tmp_path, 3, 0, -5)]
    perf(served, protocol, "repeat", *flags, *files)
    with report.open() as lines:
        (row,) = csv.DictReader(lines)
    ratio = float(row["Response Throughput"]) / float(row["Inferences/Second"])
    assert ratio == pytest.approx((20 * 3 + 20 * 5) / 60, rel=1e-3)
    (experiment,) = json.loads(export.read_text())["experiments"]
    for title in ("Time to first response", "Inter-response latency"):
        assert f"<h2>{title}: share that took longer</h2>" in page.read_text()
    lengths = sorted(len(one["response_timestamps"]) for one in experiment["requests"])
    # a request without a response is over when the server says so
    assert lengths == [1] * 20 + [3] * 20 + [5] * 20
    for one in experiment["requests"]:
        times = [one["timestamp"], *one["response_timestamps"]]
        assert times == sorted(times)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_decoupled_model_needs_streams(served: RunningServer, protocol: str) -> None:
    shown = perf(served, protocol, "repeat", status=1)
    assert "model 'repeat' is decoupled: only streams carry its responses; add --streaming" in shown


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_open_loop(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    flags = ["--streaming", "--request-rate-range=300", "--request-count=150", asked(tmp_path, 2)]
    perf(served, protocol, "repeat", *flags)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_of_streams(protocol: str) -> None:
    with FakeServer([0.001], error_every=5, responses=3) as fake:
        argv = command("-m", "fake", "-i", protocol, "-u", fake.address, "--streaming", "--request-count=100")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        report = fake.report()
    assert done.returncode == 1
    assert re.search(r"20 requests failed: .*injected error", done.stdout), done.stdout + done.stderr
    assert (report.inferences, report.errors, report.responses) == (100, 20, 240)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_dies_is_told(tmp_path: Path, protocol: str) -> None:
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
    with run_server(tmp_path) as server:
        address = server.grpc if protocol == "grpc" else server.http
        argv = command("-m", "fixed", "-i", protocol, "-u", address, "--streaming", "-p100", "-s0", "-r1000")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        next(line for line in process.stderr if "window 3" in line)
        server.process.kill()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, out + err
    assert "no request succeeded" in err
    assert "responses/s" in out


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_first_responses_and_gaps_are_those_of_the_server(protocol: str) -> None:
    """A busy machine delays the client as it delays the server, which knows by how much. Tried up to ten times."""

    def once() -> bool:
        with FakeServer([0.1, 0.15, 0.2], responses=5, gap_s=0.05) as fake:
            options = PerfOptions(
                model="fake", protocol=protocol, url=fake.address, streaming=True, request_count=100,
                concurrency=Range(20, 20, 1),
            )  # fmt: skip
            level = Level("Concurrency", 20)
            Session(options).measure(level)
            report = fake.report()
        assert level.measured is not None
        times = level.measured.window.load.streamed
        assert times.responses == report.responses == 500
        assert times.tokens == 500
        pairs = [(times.first, report.first), (times.gap, report.gap)]
        noise = max(report.served.percentile(p) - report.injected.percentile(p) for p in (50, 90, 99))
        return all(
            abs(mine.percentile(p) - theirs.percentile(p)) <= 0.02 * theirs.percentile(p) + 4 * noise
            for mine, theirs in pairs
            for p in (10, 50, 90)
        )

    assert any(once() for _ in range(10))
