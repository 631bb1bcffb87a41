# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf tune`` on models for which it is known what is best, with real servers.

What is best is so several times over: a machine that stands still for a while takes less than that from its figures.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper

from contract.conftest import add_model
from pyinfer.config.pbtxt import parse as parse_pbtxt
from pyinfer.testing import RunningServer, run_server

PROTOCOLS = ["http", "grpc"]
#: servers are started dozens of times
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
MODEL = '''
import json
import os
import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """An execution takes 20 ms, however many rows it has. An instance has 60 MiB, and tells that it was made."""

    def initialize(self, args):
        size = json.loads(args["model_config"])["max_batch_size"]
        with open(os.environ["TUNE_LOG"], "a") as log:
            log.write(f"{size}\\n")
        if size > 16:
            raise ValueError("no batch of mine is larger than 16")
        self.ballast = np.ones(60 * 2**17)

    def execute(self, requests):
        time.sleep(0.02)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
'''
CONFIG = """
backend: "python" max_batch_size: 2
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { }
"""
LOAD = ["--concurrency-range=32", "-p", "100", "--queue-delays=0"]


class Bench:
    """A repository with the model, a folder to run in, and a log of the instances that were made."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.repository, self._log = folder, folder / "models", folder / "log"
        self.directory = add_model(self.repository, "m", CONFIG, {"model.py": MODEL})
        self.environment = {**os.environ, "TUNE_LOG": str(self._log)}

    def made(self) -> Counter[int]:
        """max_batch_size -> instances since the last call."""
        found = Counter(int(line) for line in self._log.read_text().split()) if self._log.exists() else Counter[int]()
        self._log.write_text("")
        return found

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pyinfer", "perf", "tune", *arguments]

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, cwd=self.folder, env=self.environment, timeout=500
        )
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def recommended(self) -> Any:
        return parse_pbtxt((self.folder / "m.config.pbtxt").read_text())

    def measured(self) -> dict[str, Any]:
        """Candidate -> its figures at each level, of the last round."""
        outcomes = json.loads((self.folder / "m.tune.json").read_text())["outcomes"]
        return {key.partition(",")[0]: one["figures"] for key, one in outcomes.items()}


def command_lines() -> str:
    """Of all processes."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(file.read_text(errors="replace"))
    return "\n".join(found)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_the_best_wins_and_nothing_is_measured_twice(bench: Bench) -> None:
    """Batches of 16 take as long as batches of 1; those of 64 can not be made. (Over HTTP: see signals, below.)"""
    argv = ["models/m", "-i", "grpc", "--instances=1", "--max-batch-sizes=1,16,64", *LOAD]
    shown = bench.run(*argv)
    assert "Recommended: instances=1 max_batch_size=16 queue_delay_us=0" in shown
    assert "failed: instances=1 max_batch_size=64 queue_delay_us=0: " in shown
    assert "no batch of mine is larger than 16" in shown
    # the model as it is also to be looked at; all that runs twice, in opposite order
    assert bench.made() == {2: 3, 1: 2, 16: 2, 64: 1}
    text = (bench.folder / "m.config.pbtxt").read_text()
    assert "# max_batch_size 16: 1 gives at best 0." in text
    assert "64 fails (" in text
    config = bench.recommended()
    assert (config.max_batch_size, config.instance_group[0].count, config.backend) == (16, 1, "python")

    assert "Recommended: instances=1 max_batch_size=16" in bench.run(*argv)
    assert bench.made() == {2: 1}

    bench.run(*argv, "--output=models/m/config.pbtxt", status=1)
    assert bench.made() == {}
    assert (bench.directory / "config.pbtxt").read_text() == CONFIG
    bench.run(*argv, "--output=models/m/config.pbtxt", "--overwrite")
    check = [sys.executable, "-m", "pyinfer", "config", "check", "models"]
    checked = subprocess.run(check, cwd=bench.folder, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    with run_server_in(bench) as server, triton.InferenceServerClient(server.grpc) as client:
        assert client.get_model_config("m").config.max_batch_size == 16


def run_server_in(bench: Bench) -> Any:
    os.environ["TUNE_LOG"] = bench.environment["TUNE_LOG"]
    return run_server(bench.repository)


def test_limits_are_kept(bench: Bench) -> None:
    """Four instances are four times as fast and take more memory; more requests at a time are more throughput, later.

    Limits are put between what was measured, so that nothing depends on the machine.
    """
    argv = ["models/m", "-i", "grpc", "-p", "200", "--concurrency-range=2:18:16"]
    argv += ["--instances=1,4", "--max-batch-sizes=-", "--queue-delays=-", "--latency-slos=-"]
    assert "Recommended: instances=4" in bench.run(*argv)
    measured = bench.measured()
    bench.made()
    one, four = ([figures["memory_mib"] for figures in measured[f"instances={count}"]] for count in (1, 4))
    assert max(one) + 90 < min(four)
    shown = bench.run(*argv, f"--max-memory={max(one) + 90}")
    assert "Recommended: instances=1" in shown or "Recommended: as it is" in shown
    assert bench.recommended().instance_group[0].count == 1

    few, many = (figures["p99_ms"] for figures in measured["instances=4"])
    if few < many:  # as it is unless the machine stood still in the wrong moment
        bench.run(*argv, f"--max-p99-ms={(few + many) / 2}")
        text = (bench.folder / "m.config.pbtxt").read_text()
        assert "at concurrency 2" in next(line for line in text.splitlines() if line.startswith("# recommended"))
    assert "Nothing that was tried keeps the limits" in bench.run(*argv, "--max-memory=1", status=1)
    # other limits are other judgements of the same measurements
    assert set(bench.made()) == {2}


@pytest.mark.parametrize(("protocol", "end"), [("http", signal.SIGINT), ("grpc", signal.SIGTERM)])
def test_a_signal_keeps_the_state_and_leaves_no_server(bench: Bench, protocol: str, end: signal.Signals) -> None:
    argv = ["m", "--model-repository=models", "-i", protocol, "--instances=1", "--max-batch-sizes=1,16", *LOAD]
    process = subprocess.Popen(
        bench.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=bench.folder,
        env=bench.environment,
    )  # fmt: skip
    assert process.stderr
    seen = next(line for line in process.stderr if "max_batch_size=1 " in line)
    process.send_signal(end)
    out, err = process.communicate(timeout=500)
    assert process.returncode == 1, seen + out + err
    assert "the same command goes on from m.tune.json" in err
    assert "Traceback" not in err
    assert "Recommended" not in out
    assert f"--model-repository={bench.repository}" not in command_lines()
    before = bench.made()
    assert "Recommended: instances=1 max_batch_size=16" in bench.run(*argv)
    after = bench.made()
    # each run looks at the model once; what was being measured was measured again
    assert sum((before + after).values()) <= 2 + 6 + 1


@pytest.fixture
def running(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunningServer]:
    monkeypatch.setenv("TUNE_LOG", bench.environment["TUNE_LOG"])
    with run_server(bench.repository, "--model-control-mode=explicit", "--load-model=m") as server:
        yield server


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_running_server_has_its_model_back(bench: Bench, running: RunningServer, protocol: str) -> None:
    address = running.grpc if protocol == "grpc" else running.http
    argv = ["m", "-u", address, "-i", protocol, "--instances=1", "--max-batch-sizes=1,16,64", *LOAD]
    with triton.InferenceServerClient(running.grpc) as client:
        before = client.get_model_config("m")
        assert "Recommended: instances=1 max_batch_size=16" in bench.run(*argv, f"--server-pid={running.pid}")
        assert client.get_model_config("m") == before
        assert bench.recommended().max_batch_size == 16
        client.unload_model("m")
        bench.run(*argv, f"--server-pid={running.pid}")
        assert not client.is_model_ready("m")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_running_server_that_dies_ends_the_search(bench: Bench, running: RunningServer, protocol: str) -> None:
    address = running.grpc if protocol == "grpc" else running.http
    argv = ["m", "-u", address, "-i", protocol, "--instances=1", "--max-batch-sizes=1,8", *LOAD]
    process = subprocess.Popen(
        bench.command(*argv), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=bench.folder
    )
    assert process.stderr
    seen = next(line for line in process.stderr if "max_batch_size=1 " in line)
    running.process.kill()
    out, err = process.communicate(timeout=500)
    assert process.returncode == 1, seen + out + err
    assert "Traceback" not in err
    assert "failed" not in out, "no candidate is to blame"
    assert set(bench.measured()) >= {"as it is", "instances=1 max_batch_size=1 queue_delay_us=0"}


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["absent"], "there is no model at absent"),
        (["absent", "--model-repository=models"], "there is no model 'absent' in models"),
        (["log", "-p", "1"], "neither a model directory nor a file"),
        (["m", "-u", "127.0.0.1:1"], "127.0.0.1:1"),
        (["models/m", "--output=nowhere/x"], "there is no directory nowhere"),
        (["models/m", "--serve=--nonsense"], "can not be started"),
        (["models/m", "--state=models/m/1/model.py"], "is no state of"),
        (["models/m", "--input-data=absent.json"], "the model as it is can not be measured: "),
    ],
)
def test_what_can_not_be_tuned_is_told_at_once(bench: Bench, argv: list[str], text: str) -> None:
    bench.made()
    shown = bench.run(*argv, status=1)
    assert text in shown
    assert not (bench.folder / "m.config.pbtxt").exists()


STEP = 'model_name: "m" model_version: -1 input_map { key: "INPUT0" value: "INPUT0" }'
ENSEMBLE = f'ensemble_scheduling {{ step [ {{ {STEP} output_map {{ key: "OUTPUT0" value: "OUTPUT0" }} }} ] }}'


@pytest.mark.parametrize("kind", ["sequence_batching { }", ENSEMBLE], ids=["sequences", "ensemble"])
def test_models_without_a_batcher_are_refused(bench: Bench, kind: str) -> None:
    text = CONFIG.replace("dynamic_batching { }", kind)
    files = {"model.py": MODEL}
    if kind == ENSEMBLE:
        text = text.replace('backend: "python"', 'platform: "ensemble"')
        text = "\n".join(line for line in text.splitlines() if "instance_group" not in line)
        files = {}
    add_model(bench.repository, "other", text, files)
    shown = bench.run("models/other", status=1)
    assert "whose batching can not be tuned" in shown


@pytest.mark.parametrize(("protocol", "slos"), [("http", ["500"]), ("grpc", [])])
def test_a_bare_file_gets_a_configuration(tmp_path: Path, protocol: str, slos: list[str]) -> None:
    """One that is completed by the server, as everything that it does not say."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 8]) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    file = tmp_path / "small net.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    bench = Bench(tmp_path)
    tried = ["--instances=1", "--max-batch-sizes=4", "--thread-counts=1", "--queue-delays=-"]
    shown = bench.run(
        str(file),
        "-i",
        protocol,
        *tried,
        f"--latency-slos={','.join(slos) or '-'}",
        "--concurrency-range=8",
        "-p",
        "100",
    )
    assert "Recommended: " in shown
    written = tmp_path / "small_net.config.pbtxt"
    assert parse_pbtxt(written.read_text())
    outcomes = json.loads((tmp_path / "small_net.tune.json").read_text())["outcomes"]
    assert {key.partition(",")[0]: one["failure"] for key, one in outcomes.items()} == {
        "as it is": "",
        "instances=1 max_batch_size=4 threads=1": "",
        **{f"instances=1 max_batch_size=4 latency_slo_ms={one} threads=1": "" for one in slos},
    }
    directory = add_model(tmp_path / "served", "small_net", written.read_text())
    (directory / "1" / "model.onnx").write_bytes(file.read_bytes())
    with run_server(tmp_path / "served") as server, triton.InferenceServerClient(server.grpc) as client:
        assert client.get_model_config("small_net").config.input[0].name == "x"
