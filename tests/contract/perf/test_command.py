# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` as a process, against a real server: what it sends, counts and says, and how it ends."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from contract.conftest import add_model, identity
from pyinfer import __version__
from pyinfer.errors import Unavailable
from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions
from pyinfer.testing import FakeServer, RunningServer, run_server
from waiting import eventually

PROTOCOLS = ["http", "grpc"]
#: three windows; whatever the machine does meanwhile, they count as stable
QUICK = ["-p", "100", "-s", "1e9", "-r", "3"]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """``fixed`` (FP32 [16]), ``text`` (BYTES [3]), ``open`` (FP32 [-1]), without batching."""
    repository = tmp_path_factory.mktemp("perf")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    add_model(repository, "text", identity("TYPE_STRING", "3"))
    add_model(repository, "open", identity("TYPE_FP32", "-1", batch=0))
    with run_server(repository) as server:
        yield server
        assert server.process.poll() is None, server.log
        assert server.stop() == 0, server.log


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pyinfer", "perf", *arguments]


def perf(server: RunningServer, protocol: str, model: str, *flags: str, status: int = 0) -> str:
    address = server.grpc if protocol == "grpc" else server.http
    argv = command("-m", model, "-i", protocol, "-u", address, *flags)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def counts(server: RunningServer, model: str) -> tuple[int, int]:
    """(requests that succeeded, inferences) so far."""
    with triton.InferenceServerClient(server.grpc) as client:
        (stats,) = client.get_inference_statistics(model).model_stats
    return stats.inference_stats.success.count, stats.inference_count


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exactly_what_was_asked_for_is_sent(served: RunningServer, protocol: str) -> None:
    before = counts(served, "fixed")
    flags = ["--request-count=200", "--warmup-request-count=10", "-b4", "--concurrency-range=3"]
    perf(served, protocol, "fixed", *flags)
    after = counts(served, "fixed")
    assert (after[0] - before[0], after[1] - before[1]) == (210, 840)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("threads", [1, 2])
def test_range_with_csv_and_export(served: RunningServer, tmp_path: Path, protocol: str, threads: int) -> None:
    report, export, page = tmp_path / "a.csv", tmp_path / "a.json", tmp_path / "a.html"
    flags = ["--concurrency-range=2:6:4", "-f", str(report), "--verbose-csv", "--profile-export-file", str(export)]
    flags += ["--report", str(page)]
    flags += ["--request-count=300", f"--threads={threads}", f"--server-pid={served.pid}"]
    shown = perf(served, protocol, "fixed", *flags)
    with report.open() as lines:
        rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(lines)]
    assert sorted(row["Concurrency"] for row in rows) == [2, 6]
    for row in rows:
        server = sum(value for name, value in row.items() if name.startswith("Server"))
        assert row["Inferences/Second"] > 0
        assert 0 < row["p50 latency"] <= row["p99 latency"]
        assert server <= row["Avg latency"]  # of the same requests
    experiments = json.loads(export.read_text())["experiments"]
    assert [one["experiment"] for one in experiments] == [{"mode": "concurrency", "value": n} for n in (2.0, 6.0)]
    for one in experiments:
        assert one["requests"]
        assert all(each["timestamp"] < each["response_timestamps"][0] for each in one["requests"])
    assert "server us" in shown
    assert "<h2>Batch sizes</h2>" in page.read_text()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("distribution", ["constant", "poisson"])
def test_request_rate_is_kept(served: RunningServer, protocol: str, distribution: str) -> None:
    before = counts(served, "fixed")[0]
    flags = ["--request-rate-range=400", f"--request-distribution={distribution}", "--request-count=200"]
    perf(served, protocol, "fixed", *flags)
    assert counts(served, "fixed")[0] - before == 200


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_strings_shapes_and_intervals(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    perf(served, protocol, "text", "--string-length=33", "-b2", "--request-count=20")
    perf(served, protocol, "open", "--shape=INPUT0:1000", "--request-count=20")
    intervals = tmp_path / "intervals"
    intervals.write_text("500\n1500\n")
    perf(served, protocol, "fixed", "--request-count=50", f"--request-intervals={intervals}")


@pytest.mark.parametrize("form", ["json", "binary"])
def test_http_formats(served: RunningServer, form: str) -> None:
    flags = [f"--input-tensor-format={form}", f"--output-tensor-format={form}", "--request-count=20", "-b2"]
    perf(served, "http", "fixed", *flags)
    perf(served, "http", "text", *flags)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("model", "flags", "text"),
    [
        ("absent", [], "unknown model"),
        ("fixed", ["-x", "7"], "unknown model"),
        ("fixed", ["-b9"], "batch-size must be <= 8"),
        ("open", [], "give them with --shape=INPUT0:DIMS"),
        ("fixed", ["--input-data=/absent.json"], "No such file"),
        ("fixed", ["--request-intervals=/absent"], "No such file"),
        ("fixed", ["--server-pid=4194304"], "there is no process 4194304"),
    ],
)
def test_what_can_not_be_measured_is_told_in_one_line(
    served: RunningServer, protocol: str, model: str, flags: list[str], text: str
) -> None:
    shown = perf(served, protocol, model, *flags, status=1)
    assert text in shown
    assert shown.count("\n") == 1
    assert "Traceback" not in shown


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wrong_server(served: RunningServer, protocol: str) -> None:
    for address, text in [
        ("127.0.0.1:1", "refused"),
        ("nowhere.invalid:1", "is unknown"),
        ("127.0.0.1", "is not HOST:PORT"),
        (f"{protocol}s://127.0.0.1:1", "refused"),
        ("tcp://127.0.0.1:1", f"is not what -i {protocol} asks for"),
        (served.http if protocol == "grpc" else served.grpc, "the server at 127.0.0.1"),
    ]:
        done = subprocess.run(
            command("-m", "fixed", "-i", protocol, "-u", address), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 1
        assert text in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


def test_version() -> None:
    done = subprocess.run(command("--version"), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"pyinfer perf {__version__}\n")


def test_wrong_command_line() -> None:
    done = subprocess.run(command("-m", "x", "--enable-mpi"), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'--enable-mpi' of perf_analyzer can not be used" in done.stderr


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_errors_are_counted_by_text_and_not_averaged_in(protocol: str) -> None:
    with FakeServer([0.001], error_every=5) as fake:
        argv = command("-m", "fake", "-i", protocol, "-u", fake.address, "--request-count=100")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
        report = fake.report()
    assert done.returncode == 1
    assert re.search(r"20 requests failed: .*injected error", done.stdout), done.stdout + done.stderr
    assert (report.inferences, report.errors) == (100, 20)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("end", ["the server dies", "SIGINT", "SIGTERM"])
def test_partial_results_are_kept(served: RunningServer, tmp_path: Path, protocol: str, end: str) -> None:
    with ExitStack() as stack:
        server = served
        if end == "the server dies":
            add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
            server = stack.enter_context(run_server(tmp_path))
        address = server.grpc if protocol == "grpc" else server.http
        report = tmp_path / "partial.csv"
        argv = command(
            "-m", "fixed", "-i", protocol, "-u", address, "-p", "100", "-s", "0", "-r", "1000", "-f", str(report)
        )
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        seen = next(line for line in process.stderr if "window 3" in line)
        if end == "the server dies":
            server.process.kill()
        else:
            process.send_signal(signal.Signals[end])
        out, err = process.communicate(timeout=60)
    assert process.returncode == 1, seen + out + err
    assert ("no request succeeded" if end == "the server dies" else "interrupted") in err
    assert "Traceback" not in err
    assert out.split()[:3] == ["concurrency", "infer/s", "+-%"]
    assert report.read_text().count("\n") == 2


@pytest.mark.timeout(40)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("counted", ["request_count", "warmup_request_count"])
def test_a_number_of_requests_is_not_waited_for_in_vain(protocol: str, counted: str) -> None:
    """The server is gone when the load begins. Without an answer, but with a connection, it is waited for a minute."""
    fake = FakeServer()
    session = Session(PerfOptions(model="fake", protocol=protocol, url=fake.address, **{counted: 100}))
    fake.stop()
    del fake  # which closes its sockets
    with pytest.raises(Unavailable, match="can not connect to the server: Connection refused"):
        session.measure(Level("Concurrency", 4))


@pytest.mark.timeout(40)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_server_that_dies_while_requests_are_counted(tmp_path: Path, protocol: str) -> None:
    served, report = [FakeServer([0.001])], tmp_path / "partial.csv"
    argv = command("-m", "fake", "-i", protocol, "-u", served[0].address, "--request-count=1000000", "-f", str(report))
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    eventually(lambda: served[0].report().inferences > 100, "no load came")
    served.pop().stop()  # the last reference: its sockets are closed
    out, err = process.communicate()
    assert process.returncode == 1, out + err
    assert "the load is given up: " in err
    assert out.split()[:2] == ["concurrency", "infer/s"]
    assert report.read_text().count("\n") == 2


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tracing_is_set_before_the_load(tmp_path: Path, protocol: str) -> None:
    """So that its requests are traced, one of ten."""
    traces = tmp_path / "trace.json"
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
    with run_server(tmp_path, f"--trace-config=triton,file={traces}") as server:
        flags = ["--trace-level=TIMESTAMPS", "--trace-rate=10", "--trace-count=-1", "--log-frequency=0"]
        perf(server, protocol, "fixed", *flags, "--request-count=100")
        shown = perf(server, protocol, "fixed", "--trace-file=elsewhere", "--request-count=10", status=1)
        assert "trace file location can not be updated through network protocol" in shown
        assert server.stop() == 0, server.log
    assert len({entry["id"] for entry in json.loads(traces.read_text())}) == 10


CALLER = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
        call = pb_utils.InferenceRequest(model_name="fixed", requested_output_names=["OUTPUT0"], inputs=[given])
        return pb_utils.InferenceResponse(call.exec().output_tensors())
"""


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_models_that_a_model_calls_or_is_made_of(tmp_path: Path, protocol: str) -> None:
    """The steps of an ensemble are known; what a Python model calls is named."""
    maps = " ".join(
        f'{side}_map {{ key: "{name}" value: "{name}" }}' for side, name in (("input", "INPUT0"), ("output", "OUTPUT0"))
    )
    step = f'step [ {{ model_name: "caller" model_version: -1 {maps} }} ]'
    fixed = identity("TYPE_FP32", "16")
    add_model(tmp_path, "fixed", fixed)
    add_model(tmp_path, "caller", fixed.replace('"identity"', '"python"'), {"model.py": CALLER})
    declared = fixed[fixed.index("max_batch_size") : fixed.index("instance_group")]
    add_model(tmp_path, "whole", f'platform: "ensemble" {declared} ensemble_scheduling {{ {step} }}')
    with run_server(tmp_path) as server:
        flags = ["--request-count=30", "-b2"]
        shown = perf(server, protocol, "whole", *flags, "--bls-composing-models=fixed:1")
        rows = [line.split() for line in shown.splitlines()]
        counted = {row[1]: int(row[2]) for row in rows if len(row) == 8 and row[1] in ("caller", "fixed:1")}
        assert counted == {"caller": 60, "fixed:1": 60}
        shown = perf(server, protocol, "caller", *flags, "--bls-composing-models=nobody", status=1)
        assert "the server has no statistics of 'nobody'" in shown
