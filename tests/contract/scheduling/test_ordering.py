# SPDX-License-Identifier: Apache-2.0
"""``preserve_ordering`` over both protocols: a quick answer waits for a slow one that was asked for before it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

MODEL = '''
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Notes each request by a file of its number; number 0 waits for the file "open"."""

    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        [request] = requests
        value = request.inputs()[0].as_numpy()
        (self.folder / f"began{value[0, 0]}").touch()
        while value[0, 0] == 0 and not (self.folder / "open").exists():
            time.sleep(0.005)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", value)])]
'''
CONFIG = """
backend: "python" max_batch_size: 1
input [ {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
dynamic_batching {{ preserve_ordering: {ordered} }}
"""


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, RunningServer]]:
    for name, ordered in (("ordered", "true"), ("free", "false")):
        add_model(tmp_path, name, CONFIG.format(ordered=ordered), {"model.py": MODEL})
    with run_server(tmp_path) as running:
        yield tmp_path, running


def infer(address: str, module: Any, model: str, value: int) -> int:
    with module.InferenceServerClient(address) as client:
        tensor = module.InferInput("INPUT0", [1, 1], "INT32")
        tensor.set_data_from_numpy(np.array([[value]], np.int32))
        return int(client.infer(model, [tensor]).as_numpy("OUTPUT0")[0, 0])


def test_answers_leave_in_the_order_of_requests(served: tuple[Path, RunningServer], protocol: str) -> None:
    repository, server = served
    module: Any = http_client if protocol == "http" else grpc_client
    address = getattr(server, protocol)
    with ThreadPoolExecutor(4) as pool:
        for model, ordered in (("free", False), ("ordered", True)):
            slow: Future[int] = pool.submit(infer, address, module, model, 0)
            eventually((repository / model / "began0").exists, "began0 never came")
            quick: Future[int] = pool.submit(infer, address, module, model, 1)
            eventually((repository / model / "began1").exists, "began1 never came")
            if not ordered:
                assert quick.result(timeout=60) == 1
            assert not slow.done()
            # the same instance has answered one more: had the first been let go, it would have been long ago
            if ordered:
                third: Future[int] = pool.submit(infer, address, module, model, 2)
                eventually((repository / model / "began2").exists, "began2 never came")
                assert not quick.done()
            (repository / model / "open").touch()
            assert (slow.result(timeout=60), quick.result(timeout=60)) == (0, 1)
            if ordered:
                assert third.result(timeout=60) == 2
