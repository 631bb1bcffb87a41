# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf``: when requests are sent, where it is neither a fixed concurrency nor an even rate."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from contract.perf.test_command import PROTOCOLS, QUICK, command, counts, perf
from contract.perf.test_streaming import REPEAT, REPEAT_CONFIG, asked
from pyinfer.testing import FakeServer, RunningServer, run_server


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """``fixed`` (FP32 [1]), ``repeat``, which is decoupled, and ``steps``, which takes sequences."""
    repository = tmp_path_factory.mktemp("loads")
    add_model(repository, "fixed", identity("TYPE_FP32", "1"))
    add_model(repository, "repeat", REPEAT_CONFIG, {"model.py": REPEAT})
    add_model(repository, "steps", identity("TYPE_FP32", "1").replace("dynamic_batching", "sequence_batching"))
    with run_server(repository) as server:
        yield server


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bursts(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    export = tmp_path / "export.json"
    flags = ["--request-rate-range=100", "--burst=5", "--request-count=20", "--profile-export-file", str(export)]
    perf(served, protocol, "fixed", *flags)
    (experiment,) = json.loads(export.read_text())["experiments"]
    intended = [one["intended_timestamp"] for one in experiment["requests"]]
    times = sorted(round((each - min(intended)) / 1e6) for each in intended)
    assert times == [0] * 5 + [50] * 5 + [100] * 5 + [150] * 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fixed_schedule_is_followed(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    schedule, export = tmp_path / "schedule.json", tmp_path / "export.json"
    times = [0, 3, 3, 50, 120, 121, 300]
    schedule.write_text(json.dumps({"data": [{"timestamp": time, "INPUT0": [time]} for time in times]}))
    flags = ["--fixed-schedule", f"--input-data={schedule}", "--profile-export-file", str(export)]
    perf(served, protocol, "fixed", *flags)
    (experiment,) = json.loads(export.read_text())["experiments"]
    intended = [one["intended_timestamp"] for one in experiment["requests"]]
    assert sorted(round((each - min(intended)) / 1e6) for each in intended) == times


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_concurrency_grows(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    export, page = tmp_path / "export.json", tmp_path / "page.html"
    ramp = ["--periodic-concurrency-range=2:11:3", "--request-period=4"]
    files = ["--profile-export-file", str(export), "--report", str(page)]
    repeated, fixed = (counts(served, model)[0] for model in ("repeat", "fixed"))
    shown = perf(served, protocol, "repeat", "--streaming", asked(tmp_path, -5), *ramp, *files)
    assert counts(served, "repeat")[0] - repeated == 11
    (experiment,) = json.loads(export.read_text())["experiments"]
    assert experiment["experiment"] == {"mode": "concurrency", "value": 11.0}
    requests = sorted((one["timestamp"], one["response_timestamps"]) for one in experiment["requests"])
    assert [len(came) for _, came in requests] == [5] * 11
    for first, end in [(0, 2), (2, 5), (5, 8)]:
        fourth = max(came[3] for _, came in requests[first:end])
        assert all(sent >= fourth for sent, _ in requests[end:])
    lines = shown.splitlines()
    (head,) = (number for number, line in enumerate(lines) if line.split()[:3] == ["requests", "in", "flight"])
    assert [line.split()[0] for line in lines[head + 1 : head + 5]] == ["2", "5", "8", "11"]
    assert "--request-period" not in shown
    assert "in flight" in page.read_text()
    # answers that are no streams are one response each
    shown = perf(served, protocol, "fixed", *ramp)
    assert counts(served, "fixed")[0] - fixed == 11
    assert "11 requests were over before they had --request-period 4 responses" in shown


def test_windows_of_requests_last_a_second_at_least(served: RunningServer, tmp_path: Path) -> None:
    export = tmp_path / "export.json"
    flags = ["--measurement-mode=count_windows", "--measurement-request-count=5", "-s", "1e9", "-r", "3"]
    perf(served, "grpc", "fixed", *flags, "--profile-export-file", str(export))
    (experiment,) = json.loads(export.read_text())["experiments"]
    bounds = experiment["window_boundaries"]
    assert len(bounds) == 4
    assert all(end - begin >= 1e9 for begin, end in pairwise(bounds))
    ends = [one["response_timestamps"][0] for one in experiment["requests"]]
    assert all(sum(begin <= end < last for end in ends) >= 5 for begin, last in pairwise(bounds))


#: how many requests at a time an open loop has at most: connections, of gRPC with so many requests each
AT_A_TIME = {"http": 64, "grpc": 8 * 256}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_highest_rate_that_a_server_bears(protocol: str) -> None:
    """Whatever the machine does: answers that take 300 ms are not there in 200, and no more of them come than are
    asked for at a time.
    """
    with FakeServer([0.3]) as fake:
        argv = command("-m", "fake", "-i", protocol, "-u", fake.address, *QUICK, "-p", "400")
        done = subprocess.run([*argv, "--highest-rate=p95:200"], capture_output=True, text=True)
        assert done.returncode == 1, done.stdout + done.stderr
        assert done.stdout.endswith("No request rate that was tried has a p95 of 200 ms at most.\n")
        done = subprocess.run([*argv, "--highest-rate=p95:20000"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    last = done.stdout.splitlines()[-1]
    found = re.fullmatch(r"Highest request rate with a p95 of 20000 ms at most: ([\d.e+]+) a second \(.* ms\)\.", last)
    assert found, last
    assert 16 <= float(found[1]) <= 1.1 * AT_A_TIME[protocol] / 0.3


def test_what_a_growing_concurrency_does_not_allow(served: RunningServer) -> None:
    shown = perf(served, "grpc", "steps", "--periodic-concurrency-range=1:3:1", status=1)
    assert "is for requests on their own" in shown
