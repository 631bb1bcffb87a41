# SPDX-License-Identifier: Apache-2.0
"""Instance groups that are passive: their instances are made and closed, and no request comes to them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as http_client

from contract.conftest import add_model, isolated
from pyinfer.testing import RunningServer, run_server

MODEL = """
from pathlib import Path
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.name, self.folder = args["model_instance_name"], Path(args["model_repository"])
        (self.folder / f"made {self.name}").touch()

    def execute(self, requests):
        (self.folder / f"executed {self.name}").touch()
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy())]) for r in requests
        ]

    def finalize(self):
        (self.folder / f"closed {self.name}").touch()
"""
CONFIG = """
backend: "python" max_batch_size: 1
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {groups} ]
"""
ACTIVE = '{ name: "active" count: 1 kind: KIND_CPU }'
PASSIVE = '{ name: "passive" count: 2 kind: KIND_CPU passive: true }'


def _post(server: RunningServer, path: str) -> tuple[int, str]:
    request = urllib.request.Request(f"http://{server.http}/v2/repository/models/{path}", b"{}", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


@pytest.mark.parametrize("how", ["thread", "process"])
def test_they_are_made_and_get_no_requests(tmp_path: Path, how: str) -> None:
    folder = add_model(tmp_path, "m", CONFIG.format(groups=f"{PASSIVE}, {ACTIVE}"), {"model.py": MODEL})
    names = ["passive_0", "passive_1", "active_0"]
    flags = ("--model-control-mode=explicit", "--load-model=m", isolated(how))
    with run_server(tmp_path, *flags) as server:

        def ask(value: int) -> Any:
            with http_client.InferenceServerClient(server.http) as client:
                tensor = http_client.InferInput("IN", [1, 1], "INT32")
                tensor.set_data_from_numpy(np.array([[value]], np.int32))
                return client.infer("m", [tensor]).as_numpy("OUT").tolist()

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(ask, range(40))) == [[[value]] for value in range(40)]
        assert all((folder / f"made {name}").exists() for name in names)
        assert [path.name for path in folder.glob("executed *")] == ["executed active_0"]
        assert not list(folder.glob("closed *"))
        assert _post(server, "m/unload") == (200, "")
        assert sorted(path.name for path in folder.glob("closed *")) == sorted(f"closed {name}" for name in names)


def test_somebody_has_to_execute_requests(tmp_path: Path) -> None:
    add_model(tmp_path, "m", CONFIG.format(groups=PASSIVE), {"model.py": MODEL})
    with run_server(tmp_path, "--model-control-mode=explicit") as server:
        status, text = _post(server, "m/load")
    assert status == 500
    assert "must specify an instance group that is not passive for m: nobody would execute its requests" in text


def test_a_custom_batching_library_is_refused(tmp_path: Path) -> None:
    """Triton would load it, from the directory of the version or of the model."""
    places = {"of_version": "1/batchstrategy.so", "of_model": "batchstrategy.so"}
    for name, place in places.items():
        (add_model(tmp_path, name, CONFIG.format(groups=ACTIVE), {"model.py": MODEL}) / place).touch()
    with run_server(tmp_path, "--model-control-mode=explicit") as server:
        for name in places:
            status, text = _post(server, f"{name}/load")
            assert status == 400
            assert (
                f"model '{name}' has a custom batching strategy, the file 'batchstrategy.so', which this version can "
                "not"
            ) in text
