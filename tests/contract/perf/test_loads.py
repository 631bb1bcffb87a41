# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf``: when requests are sent, where it is neither a fixed concurrency nor an even rate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from contract.perf.test_command import PROTOCOLS, counts, perf
from contract.perf.test_streaming import REPEAT, REPEAT_CONFIG, asked
from pyinfer.testing import run_server


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bursts(tmp_path: Path, protocol: str) -> None:
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "1"))
    export = tmp_path / "export.json"
    flags = ["--request-rate-range=100", "--burst=5", "--request-count=20", "--profile-export-file", str(export)]
    with run_server(tmp_path) as server:
        perf(server, protocol, "fixed", *flags)
    (experiment,) = json.loads(export.read_text())["experiments"]
    intended = [one["intended_timestamp"] for one in experiment["requests"]]
    times = sorted(round((each - min(intended)) / 1e6) for each in intended)
    assert times == [0] * 5 + [50] * 5 + [100] * 5 + [150] * 5


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_fixed_schedule_is_followed(tmp_path: Path, protocol: str) -> None:
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "1"))
    schedule, export = tmp_path / "schedule.json", tmp_path / "export.json"
    times = [0, 3, 3, 50, 120, 121, 300]
    schedule.write_text(json.dumps({"data": [{"timestamp": time, "INPUT0": [time]} for time in times]}))
    flags = ["--fixed-schedule", f"--input-data={schedule}", "--profile-export-file", str(export)]
    with run_server(tmp_path) as server:
        perf(server, protocol, "fixed", *flags)
    (experiment,) = json.loads(export.read_text())["experiments"]
    intended = [one["intended_timestamp"] for one in experiment["requests"]]
    assert sorted(round((each - min(intended)) / 1e6) for each in intended) == times


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_concurrency_grows(tmp_path: Path, protocol: str) -> None:
    add_model(tmp_path, "repeat", REPEAT_CONFIG, {"model.py": REPEAT})
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "1"))
    export, page = tmp_path / "export.json", tmp_path / "page.html"
    ramp = ["--periodic-concurrency-range=2:11:3", "--request-period=4"]
    files = ["--profile-export-file", str(export), "--report", str(page)]
    with run_server(tmp_path) as server:
        shown = perf(server, protocol, "repeat", "--streaming", asked(tmp_path, -5), *ramp, *files)
        assert counts(server, "repeat")[0] == 11
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
        shown = perf(server, protocol, "fixed", *ramp)
        assert counts(server, "fixed")[0] == 11
        assert "11 requests were over before they had --request-period 4 responses" in shown


def test_what_a_growing_concurrency_does_not_allow(tmp_path: Path) -> None:
    add_model(tmp_path, "steps", identity("TYPE_FP32", "1").replace("dynamic_batching", "sequence_batching"))
    with run_server(tmp_path) as server:
        shown = perf(server, "grpc", "steps", "--periodic-concurrency-range=1:3:1", status=1)
        assert "is for requests on their own" in shown
