# SPDX-License-Identifier: Apache-2.0
"""Triton's words, exactly, for everything that the scheduler refuses, with the status of each protocol.

Those that no request provokes (a stop, a load) are elsewhere; docs/scheduling-rules.md lists all.
"""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
import tritonclient.grpc as grpc_client

from contract.conftest import GATE, add_model
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

CONFIG = """
backend: "python" max_batch_size: 1
input [ {{ name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
output [ {{ name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
{batcher}
"""
DIRECT = """
sequence_batching {{
  max_sequence_idle_microseconds: 60000000 {strategy}
  control_input [ {{ name: "ID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{datatype} }} ] }} ]
}}
"""
ENSEMBLE = """
platform: "ensemble" max_batch_size: 1
input [ { name: "INPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_INT32 dims: [ 1 ] } ]
ensemble_scheduling { step [ {
  model_name: "full" model_version: -1
  input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }
} ] }
"""
MODELS = {
    "full": CONFIG.format(batcher="dynamic_batching { default_queue_policy { max_queue_size: 1 } }"),
    "late": CONFIG.format(
        batcher="dynamic_batching { default_queue_policy { default_timeout_microseconds: 60000000 "
        "allow_timeout_override: true } }"
    ),
    "numbers": CONFIG.format(batcher=DIRECT.format(strategy="direct { }", datatype="UINT64")),
    "texts": CONFIG.format(batcher=DIRECT.format(strategy="oldest { }", datatype="STRING")).replace(
        "max_batch_size: 1", "max_batch_size: 4"
    ),
}
GATED = ("full", "late", "numbers")


class Case(NamedTuple):
    """A request (to a model that is busy, whose queue or slots are taken) and the answer to it."""

    model: str
    parameters: dict[str, Any]
    rows: int
    status: int
    code: str
    text: str


CASES = {
    "a full queue": Case(
        "full", {}, 1, 503, "UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size"
    ),
    "a full queue of a step": Case(
        "step", {}, 1, 503, "UNAVAILABLE",
        "in ensemble 'step', [request id: <id_unknown>] Exceeds maximum queue size",
    ),
    "time in the queue": Case("late", {"timeout": 1000}, 1, 503, "UNAVAILABLE", "Request timeout expired"),
    "time in the backlog": Case(
        "numbers", {"sequence_id": 2, "sequence_start": True, "timeout": 1000}, 1, 503, "UNAVAILABLE",
        "timeout of the corresponding sequence has been expired",
    ),
    "no start": Case(
        "numbers", {"sequence_id": 9}, 1, 400, "INVALID_ARGUMENT",
        "inference request for sequence 9 to model 'numbers' must specify the START flag on the first request of the "
        "sequence",
    ),
    "no start of a text": Case(
        "texts", {"sequence_id": "nine"}, 1, 400, "INVALID_ARGUMENT",
        "inference request for sequence nine to model 'texts' must specify the START flag on the first request of the "
        "sequence",
    ),
    "no id": Case(
        "numbers", {"sequence_start": True}, 1, 400, "INVALID_ARGUMENT",
        "inference request to model 'numbers' must specify a non-zero or non-empty correlation ID",
    ),
    "a batch": Case(
        "texts", {"sequence_id": "nine", "sequence_start": True}, 2, 400, "INVALID_ARGUMENT",
        "inference request to model 'texts' must specify batch-size 1 due to requirements of sequence batcher",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Whose models ``GATED`` execute one request each until the end; one more waits for ``full``."""
    repository: Path = tmp_path_factory.mktemp("texts")
    for name, config in MODELS.items():
        add_model(repository, name, config, {"model.py": GATE})
    add_model(repository, "step", ENSEMBLE)
    with run_server(repository) as running, ThreadPoolExecutor(4) as pool:
        busy = []
        for name in GATED:
            busy.append(pool.submit(over_http, running, name, {"sequence_id": 1, "sequence_start": True}, 1))
            eventually((repository / name / "began").exists, f"{name} is busy")
        busy.append(pool.submit(over_http, running, "full", {}, 1))
        eventually(lambda: counter(running, "nv_inference_pending_request_count", "full") == 1, "one waits")
        yield running
        for name in MODELS:
            (repository / name / "open").touch()
        assert [call.result(60)[0] for call in busy] == [200] * 4


def over_http(server: RunningServer, model: str, parameters: dict[str, Any], rows: int) -> tuple[int, str]:
    """Status and error text."""
    tensor = {"name": "INPUT0", "datatype": "INT32", "shape": [rows, 1], "data": [1] * rows}
    body = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    try:
        with urllib.request.urlopen(f"http://{server.http}/v2/models/{model}/infer", body, timeout=60) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())["error"]


def over_grpc(server: RunningServer, model: str, parameters: dict[str, Any], rows: int) -> tuple[str, str]:
    message = grpc_client.service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="INPUT0", datatype="INT32", shape=[rows, 1])
    message.raw_input_contents.append(struct.pack(f"<{rows}i", *[1] * rows))
    for key, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", str: "string_param"}[type(value)]
        setattr(message.parameters[key], kind, value)
    with grpc.insecure_channel(server.grpc) as channel:
        stub = grpc_client.service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as raised:
            stub.ModelInfer(message, timeout=60)
    return raised.value.code().name, raised.value.details()


@pytest.mark.parametrize("what", CASES)
@pytest.mark.parametrize("send", [over_http, over_grpc])
def test_text(server: RunningServer, send: Callable[..., tuple[Any, str]], what: str) -> None:
    case = CASES[what]
    status = case.status if send is over_http else case.code
    assert send(server, case.model, case.parameters, case.rows) == (status, case.text)
