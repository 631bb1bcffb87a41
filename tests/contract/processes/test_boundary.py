# SPDX-License-Identifier: Apache-2.0
"""What a model in a worker process asks of the server, and what becomes of it when the worker dies or the log changes.

That it is answered as in the server itself is tested with the other calls (``contract/calls``), in both isolations.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import GATE, add_model, gate_config
from contract.processes.test_workers import ask, descendants, python
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

CALLER = """
import json
import os
import threading

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.family = pb_utils.MetricFamily("seen_total", "Requests that were seen", pb_utils.MetricFamily.COUNTER)
        self.seen = self.family.Metric(labels={"model": args["model_name"]})
        self.gauges = pb_utils.MetricFamily("level", "What was given last", pb_utils.MetricFamily.GAUGE)
        self.level = self.gauges.Metric()
        self.spreads = pb_utils.MetricFamily("spread", "What was given", pb_utils.MetricFamily.HISTOGRAM)
        self.spread = self.spreads.Metric(buckets=[1, 10])

    def execute(self, requests):
        return [self.answer(request, **json.loads(request.parameters())) for request in requests]

    def answer(self, request, calls="", times=1, say=""):
        given = request.inputs()[0]
        self.seen.increment(1)
        for value in given.as_numpy().tolist():
            self.level.set(value)
            self.spread.observe(value)
        if say:
            pb_utils.Logger.log_verbose(say)
        array = given.as_numpy().reshape(1, -1)
        for _ in range(int(times) if calls else 0):
            call = pb_utils.InferenceRequest(
                model_name=calls, requested_output_names=["OUTPUT0"], inputs=[pb_utils.Tensor("INPUT0", array)]
            )
            response = call.exec()
            if response.has_error():
                return pb_utils.InferenceResponse(error=response.error())
            array = response.output_tensors()[0].as_numpy()
            array += 1
        parameters = {"pid": os.getpid(), "value": self.seen.value()}
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array.reshape(-1))], parameters=parameters)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("boundary")
    add_model(directory, "caller", python(), {"model.py": CALLER})
    add_model(directory, "twice", python().replace("count: 1", "count: 2"), {"model.py": CALLER})
    add_model(directory, "gate", gate_config(), {"model.py": GATE})
    add_model(directory, "echo", gate_config().replace('"python"', '"identity"'))
    return directory


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with run_server(repository, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


def seen(server: RunningServer, model: str) -> float:
    return page(server)[f'seen_total{{model="{model}"}}']


def page(server: RunningServer) -> dict[str, float]:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        lines = [line.rpartition(" ") for line in answer.read().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def kill_worker(server: RunningServer, model: str) -> None:
    """End the worker of ``model`` by SIGKILL, whatever it executes."""
    for pid in descendants(server.pid):
        if f"pyinfer-worker:{model}_0_0" in Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("count", [1, 100_000, 1 << 21])
def test_tensors_of_calls_are_the_callers_to_write_to(server: RunningServer, count: int) -> None:
    array = np.arange(count, dtype=np.float32)
    answer = ask(server, "caller", array, calls="echo", times="3")
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), array + 3)


def test_a_worker_that_dies_leaves_no_call_behind(server: RunningServer, repository: Path) -> None:
    """One call is executed, one waits in the queue: neither is there afterwards, and the next worker calls on."""
    given = grpc_client.InferInput("INPUT0", [1], "FP32")
    given.set_data_from_numpy(np.zeros(1, np.float32))
    held = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
    held.set_data_from_numpy(np.zeros((1, 1), np.float32))
    failed: list[Any] = []
    done = threading.Event()

    def keep(result: Any, error: Any) -> None:
        failed.append(error)
        done.set()

    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.async_infer("gate", [held], lambda result, error: None)
        eventually((repository / "gate" / "began").exists, "the gate was not reached")
        client.async_infer("caller", [given], keep, parameters={"calls": "gate"})
        eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 1, "the call is not queued")
        kill_worker(server, "caller")
        assert done.wait(60)
        eventually(lambda: counter(server, "nv_inference_pending_request_count", "gate") == 0, "the call is left")
        assert isinstance(failed[0], InferenceServerException)
        assert "was ended by SIGKILL while it executed the request" in str(failed[0].message())
        (repository / "gate" / "open").touch()
        np.testing.assert_array_equal(
            ask(server, "caller", np.zeros(1, np.float32), calls="gate").as_numpy("OUTPUT0"), [1]
        )


def test_counts_go_on_behind_the_death_of_a_worker(server: RunningServer) -> None:
    ask(server, "caller", np.zeros(1, np.float32))
    before = seen(server, "caller")
    kill_worker(server, "caller")
    answer = ask(server, "caller", np.zeros(1, np.float32))
    assert seen(server, "caller") == before + 1
    assert answer.get_response().parameters["value"].double_param == before + 1


def test_workers_of_one_model_have_one_metric(server: RunningServer) -> None:
    pids = set()
    before = seen(server, "twice")
    for number in range(40):
        pids.add(ask(server, "twice", np.zeros(1, np.float32)).get_response().parameters["pid"].int64_param)
        assert seen(server, "twice") == before + number + 1
    assert pids


def test_gauges_and_histograms(server: RunningServer) -> None:
    before = page(server)
    ask(server, "caller", np.array([0.5, 5, 50, 7], np.float32))
    after = page(server)
    assert after["level"] == 7
    grown = {name: after[name] - before[name] for name in after if name.startswith("spread_")}
    assert grown == {
        'spread_bucket{le="1"}': 1,
        'spread_bucket{le="10"}': 3,
        'spread_bucket{le="+Inf"}': 4,
        "spread_sum": 62.5,
        "spread_count": 4,
    }


def test_metrics_leave_with_their_model(server: RunningServer) -> None:
    with http_client.InferenceServerClient(server.http) as client:
        client.unload_model("twice")
        eventually(lambda: 'seen_total{model="twice"}' not in page(server), "the metric is still there")
        assert 'seen_total{model="caller"}' in page(server)
        client.load_model("twice")
    assert seen(server, "twice") == 0


def test_the_verbosity_of_the_log_crosses(server: RunningServer) -> None:
    def set_level(level: int) -> None:
        body = json.dumps({"log_verbose_level": level}).encode()
        urllib.request.urlopen(urllib.request.Request(f"http://{server.http}/v2/logging", body), timeout=60).close()

    ask(server, "caller", np.zeros(1, np.float32), say="a line before")
    set_level(1)

    def is_written() -> bool:
        ask(server, "caller", np.zeros(1, np.float32), say="a line of detail")
        return "a line of detail" in server.log

    eventually(is_written, "the line is in the log")
    assert "a line before" not in server.log
    kill_worker(server, "caller")
    ask(server, "caller", np.zeros(1, np.float32), say="a line of the next worker")
    eventually(lambda: "a line of the next worker" in server.log, "the next worker knows as well")
    set_level(0)
