# SPDX-License-Identifier: Apache-2.0
"""Models whose instances are on the GPU, for clients that know nothing of it: PyTorch in workers, and in the server."""

from __future__ import annotations

import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from numpy.typing import NDArray

from contract.conftest import add_model, isolated
from gpu.test_metrics import smi
from pyinfer.testing import RunningServer, run_server

CLIENTS: dict[str, Any] = {"http": httpclient, "grpc": grpcclient}

LAYER = """
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        assert args["model_instance_kind"] == "GPU"
        self.device = f"cuda:{args['model_instance_device_id']}"
        torch.manual_seed(7)
        self.layer = torch.nn.Linear(64, 64).to(self.device)

    @torch.inference_mode()
    def execute(self, requests):
        tensors = [
            torch.from_dlpack(pb_utils.get_input_tensor_by_name(one, "INPUT0").to_dlpack()) for one in requests
        ]
        results = self.layer(torch.cat(tensors).to(self.device)).split([len(one) for one in tensors])
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", one.contiguous())]) for one in results
        ]
"""
CONFIG = """
backend: "python" max_batch_size: 64 dynamic_batching { max_queue_delay_microseconds: 500 }
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 64 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 64 ] } ]
"""


@pytest.mark.parametrize("isolation", ["process", "thread"])
def test_a_layer_on_the_gpu(tmp_path: Path, isolation: str) -> None:
    import torch

    add_model(tmp_path, "layer", CONFIG + "instance_group { kind: KIND_GPU count: 2 }", {"model.py": LAYER})
    torch.manual_seed(7)
    layer = torch.nn.Linear(64, 64)
    rows = np.random.default_rng(3).standard_normal((256, 64), dtype=np.float32)
    expected = layer(torch.from_numpy(rows)).detach().numpy()
    with run_server(tmp_path, isolated(isolation)) as server, ThreadPoolExecutor(16) as pool:
        for kind in CLIENTS:
            parts = pool.map(lambda part, kind=kind: answer(server, kind, part), np.split(rows, 64))
            np.testing.assert_allclose(np.concatenate(list(parts)), expected, rtol=1e-4, atol=1e-5)
        assert f'gpu_uuid="{smi("uuid")[0]}",model="layer"' in page(server)


def answer(server: RunningServer, kind: str, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    library = CLIENTS[kind]
    client = library.InferenceServerClient(getattr(server, kind))
    given = library.InferInput("INPUT0", list(rows.shape), "FP32")
    given.set_data_from_numpy(rows)
    output: NDArray[np.float32] = client.infer("layer", [given]).as_numpy("OUTPUT0")
    client.close()
    return output


def page(server: RunningServer) -> str:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=30) as answer:
        text: str = answer.read().decode()
    return text


def test_a_limit_of_memory_for_loading(tmp_path: Path) -> None:
    add_model(tmp_path, "layer", CONFIG, {"model.py": LAYER})
    with run_server(tmp_path, "--exit-on-error=false", "--model-load-gpu-limit=0:0.0") as server:
        with httpclient.InferenceServerClient(server.http) as client:
            (entry,) = client.get_model_repository_index()
        assert "memory limit set for GPU 0 has exceeded, model loading is rejected" in entry["reason"]
    with (
        run_server(tmp_path, "--model-load-gpu-limit=0:1.0") as server,
        httpclient.InferenceServerClient(server.http) as client,
    ):
        assert client.is_model_ready("layer")
