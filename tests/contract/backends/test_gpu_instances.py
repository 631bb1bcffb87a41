# SPDX-License-Identifier: Apache-2.0
"""Instances of KIND_GPU, with a driver that keeps device memory on the host; tests/gpu has them with the real one."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

from contract.conftest import add_model, fake_driver, identity, isolated
from pyinfer.testing import RunningServer, run_server

#: of the one device that the driver has
UUID = "GPU-00010203-0405-0607-0809-0a0b0c0d0e0f"
PROTOCOLS = {"http": httpclient, "grpc": grpcclient}

WHERE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.facts = [args["model_instance_kind"], args["model_instance_device_id"], args["model_instance_name"]]

    def execute(self, requests):
        facts = pb_utils.Tensor("FACTS", np.array(self.facts, np.object_))
        return [pb_utils.InferenceResponse([facts]) for _ in requests]
"""


def config(group: str) -> str:
    return (
        'backend: "python" input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ] '
        f'output [ {{ name: "FACTS" data_type: TYPE_STRING dims: [ -1 ] }} ] {group}'
    )


#: model -> its instance groups
GROUPS = {
    "none": "",
    "auto": "instance_group { kind: KIND_AUTO }",
    "gpu": "instance_group { kind: KIND_GPU }",
    "named": "instance_group { kind: KIND_GPU gpus: 0 }",
    "cpu": "instance_group { kind: KIND_CPU }",
    "model": "instance_group { kind: KIND_MODEL }",
    "mixed": "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU passive: true } ]",
    "absent": "instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }",
}


def repository(folder: Path) -> Path:
    folder.mkdir()
    for name, group in GROUPS.items():
        add_model(folder, name, config(group), {"model.py": WHERE})
    add_model(folder, "plain", identity("TYPE_FP32", "-1"))
    plain = identity("TYPE_FP32", "-1").replace("KIND_CPU", "KIND_GPU")
    add_model(folder, "plain_gpu", plain)
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("gpu")
    log = fake_driver(folder)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_LIBRARY_PATH", str(folder))
        environment.setenv("FAKE_CUDA_LOG", str(log))
        with run_server(repository(folder / "models"), "--exit-on-error=false", isolated(isolation)) as running:
            yield running


def facts(server: RunningServer, protocol: str, model: str) -> list[bytes]:
    library: Any = PROTOCOLS[protocol]
    client = library.InferenceServerClient(getattr(server, protocol))
    given = library.InferInput("INPUT0", [1], "FP32")
    given.set_data_from_numpy(np.zeros(1, np.float32))
    found: list[bytes] = client.infer(model, [given]).as_numpy("FACTS").tolist()
    client.close()
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("none", b"GPU"),
        ("auto", b"GPU"),
        ("gpu", b"GPU"),
        ("named", b"GPU"),
        ("cpu", b"CPU"),
        ("model", b"MODEL"),
        ("mixed", b"CPU"),
    ],
)
def test_what_instances_are_told(server: RunningServer, protocol: str, model: str, kind: bytes) -> None:
    name = f"{model}_0" if model == "none" else f"{model}_0_0"
    assert facts(server, protocol, model) == [kind, b"0", name.encode()]


def test_what_can_not_be(server: RunningServer) -> None:
    with httpclient.InferenceServerClient(server.http) as client:
        index = {entry["name"]: entry for entry in client.get_model_repository_index()}
    assert index["absent"]["state"] == "UNAVAILABLE"
    assert "specifies invalid or unsupported gpu id 1. GPUs that can be used are: 0" in index["absent"]["reason"]
    assert index["plain"]["state"] == "READY"
    assert "has kind KIND_GPU but its backend does not support GPUs" in index["plain_gpu"]["reason"]


def test_samples_of_a_model_on_one_device_say_which(server: RunningServer) -> None:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    for model in GROUPS:
        label = f'gpu_uuid="{UUID}",' if model in ("none", "auto", "gpu", "named") else ""
        assert (f'nv_inference_request_success{{{label}model="{model}",version="1"}}' in page) is (model != "absent")


@pytest.mark.parametrize("flags", [["--min-supported-compute-capability=9.1"], []])
def test_without_a_device(tmp_path: Path, flags: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is too old, or no driver: what must be on a GPU is not loaded, what may be is on the CPU."""
    if flags:
        log = fake_driver(tmp_path)
        monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
        monkeypatch.setenv("FAKE_CUDA_LOG", str(log))
    else:
        monkeypatch.setenv("TRITON_SERVER_CPU_ONLY", "1")  # whatever this machine has
    with run_server(repository(tmp_path / "models"), "--exit-on-error=false", isolated("thread"), *flags) as server:
        with httpclient.InferenceServerClient(server.http) as client:
            index = {entry["name"]: entry for entry in client.get_model_repository_index()}
        assert "instance group gpu_0 of model gpu has kind KIND_GPU but no GPUs are available" in index["gpu"]["reason"]
        assert facts(server, "grpc", "auto") == [b"CPU", b"0", b"auto_0_0"]


def test_config_check_does_not_judge_what_devices_there_are(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pyinfer", "config", "check", str(repository(tmp_path / "models"))]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    (finding,) = [line for line in done.stdout.splitlines() if "KIND_GPU" in line]
    assert "plain_gpu" in finding and "its backend does not support GPUs" in finding
