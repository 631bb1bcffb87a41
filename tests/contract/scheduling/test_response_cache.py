# SPDX-License-Identifier: Apache-2.0
"""The response cache over both protocols: what is answered from it, what is not, and what is counted."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server

MODEL = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with the sum of the input, and how often it was executed."""

    def initialize(self, args):
        self.executed = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            self.executed += 1
            value = request.inputs()[0].as_numpy()
            if (value < 0).any():
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("negative")))
                continue
            tensors = [
                pb_utils.Tensor("SUM", value.sum(axis=1, keepdims=True).astype(np.int32)),
                pb_utils.Tensor("TIMES", np.full((len(value), 1), self.executed, np.int32)),
            ]
            value[:] = 99  # its own to write to
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
'''
CONFIG = """
backend: "python" max_batch_size: 4
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }} ]
output [ {{ name: "SUM" data_type: TYPE_INT32 dims: [ 1 ] }}, {{ name: "TIMES" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{more}
"""
CACHED = "response_cache { enable: true }"
ENSEMBLE = """
platform: "ensemble" max_batch_size: 4
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }} ]
output [ {{ name: "SUM" data_type: TYPE_INT32 dims: [ 1 ] }}, {{ name: "TIMES" data_type: TYPE_INT32 dims: [ 1 ] }} ]
{more}
ensemble_scheduling {{
  step [
    {{
      model_name: "{first}" model_version: -1
      input_map {{ key: "IN" value: "IN" }} output_map {{ key: "SUM" value: "between" }}
    }},
    {{
      model_name: "free" model_version: -1
      input_map {{ key: "IN" value: "between" }}
      output_map {{ key: "SUM" value: "SUM" }} output_map {{ key: "TIMES" value: "TIMES" }}
    }}
  ]
}}
"""
FAMILY = re.compile(r'^(nv_cache_\w+)\{model="(\w+)",version="1"\} (\d+)', re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("cache")
    for protocol in ("http", "grpc"):
        add_model(repository, f"cached_{protocol}", CONFIG.format(more=CACHED), {"model.py": MODEL})
    add_model(repository, "batched", CONFIG.format(more=f"{CACHED} dynamic_batching {{ }}"), {"model.py": MODEL})
    add_model(repository, "free", CONFIG.format(more=""), {"model.py": MODEL})
    add_model(repository, "of_cached", ENSEMBLE.format(more="", first="batched"))
    add_model(repository, "cached_whole", ENSEMBLE.format(more=CACHED, first="free"))
    refused = "sequence_batching { }", "model_transaction_policy { decoupled: true }"
    for index, more in enumerate(refused):
        add_model(repository, f"refused{index}", CONFIG.format(more=f"{CACHED} {more}"), {"model.py": MODEL})
    with run_server(repository, "--exit-on-error=false", "--cache-config=local,size=1000000") as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    module: Any = http_client if request.param == "http" else grpc_client
    made = module.InferenceServerClient(getattr(server, request.param))
    made.module = module
    made.cached = f"cached_{request.param}"
    yield made
    made.close()


def ask(client: Any, model: str, values: list[list[int]], outputs: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    array = np.array(values, np.int32)
    tensor = client.module.InferInput("IN", list(array.shape), "INT32")
    tensor.set_data_from_numpy(array)
    wanted = [client.module.InferRequestedOutput(name) for name in outputs] or None
    result = client.infer(model, [tensor], outputs=wanted, **more)
    named = {name: result.as_numpy(name) for name in ("SUM", "TIMES")}
    return {name: array.ravel().tolist() for name, array in named.items() if array is not None}


def test_the_same_request_is_executed_once(client: Any, server: RunningServer) -> None:
    model = client.cached
    first = ask(client, model, [[1, 2]])
    assert first == {"SUM": [3], "TIMES": [1]}
    assert ask(client, model, [[1, 2]], request_id="another") == first
    assert ask(client, model, [[2, 1]]) == {"SUM": [3], "TIMES": [2]}
    # equal bytes in another shape, other outputs and other parameters are other requests
    assert ask(client, model, [[1], [2]]) == {"SUM": [1, 2], "TIMES": [3, 3]}
    assert ask(client, model, [[1, 2]], ("SUM",)) == {"SUM": [3]}
    assert ask(client, model, [[1, 2]], ("TIMES",)) == {"TIMES": [5]}
    assert ask(client, model, [[1, 2]], ("SUM",)) == {"SUM": [3]}
    assert ask(client, model, [[1, 2]], parameters={"key": "value"}) == {"SUM": [3], "TIMES": [6]}
    for _ in range(2):
        with pytest.raises(InferenceServerException, match="negative"):
            ask(client, model, [[-1]])
    statistics = client.get_inference_statistics(model)
    if client.module is grpc_client:
        statistics = client.get_inference_statistics(model, as_json=True)
    stats = statistics["model_stats"][0]
    counts = {
        name: int(stats["inference_stats"][name].get("count", 0)) for name in ("success", "cache_hit", "cache_miss")
    }
    assert counts == {"success": 8, "cache_hit": 2, "cache_miss": 8}
    assert int(stats["inference_stats"]["queue"]["count"]) == 8
    assert int(stats["inference_stats"]["compute_infer"]["count"]) == 6
    assert int(stats["inference_count"]) == 7  # rows
    assert int(stats["execution_count"]) == 8
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as answer:
        page = answer.read().decode()
    shown = {family: int(value) for family, of, value in FAMILY.findall(page) if of == model}
    assert shown["nv_cache_num_hits_per_model"] == 2
    assert shown["nv_cache_num_misses_per_model"] == 8
    assert {"nv_cache_hit_duration_per_model", "nv_cache_miss_duration_per_model"} <= set(shown)
    assert not [of for _, of, _ in FAMILY.findall(page) if of == "free"]


def test_with_dynamic_batching(client: Any) -> None:
    value = 5 if client.module is http_client else 6
    first = ask(client, "batched", [[value, value]])
    assert ask(client, "batched", [[value, value]]) == first


def test_in_an_ensemble(client: Any) -> None:
    """The second model writes to what it is given, and what was kept stays as it was."""
    value = 7 if client.module is http_client else 8
    answers = [ask(client, "of_cached", [[value, value]]) for _ in range(3)]
    assert [answer["SUM"] for answer in answers] == [[2 * value]] * 3
    times = [answer["TIMES"][0] for answer in answers]
    assert times == list(range(times[0], times[0] + 3))  # only the first step is cached
    first = ask(client, "cached_whole", [[value, value]])
    assert ask(client, "cached_whole", [[value, value]]) == first


def test_models_that_do_not_ask_for_it(client: Any) -> None:
    first, second = (ask(client, "free", [[1]])["TIMES"][0] for _ in range(2))
    assert second == first + 1


def test_models_that_can_not_have_it(client: Any) -> None:
    index = client.get_model_repository_index() if client.module is http_client else None
    if index is None:
        index = client.get_model_repository_index(as_json=True)["models"]
    reasons = {entry["name"]: entry.get("reason", "") for entry in index}
    assert (
        "Response Cache does not currently support model refused0 with sequence batching scheduler."
        in reasons["refused0"]
    )
    assert "support model refused1 with 'decoupled' transaction policy." in reasons["refused1"]


def test_without_a_cache_the_models_serve_all_the_same(tmp_path: Path) -> None:
    add_model(tmp_path, "cached", CONFIG.format(more=CACHED), {"model.py": MODEL})
    with run_server(tmp_path) as running, grpc_client.InferenceServerClient(running.grpc) as client:
        client.module = grpc_client
        assert [ask(client, "cached", [[1]])["TIMES"] for _ in range(2)] == [[1], [2]]
        with urllib.request.urlopen(f"http://{running.metrics}/metrics", timeout=60) as answer:
            assert "nv_cache" not in answer.read().decode()
