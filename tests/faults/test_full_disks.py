# SPDX-License-Identifier: Apache-2.0
"""Row 57: no room for what the server writes; tests/faults/test_log_lines.py has the log."""

from __future__ import annotations

import base64
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import add_model, identity, isolated
from contract.http.raw import Raw, post
from faults.client import Grpc, document, http, tensor
from faults.guard import Guard
from pyinfer.testing import RunningServer, run_server

INFER = post("/v2/models/fp32/infer", document(tensor((1, 2), [1.5, -2])))
CONFIG = identity("TYPE_FP32", "-1").replace('backend: "identity"', 'backend: "python"')
MODEL = (
    "import triton_python_backend_utils as pb_utils\n"
    "class TritonPythonModel:\n"
    "    def execute(self, requests):\n"
    "        return [pb_utils.InferenceResponse([pb_utils.Tensor('OUTPUT0', r.inputs()[0].as_numpy() * 2)])"
    " for r in requests]\n"
)


@contextmanager
def full(server: RunningServer, room: int) -> Iterator[None]:
    """No file may become larger than ``room`` bytes, which a process is told as it is told of a full disk."""
    limit = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (room, limit[1]))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limit)


@pytest.fixture(scope="module")
def explicit(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--model-control-mode=explicit", "--load-model=*", isolated("thread")) as running:
        yield running


@pytest.fixture
def guarded_explicit(explicit: RunningServer) -> Iterator[Guard]:
    with Guard(explicit) as made:
        yield made
        made.check()


@pytest.mark.usefixtures("guarded_explicit")
def test_row_57_files_of_a_load(explicit: RunningServer) -> None:
    """A load whose files do not fit fails; the model that it should replace goes on, and later it succeeds."""
    source = MODEL.encode() + b"#" * 100_000
    files = {"file:1/model.py": base64.b64encode(source).decode()}
    load = json.dumps({"parameters": {"config": json.dumps(python_config()), **files}}).encode()
    request = pb.RepositoryModelLoadRequest(model_name="fp32")
    request.parameters["config"].string_param = json.dumps(python_config())
    request.parameters["file:1/model.py"].bytes_param = source
    rpc = Grpc(explicit)
    with Raw(explicit.http_port, timeout_s=60) as raw:
        with full(explicit, 50_000):
            response = http(explicit, "/v2/repository/models/fp32/load", load)
            assert response.status == 500
            assert "failed to write the files of the load request" in response.document["error"]
            rpc.refused(
                request.SerializeToString(), "INTERNAL", "failed to write the files", name="RepositoryModelLoad"
            )
            assert raw.send(INFER).receive().document["outputs"][0]["data"] == [1.5, -2]
        assert http(explicit, "/v2/repository/models/fp32/load", load).status == 200
        assert raw.send(INFER).receive().document["outputs"][0]["data"] == [3.0, -4.0]
    rpc.close()


def python_config() -> dict[str, object]:
    tensor_of = {"data_type": "TYPE_FP32", "dims": [-1]}
    return {
        "backend": "python",
        "max_batch_size": 8,
        "input": [{"name": "INPUT0", **tensor_of}],
        "output": [{"name": "OUTPUT0", **tensor_of}],
        "instance_group": [{"count": 1, "kind": "KIND_CPU"}],
    }


def test_row_57_traces(tmp_path: Path) -> None:
    """Traces that can not be written are lost and reported; requests are served."""
    add_model(tmp_path / "models", "fp32", identity("TYPE_FP32", "-1"))
    file = tmp_path / "traces"
    flags = (f"--trace-config=triton,file={file}", "--trace-config=rate=1", "--trace-config=level=TIMESTAMPS")
    with run_server(tmp_path / "models", *flags, f"--log-file={tmp_path / 'log'}") as server:
        with Raw(server.http_port, timeout_s=60) as raw:
            with full(server, 2000):
                for _ in range(200):
                    assert raw.send(INFER).receive().document["outputs"][0]["data"] == [1.5, -2]
            assert raw.send(INFER).receive().status == 200
        assert server.stop() == 0
    written = json.loads(file.read_text())
    assert written, "what is there is whole"
