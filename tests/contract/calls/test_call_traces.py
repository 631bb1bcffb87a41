# SPDX-License-Identifier: Apache-2.0
"""Calls between models in the trace of the request that they are made for: joined where the model says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client

from contract.conftest import add_model, identity, isolated
from pyinfer.testing import run_server

CALLER = """
import asyncio
import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    async def execute(self, requests):
        responses = []
        for request in requests:
            how = json.loads(request.parameters())["how"]
            more = {} if how == "apart" else {"trace": request.trace()}
            call = pb_utils.InferenceRequest(
                model_name="echo", requested_output_names=["OUTPUT0"], inputs=request.inputs(), **more
            )
            response = await call.async_exec() if how == "async" else call.exec()
            responses.append(pb_utils.InferenceResponse(response.output_tensors()))
        return responses
"""


def traces(file: Path) -> dict[str, dict[str, Any]]:
    """The entries that say which model a trace is of, by that model."""
    return {entry["model_name"]: entry for entry in json.loads(file.read_text()) if "model_name" in entry}


@pytest.mark.parametrize("how", ["sync", "async", "apart"])
def test_a_call_is_part_of_the_trace_where_it_is_told_so(tmp_path: Path, isolation: str, how: str) -> None:
    text = identity("TYPE_FP32", "-1", batch=0)
    add_model(tmp_path / "models", "echo", text)
    add_model(tmp_path / "models", "caller", text.replace('"identity"', '"python"'), {"model.py": CALLER})
    file = tmp_path / "trace"
    flags = [f"--trace-config={one}" for one in (f"triton,file={file}", "rate=1", "level=TIMESTAMPS")]
    with run_server(tmp_path / "models", isolated(isolation), *flags) as server:
        with grpc_client.InferenceServerClient(server.grpc) as client:
            given = grpc_client.InferInput("INPUT0", [1], "FP32")
            given.set_data_from_numpy(np.ones(1, np.float32))
            assert client.infer("caller", [given], parameters={"how": how}).as_numpy("OUTPUT0").tolist() == [1]
        assert server.stop() == 0, server.log[-4000:]
    found = traces(file)
    if how == "apart":
        assert set(found) == {"caller"}
    else:
        assert found["echo"]["parent_id"] == found["caller"]["id"]
