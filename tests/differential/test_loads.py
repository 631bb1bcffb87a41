# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` measures the real tritonserver as it does pyinfer: each request is sent once, and answered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
import tritonclient.grpc as triton_grpc

from differential.servers import free_ports
from perf.peers import PeerError, find_triton, start_triton
from pyinfer.testing import run_server

CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "IN" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUT" data_type: TYPE_FP32 dims: [ 16 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())]) for r in requests]
"""
SEQUENCES = "sequence_batching { oldest { } }\n"
DECOUPLED = "model_transaction_policy { decoupled: true }\n"
#: answers each request twice
DECOUPLED_MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for _ in range(2):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
MODELS = {
    "plain": (CONFIG, MODEL),
    "steps": (CONFIG + SEQUENCES, MODEL),
    "twice": (CONFIG + DECOUPLED, DECOUPLED_MODEL),
}
#: the model, the protocol, and how it is asked
LOADS = {
    "http": ("plain", "http", ()),
    "json": ("plain", "http", ("--input-tensor-format=json", "--output-tensor-format=json")),
    "grpc": ("plain", "grpc", ("-b4",)),
    "compressed": ("plain", "grpc", ("--grpc-compression-algorithm=gzip",)),
    "stream": ("plain", "grpc", ("--streaming",)),
    "memory over http": ("plain", "http", ("--shared-memory=system",)),
    "memory over grpc": ("plain", "grpc", ("--shared-memory=system",)),
    "at a rate": ("plain", "grpc", ("--request-rate-range=200",)),
    "sequences": ("steps", "grpc", ("--sequence-length=5",)),
    "several responses": ("twice", "grpc", ("--streaming",)),
}
REQUESTS = 40


@dataclass(frozen=True)
class Address:
    http: str
    grpc: str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Address]]:
    try:
        find_triton()
    except PeerError as error:
        pytest.skip(f"NOT COMPARED WITH TRITON: {error}")
    models = tmp_path_factory.mktemp("models")
    for name, (config, model) in MODELS.items():
        (models / name / "1").mkdir(parents=True)
        (models / name / "config.pbtxt").write_text(config)
        (models / name / "1" / "model.py").write_text(model)
    http, grpc, metrics = free_ports(3)
    with ExitStack() as stack:
        triton = stack.enter_context(start_triton(models, http_port=http, grpc_port=grpc, metrics_port=metrics))
        pyinfer = stack.enter_context(run_server(models, "--allow-client-shm=true"))
        yield {
            "triton": Address(triton.http, triton.grpc),
            "pyinfer": Address(pyinfer.http, pyinfer.grpc),
        }


def _counted(address: Address, model: str) -> int:
    """Requests that succeeded so far."""
    with triton_grpc.InferenceServerClient(address.grpc) as client:
        (stats,) = client.get_inference_statistics(model).model_stats
    return int(stats.inference_stats.success.count)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["triton", "pyinfer"])
@pytest.mark.parametrize("load", LOADS)
def test_each_request_is_answered(servers: dict[str, Address], server: str, load: str) -> None:
    model, protocol, flags = LOADS[load]
    address = servers[server]
    before = _counted(address, model)
    command = [sys.executable, "-m", "pyinfer", "perf", "-m", model, "-i", protocol, "-u", getattr(address, protocol)]
    command += [f"--request-count={REQUESTS}", *(() if "rate" in load else ("--concurrency-range=4",)), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    after = _counted(address, model) - before
    # sequences that are open at the end are ended, by a request each
    assert after == REQUESTS or (model == "steps" and REQUESTS <= after <= REQUESTS + 4)
