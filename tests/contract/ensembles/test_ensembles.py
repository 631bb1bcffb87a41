# SPDX-License-Identifier: Apache-2.0
"""Ensembles of Python and ONNX models over both protocols: what clients get, and what operators see."""

from __future__ import annotations

import http.client
import json
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

PYTHON = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        return [self.answer(r) for r in requests]

    def answer(self, request):
        x = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        {body}
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x)])
"""
#: adds one where the bytes are, as models may; 13 is refused
INCREMENT = """
        if (x == 13).any():
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("unlucky"))
        x += 1
"""
GATE = """
        (self.folder / "began").touch()
        while not (self.folder / "open").exists() and not request.is_cancelled():
            time.sleep(0.005)
        (self.folder / "ended").touch()
"""
REPEAT = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            sender = request.get_response_sender()
            for i in range(int(x.ravel()[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x * 0 + i)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""


def tensors(inputs: str, outputs: str, dims: str = "-1") -> str:
    return "".join(
        f'{kind} [ {{ name: "{name}" data_type: TYPE_FP32 dims: [ {dims} ] }} ] '
        for kind, names in (("input", inputs), ("output", outputs))
        for name in names.split()
    )


def part(backend: str, more: str = "dynamic_batching { }") -> str:
    group = "instance_group [ { count: 1 kind: KIND_CPU } ]"
    return f'backend: "{backend}" max_batch_size: 8 {tensors("IN", "OUT")} {group} {more}'


def step(model: str, source: str, target: str) -> str:
    maps = f'input_map {{ key: "IN" value: "{source}" }} output_map {{ key: "OUT" value: "{target}" }}'
    return f'step [ {{ model_name: "{model}" model_version: -1 {maps} }} ] '


def ensemble(inputs: str, outputs: str, *steps: str) -> str:
    return (
        f'platform: "ensemble" max_batch_size: 8 {tensors(inputs, outputs)} ensemble_scheduling {{ {"".join(steps)} }}'
    )


def add_onnx(repository: Path) -> None:
    """``double``: twice the input."""
    add_model(repository, "double", part("onnxruntime", ""))
    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "width"]) for name in ("IN", "OUT")]
    graph = helper.make_graph([helper.make_node("Add", ["IN", "IN"], ["OUT"])], "double", shapes[:1], shapes[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(repository / "double" / "1" / "model.onnx"))


def add_models(repository: Path) -> None:
    add_model(repository, "increment", part("python"), {"model.py": PYTHON.replace("{body}", INCREMENT.strip())})
    add_model(repository, "gate", part("python"), {"model.py": PYTHON.replace("{body}", GATE.strip())})
    decoupled = "model_transaction_policy { decoupled: true }"
    add_model(repository, "repeat", part("python", decoupled), {"model.py": REPEAT})
    add_onnx(repository)
    chain = (step("increment", "X", "t"), step("double", "t", "Y"))
    add_model(repository, "chain", ensemble("X", "Y", *chain))
    add_model(
        repository,
        "fork",
        ensemble("X", "A B C", *(step("increment", "X", name) for name in "AB"), step("double", "X", "C")),
    )
    add_model(repository, "waits", ensemble("X", "Y", step("gate", "X", "t"), step("double", "t", "Y")))
    add_model(repository, "stream", ensemble("X", "Y", step("repeat", "X", "t"), step("double", "t", "Y")))
    nested = chain[0].replace("increment", "chain").replace('"IN"', '"X"').replace('"OUT"', '"Y"')
    add_model(repository, "nested", ensemble("X", "Y", nested, chain[1]))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensembles")
    add_models(folder)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with run_server(repository, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running
        assert running.process.poll() is None, running.log


@pytest.fixture(params=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    return http_client if request.param == "http" else grpc_client


def infer(server: RunningServer, module: Any, model: str, values: Any, outputs: Any = None, **options: Any) -> Any:
    array = np.array(values, np.float32)
    given = module.InferInput("X", array.shape, "FP32")
    given.set_data_from_numpy(array)
    client = module.InferenceServerClient(server.http if module is http_client else server.grpc)
    wanted = outputs and [module.InferRequestedOutput(name) for name in outputs]
    try:
        return client.infer(model, [given], outputs=wanted, **options)
    finally:
        client.close()


def ask(server: RunningServer, verb: str, path: str, body: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection(server.http, timeout=60)
    try:
        connection.request(verb, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if text else None
    finally:
        connection.close()


def test_tensors_go_from_step_to_step(server: RunningServer, module: Any) -> None:
    assert infer(server, module, "chain", [[1, 2], [3, 4]]).as_numpy("Y").tolist() == [[4, 6], [8, 10]]
    assert infer(server, module, "nested", [[1]]).as_numpy("Y").tolist() == [[8]]


def test_a_step_that_writes_to_its_input_changes_no_other(server: RunningServer, module: Any) -> None:
    for outputs in (None, ["C", "A"]):
        result = infer(server, module, "fork", [[1, 5]], outputs)
        expected = {"A": [[2, 6]], "B": [[2, 6]], "C": [[2, 10]]}
        for name in outputs or "ABC":
            assert result.as_numpy(name).tolist() == expected[name]
    assert result.as_numpy("B") is None


def test_answers_name_the_sequence(server: RunningServer) -> None:
    parameters = (
        infer(server, grpc_client, "chain", [[1]], sequence_id=7, sequence_start=True).get_response().parameters
    )
    assert parameters["sequence_id"].int64_param == 7
    assert parameters["sequence_start"].bool_param
    assert not parameters["sequence_end"].bool_param


def test_classes_of_what_a_step_made(server: RunningServer) -> None:
    inputs = [{"name": "X", "datatype": "FP32", "shape": [1, 3], "data": [1, 7, 3]}]
    outputs = [{"name": "Y", "parameters": {"classification": 1}}]
    status, answer = ask(server, "POST", "/v2/models/chain/infer", {"inputs": inputs, "outputs": outputs})
    assert (status, answer["outputs"][0]["data"]) == (200, ["16.000000:1"])


def test_the_failure_of_a_step_names_the_ensemble(server: RunningServer, module: Any) -> None:
    with pytest.raises(InferenceServerException) as raised:
        infer(server, module, "chain", [[13]])
    assert raised.value.message() == "in ensemble 'chain', unlucky"
    assert infer(server, module, "chain", [[1]]).as_numpy("Y").tolist() == [[4]]


def test_counts(server: RunningServer) -> None:
    before = counter(server, "nv_inference_request_success", model="chain")
    failed = counter(server, "nv_inference_request_failure", model="chain", reason="OTHER")
    infer(server, http_client, "chain", [[1], [2]])
    with pytest.raises(InferenceServerException):
        infer(server, http_client, "chain", [[13]])
    assert counter(server, "nv_inference_request_success", model="chain") == before + 1
    assert counter(server, "nv_inference_request_failure", model="chain", reason="OTHER") == failed + 1
    _, answer = ask(server, "GET", "/v2/models/chain/stats")
    stats = answer["model_stats"][0]
    assert stats["execution_count"] == stats["inference_stats"]["success"]["count"] == before + 1
    assert 2 in [batch["batch_size"] for batch in stats["batch_stats"]]
    assert stats["inference_stats"]["compute_infer"]["ns"] > 0


def test_metadata_and_configuration(server: RunningServer) -> None:
    _, metadata = ask(server, "GET", "/v2/models/stream")
    assert metadata["platform"] == "ensemble"
    _, config = ask(server, "GET", "/v2/models/stream/config")
    assert config["model_transaction_policy"] == {"decoupled": True}
    _, config = ask(server, "GET", "/v2/models/chain/config")
    assert config["model_transaction_policy"] == {"decoupled": False}
    assert config["instance_group"] == []


def test_each_response_of_a_decoupled_step_is_one(server: RunningServer) -> None:
    with grpc_client.InferenceServerClient(server.grpc) as client:
        results: queue.Queue[tuple[Any, Any]] = queue.Queue()
        client.start_stream(lambda result, error: results.put((result, error)))
        given = grpc_client.InferInput("X", [1, 1], "FP32")
        given.set_data_from_numpy(np.array([[3]], np.float32))
        client.async_stream_infer("stream", [given], enable_empty_final_response=True)
        got = [results.get(timeout=60) for _ in range(4)]
    assert [error for _, error in got] == [None] * 4
    assert [result.as_numpy("Y").tolist() for result, _ in got[:3]] == [[[0]], [[2]], [[4]]]
    finals = [result.get_response().parameters["triton_final_response"].bool_param for result, _ in got]
    assert finals == [False, False, False, True]
    assert not got[3][0].get_response().outputs


def test_a_decoupled_ensemble_needs_a_stream(server: RunningServer) -> None:
    inputs = [{"name": "X", "datatype": "FP32", "shape": [1, 1], "data": [3]}]
    status, answer = ask(server, "POST", "/v2/models/stream/infer", {"inputs": inputs})
    assert (status, answer["error"]) == (501, "HTTP end point doesn't support models with decoupled transaction policy")


def test_cancellation_reaches_the_step(server: RunningServer, repository: Path) -> None:
    folder = repository / "gate"
    for name in ("began", "ended", "open"):
        (folder / name).unlink(missing_ok=True)
    cancelled = counter(server, "nv_inference_request_failure", model="waits", reason="CANCELED")
    with grpc_client.InferenceServerClient(server.grpc) as client:
        given = grpc_client.InferInput("X", [1, 1], "FP32")
        given.set_data_from_numpy(np.ones((1, 1), np.float32))
        call = client.async_infer("waits", [given], lambda result, error: None)
        eventually((folder / "began").exists, "the step began")
        call.cancel()
        eventually((folder / "ended").exists, "the step saw the cancellation")

    def counted() -> bool:
        return counter(server, "nv_inference_request_failure", model="waits", reason="CANCELED") == cancelled + 1

    eventually(counted, "the cancellation was counted")


def test_an_ensemble_goes_and_comes_with_its_steps(repository: Path) -> None:
    with run_server(repository, "--model-control-mode=explicit", "--load-model=chain") as server:

        def ready(name: str) -> bool:
            return ask(server, "GET", f"/v2/models/{name}/ready")[0] == 200

        assert all(map(ready, ("chain", "increment", "double")))
        assert ask(server, "POST", "/v2/repository/models/double/unload", {})[0] == 200
        assert not ready("chain")
        assert ready("increment")
        status, answer = ask(server, "POST", "/v2/models/chain/infer", {"inputs": []})
        assert (status, answer["error"]) == (404, "Request for unknown model: 'chain' has no available versions")
        assert ask(server, "POST", "/v2/repository/models/double/load", {})[0] == 200
        assert ready("chain")
        assert infer(server, http_client, "chain", [[1]]).as_numpy("Y").tolist() == [[4]]
        parameters = {"parameters": {"unload_dependents": True}}
        assert ask(server, "POST", "/v2/repository/models/chain/unload", parameters)[0] == 200
        assert not any(map(ready, ("chain", "increment")))


def test_no_request_fails_while_a_step_is_loaded_again(repository: Path) -> None:
    with run_server(repository, "--model-control-mode=explicit", "--load-model=nested") as server:
        config = ask(server, "GET", "/v2/models/double/config")[1]
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(infer, server, grpc_client, "nested", [[i % 7]]) for i in range(200)]
            for i in range(4):
                config["parameters"] = {"round": {"string_value": str(i)}}
                body = {"parameters": {"config": json.dumps(config)}}
                assert ask(server, "POST", "/v2/repository/models/double/load", body) == (200, None)
            for i, call in enumerate(calls):
                assert call.result(60).as_numpy("Y").tolist() == [[4 * (i % 7 + 1)]]


BAD = {
    "a model that is not there": (
        ensemble("X", "Y", step("gone", "X", "Y")),
        "ensemble bad contains models that are not available or ambiguous: gone",
    ),
    "larger batches than a step takes": (
        ensemble("X", "Y", step("double", "X", "Y")).replace("max_batch_size: 8", "max_batch_size: 16"),
        (
            "ensemble bad allows maximum batch size 16, but it contains model double which only allows maximum batch "
            "size to be 8"
        ),
    ),
    "a tensor that the model lacks": (
        ensemble("X", "Y", step("double", "X", "Y").replace('"IN"', '"NOPE"')),
        "in ensemble bad, ensemble tensor X is mapping to non-existing input NOPE in model double",
    ),
    "two decoupled models": (
        ensemble("X", "Y Z", step("repeat", "X", "Y"), step("repeat", "X", "Z")),
        "in ensemble bad, step of model 'bad' receives inputs originated from different decoupled models",
    ),
    "itself": (
        ensemble("X", "Y", step("bad", "X", "Y")),
        "circular dependency between ensembles: bad -> ... -> bad -> bad",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_graph_is_not_loaded(server: RunningServer, repository: Path, what: str) -> None:
    config, text = BAD[what]
    folder = repository / "bad"
    if not folder.exists():
        add_model(repository, "bad", "")
    (folder / "config.pbtxt").write_text(config)
    status, answer = ask(server, "POST", "/v2/repository/models/bad/load", {})
    assert (status, answer["error"]) == (400, f"load failed for model 'bad': {text}\n")
    assert infer(server, http_client, "chain", [[1]]).as_numpy("Y").tolist() == [[4]]
