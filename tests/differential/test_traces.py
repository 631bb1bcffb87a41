# SPDX-License-Identifier: Apache-2.0
"""The same requests traced by both servers: the same names, the same entry of the model, an order that both keep."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

from differential.servers import free_ports
from perf.peers import PeerError, find_triton, start_triton
from pyinfer.testing import run_server

CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ -1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
"""
MODEL = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""
PROTOCOLS = ("http", "grpc")
#: what is before what in every trace; the rest differs from trace to trace in Triton
ORDER = (
    ("RECEIVE_START", "RECEIVE_END", "REQUEST_START", "QUEUE_START", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START", "COMPUTE_END", "REQUEST_END"),
    ("COMPUTE_OUTPUT_START", "INFER_RESPONSE_COMPLETE", "SEND_START", "SEND_END"),
)

Trace = dict[str, Any]


def _infer(http: str, grpc: str) -> None:
    for module, address in ((triton_http, http), (triton_grpc, grpc)):
        with module.InferenceServerClient(address) as client:
            tensor = module.InferInput("INPUT0", [1, 2], "INT32")
            tensor.set_data_from_numpy(np.array([[1, -2]], np.int32))
            client.infer("m", [tensor], request_id="an id")


def _read(folder: Path) -> list[Trace]:
    """For each trace its times by name, what names its model, and its tensors."""
    traces = []
    for number in range(len(PROTOCOLS)):
        entries = json.loads((folder / f"t.{number}").read_text())
        times = {
            entry["timestamps"][0]["name"]: entry["timestamps"][0]["ns"] for entry in entries if "timestamps" in entry
        }
        (model,) = (entry for entry in entries if "model_name" in entry)
        tensors = [{"activity": entry["activity"], **entry["tensor"]} for entry in entries if "tensor" in entry]
        traces.append({"times": times, "model": model, "tensors": tensors})
    return traces


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Trace], list[Trace]]:
    """Of Triton, and of pyinfer: one over each protocol."""
    try:
        find_triton()
    except PeerError as error:
        pytest.skip(f"NOT COMPARED WITH TRITON: {error}")
    models = tmp_path_factory.mktemp("models")
    (models / "m" / "1").mkdir(parents=True)
    (models / "m" / "config.pbtxt").write_text(CONFIG)
    (models / "m" / "1" / "model.py").write_text(MODEL)
    theirs, ours = tmp_path_factory.mktemp("theirs"), tmp_path_factory.mktemp("ours")

    def flags(folder: Path) -> tuple[str, ...]:
        settings = (f"triton,file={folder}/t", "triton,log-frequency=1", "rate=1", "level=TIMESTAMPS", "level=TENSORS")
        return tuple(f"--trace-config={setting}" for setting in settings)

    http, grpc, metrics = free_ports(3)
    with ExitStack() as stack:
        triton = stack.enter_context(
            start_triton(models, http_port=http, grpc_port=grpc, metrics_port=metrics, flags=flags(theirs))
        )
        pyinfer = stack.enter_context(run_server(models, *flags(ours)))
        _infer(triton.http, triton.grpc)
        _infer(pyinfer.http, pyinfer.grpc)
    return _read(theirs), _read(ours)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(PROTOCOLS)), ids=PROTOCOLS)
def test_traces_have_the_same_structure(traces: tuple[list[Trace], list[Trace]], number: int) -> None:
    theirs, ours = (of[number] for of in traces)
    assert ours["times"].keys() == theirs["times"].keys()
    assert ours["model"] == theirs["model"]
    assert ours["tensors"] == theirs["tensors"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", range(len(PROTOCOLS)), ids=PROTOCOLS)
@pytest.mark.parametrize("server", [0, 1], ids=["triton", "pyinfer"])
def test_both_keep_the_order(traces: tuple[list[Trace], list[Trace]], number: int, server: int) -> None:
    protocol = PROTOCOLS[number].upper()
    receive = "HTTP_RECV" if protocol == "HTTP" else "GRPC_WAITREAD"
    times = traces[server][number]["times"]
    for names in ORDER:
        full = [name.replace("RECEIVE", receive).replace("SEND", f"{protocol}_SEND") for name in names]
        moments = [times[name] for name in full]
        assert moments == sorted(moments), full
