# SPDX-License-Identifier: Apache-2.0
"""What a model asks of the server beside inference: other models' loading, and metrics of its own on the page."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model, identity, isolated
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

Tell = Callable[..., Any]

KEEPER = '''
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Does what it is told, and answers with what came of it."""

    def initialize(self, args):
        self.family = pb_utils.MetricFamily("kept_total", "Requests that were kept", pb_utils.MetricFamily.COUNTER)
        self.metric = self.family.Metric(labels={"model": args["model_name"]})

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        what, *rest = json.loads(pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()[0])
        try:
            if what == "count":
                self.metric.increment(1)
                told = self.metric.value()
            elif what == "load_files":
                name, config, files = rest
                told = pb_utils.load_model(name, config, {path: text.encode() for path, text in files.items()})
            else:
                told = getattr(pb_utils, what)(*rest)
        except Exception as error:
            told = [type(error).__name__, str(error)]
        text = np.array([json.dumps(told).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)])
'''
HELPER = """
class TritonPythonModel:
    def execute(self, requests):
        return []
"""
CONFIG = identity("TYPE_STRING", "1", batch=0).replace('"identity"', '"python"').replace("dynamic_batching { }", "")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Path:
    directory = tmp_path_factory.mktemp("control")
    add_model(directory, "keeper", CONFIG, {"model.py": KEEPER})
    add_model(directory, "other", identity("TYPE_FP32", "-1"))
    add_model(directory, "broken", "backend: 7")
    return directory


@pytest.fixture(scope="module")
def keeping(repository: Path, isolation: str) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=keeper", isolated(isolation))
    with run_server(repository, *flags) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


@pytest.fixture(params=["http", "grpc"])
def tell(request: pytest.FixtureRequest, keeping: RunningServer) -> Iterator[Tell]:
    with telling(keeping, request.param) as call:
        yield call


@contextmanager
def telling(server: RunningServer, protocol: str) -> Iterator[Tell]:
    library: Any = http_client if protocol == "http" else grpc_client
    with library.InferenceServerClient(getattr(server, protocol)) as client:

        def call(*what: object) -> Any:
            tensor = library.InferInput("INPUT0", [1], "BYTES")
            tensor.set_data_from_numpy(np.array([json.dumps(what).encode()], np.object_))
            return json.loads(client.infer("keeper", [tensor]).as_numpy("OUTPUT0")[0])

        yield call


def page(server: RunningServer) -> list[str]:
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        return [line for line in answer.read().decode().splitlines() if "kept_total" in line]


def test_a_model_loads_and_unloads_others(tell: Tell) -> None:
    assert tell("is_model_ready", "other") is False
    assert tell("load_model", "other") is None
    assert tell("is_model_ready", "other") is True
    assert tell("is_model_ready", "other", "1") is True
    assert tell("is_model_ready", "other", "2") is False
    assert tell("unload_model", "other") is None
    assert tell("is_model_ready", "other") is False


def test_a_version_that_is_no_number_is_refused(tell: Tell) -> None:
    kind, text = tell("is_model_ready", "keeper", "abc")
    assert kind == "TritonModelException"
    assert "abc" in text


def test_with_a_configuration_of_its_own(tell: Tell) -> None:
    tensors = [{"name": "INPUT0", "data_type": "TYPE_INT32", "dims": [2]}]
    outputs = [{**tensors[0], "name": "OUTPUT0"}]
    config = {"backend": "identity", "max_batch_size": 4, "input": tensors, "output": outputs}
    assert tell("load_model", "other", json.dumps(config)) is None
    assert tell("is_model_ready", "other") is True
    assert tell("unload_model", "other") is None


def test_with_files_of_its_own(tell: Tell) -> None:
    tensor = {"data_type": "TYPE_FP32", "dims": [1]}
    config = {"backend": "python", "input": [{**tensor, "name": "INPUT0"}], "output": [{**tensor, "name": "OUTPUT0"}]}
    files = {"file:3/model.py": f"{'#' * 200_000}\nfrom helper import TritonPythonModel", "file:3/helper.py": HELPER}
    assert tell("load_files", "made", json.dumps(config), files) is None
    assert tell("is_model_ready", "made", "3") is True
    assert tell("unload_model", "made") is None
    kind, text = tell("load_files", "made", json.dumps(config), {"file:3/model.py": "no python"})
    assert kind == "TritonModelException"
    assert "SyntaxError" in text


def test_why_a_model_can_not_be_loaded(tell: Tell) -> None:
    kind, text = tell("load_model", "broken")
    assert kind == "TritonModelException"
    assert "config.pbtxt" in text
    assert "/" not in text.replace("broken/config.pbtxt", "")
    assert tell("load_model", "nobody")[0] == "TritonModelException"
    assert tell("is_model_ready", "nobody") is False
    assert tell("load_model", "../other")[0] == "TritonModelException"


def test_metrics_of_a_model_are_on_the_page_while_it_is_loaded(keeping: RunningServer) -> None:
    with telling(keeping, "grpc") as tell:
        tell("count")
        count = tell("count")
    assert page(keeping) == [
        "# HELP kept_total Requests that were kept",
        "# TYPE kept_total counter",
        f'kept_total{{model="keeper"}} {count:g}',
    ]
    with http_client.InferenceServerClient(keeping.http) as client:
        client.unload_model("keeper")
        eventually(lambda: page(keeping) == [], "the metric is still there")
        client.load_model("keeper")
    assert page(keeping)[2:] == ['kept_total{model="keeper"} 0']


def test_without_explicit_control_the_mode_is_the_reason(tmp_path: Path, isolation: str) -> None:
    add_model(tmp_path, "keeper", CONFIG, {"model.py": KEEPER})
    with run_server(tmp_path, isolated(isolation)) as running, telling(running, "http") as tell:
        assert tell("load_model", "keeper") == [
            "TritonModelException",
            (
                "Failed to load model: Failed to process the request for model 'keeper_0_0', message: "
                "explicit model load / unload is not allowed if polling is enabled"
            ),
        ]
        assert tell("is_model_ready", "keeper") is True
