# SPDX-License-Identifier: Apache-2.0
"""What the page of metrics tells of instances that wait for the interpreter's lock."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc as grpc_client

from contract.conftest import add_model, identity
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""
LINE = re.compile(r'pyinfer_instance_(\w+)\{instance="(\w+)",model="(\w+)",version="1"\} (\S+)')


def page(server: RunningServer) -> dict[tuple[str, str], float]:
    """(family, instance) -> value"""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        return {(family, name): float(value) for family, name, _, value in LINE.findall(answer.read().decode())}


def test_instances_that_are_threads_are_on_the_page(tmp_path: Path) -> None:
    config = identity("TYPE_FP32", "1").replace('"identity"', '"python"').replace("count: 1", "count: 2")
    for isolation in ("thread", "process"):
        chosen = f' parameters {{ key: "ISOLATION" value {{ string_value: "{isolation}" }} }}'
        add_model(tmp_path, isolation, config + chosen, {"model.py": MODEL})
    add_model(tmp_path, "native", identity("TYPE_FP32", "1"))
    with (
        run_server(tmp_path, "--model-control-mode=explicit", "--load-model=*") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        tensor = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.zeros((1, 1), np.float32))
        for _ in range(20):
            for model in ("thread", "process", "native"):
                client.infer(model, [tensor])
        seen = page(server)
        families = ("execution_total", "gil_wait_seconds_total")
        assert set(seen) == {(family, f"thread_0_{number}") for family in families for number in (0, 1)}
        assert sum(seen["execution_total", f"thread_0_{number}"] for number in (0, 1)) == 20
        waited = [seen["gil_wait_seconds_total", f"thread_0_{number}"] for number in (0, 1)]
        assert min(waited) >= 0 and max(waited) > 0
        client.unload_model("thread")
        eventually(lambda: page(server) == {}, "what is unloaded is still on the page")
