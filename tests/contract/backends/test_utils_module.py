# SPDX-License-Identifier: Apache-2.0
"""``triton_python_backend_utils`` in a model that is served, as a thread and as a process, over both protocols.

What needs no server is tested in ``unit/backends``; calls, control and metrics in ``contract/calls``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity, isolated
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

CLIENTS: dict[str, Any] = {"http": http_client, "grpc": grpc_client}
EXPLICIT = "--model-control-mode=explicit"
Ask = Callable[..., Any]

#: answers with JSON of what the function that INPUT0 names finds
PROBE = '''
import asyncio
import json
import threading

import numpy as np
import triton_python_backend_utils as pb_utils

NUMBERS = np.arange(6, dtype=np.float32).reshape(2, 3)


def call(model, count=1, **more):
    array = np.array([count], np.int32)
    names = more.pop("outputs", ["OUTPUT0"])
    inputs = [pb_utils.Tensor("INPUT0", array)]
    return pb_utils.InferenceRequest(model_name=model, requested_output_names=names, inputs=inputs, **more)


def values(responses):
    return [int(r.output_tensors()[0].as_numpy()[0]) for r in responses if r.output_tensors()]


class TritonPythonModel:
    def initialize(self, args):
        self.args = args

    async def execute(self, requests):
        responses = []
        for request in requests:
            name = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()[0].decode()
            found = getattr(self, name)(request)
            found = await found if asyncio.iscoroutine(found) else found
            if not isinstance(found, pb_utils.InferenceResponse):
                text = np.array([json.dumps(found).encode()], np.object_)
                found = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)])
            responses.append(found)
        return responses

    def arguments(self, request):
        config = json.loads(self.args["model_config"])
        return {**self.args, "model_config": config["name"], "directory": pb_utils.get_model_dir()}

    def request(self, request):
        return {
            "id": request.request_id(),
            "correlation_id": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "parameters": json.loads(request.parameters()),
            "outputs": sorted(request.requested_output_names()),
            "inputs": [tensor.name() for tensor in request.inputs()],
            "cancelled": request.is_cancelled(),
            "context": request.trace().get_context(),
        }

    def tensors(self, request):
        given = request.inputs()[0]
        made = pb_utils.Tensor("A", NUMBERS)
        lent = pb_utils.Tensor.from_dlpack("B", made.to_dlpack())
        again = np.from_dlpack(lent)
        return {
            "given": [given.name(), given.shape(), given.triton_dtype(), given.is_cpu()],
            "lent": [lent.name(), lent.shape(), lent.triton_dtype(), lent.is_cpu(), list(lent.__dlpack_device__())],
            "same": bool((again == NUMBERS).all()) and again.dtype == np.float32,
        }

    def error(self, request):
        code = json.loads(request.parameters())["code"]
        return pb_utils.InferenceResponse(error=pb_utils.TritonError("on purpose", getattr(pb_utils.TritonError, code)))

    def parameters(self, request):
        text = np.array([b"{}"], np.object_)
        parameters = {"text": "t", "whole": -7, "yes": True, "no": False, "part": 0.25}
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)], parameters=parameters)

    def log(self, request):
        logger = pb_utils.Logger
        logger.log("plain line of the probe")
        logger.log("level line of the probe", logger.WARNING)
        logger.log_info("info line of the probe")
        logger.log_warn("warning line of the probe")
        logger.log_error("error line of the probe")

    def senders(self, request):
        """What senders of the default mode refuse; the request is answered by its sender at the end."""
        told = []
        sender = request.get_response_sender()
        response = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([b"x"], np.object_))])
        for what in ((), (None, 0), (response, 7), (None, 1)):
            try:
                sender.send(*what)
            except Exception as error:
                told.append(f"{type(error).__name__}: {error}")
        return told

    def calls_a_decoupled_model(self, request):
        memory = pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU, 0)
        return values(call("counts", 4, preferred_memory=memory, model_version=1).exec(decoupled=True))

    async def awaits_a_decoupled_model(self, request):
        found = await asyncio.gather(*[call("counts", n).async_exec(decoupled=True) for n in (2, 3)])
        return [values(iterator) for iterator in found]

    def cancels_a_decoupled_model(self, request):
        iterator = call("counts", 1_000_000).exec(decoupled=True)
        first = values([next(iterator)])
        iterator.cancel()
        return [first, sum(1 for _ in iterator) < 1_000_000]

    def calls_with_all(self, request):
        response = call(
            "shows", request_id="mine", correlation_id=9, timeout=60_000_000, flags=1,
            parameters={"text": "t", "whole": 3, "yes": True},
        ).exec()
        if response.has_error():
            return response.error().message()
        return [json.loads(response.output_tensors()[0].as_numpy()[0]), json.loads(response.parameters())]

    def calls_for_an_output_that_is_not_there(self, request):
        error = call("shows", outputs=["NOTHING"]).exec().error()
        return [error.message(), int(error.code())]
'''
COUNTS = """
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for number in range(int(request.inputs()[0].as_numpy()[0])):
                if sender.is_cancelled():
                    break
                tensor = pb_utils.Tensor("OUTPUT0", np.array([number], np.int32))
                sender.send(pb_utils.InferenceResponse([tensor]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
SHOWS = """
import json

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.show(request) for request in requests]

    def show(self, r):
        shown = [r.request_id(), r.correlation_id(), r.timeout(), r.flags(), json.loads(r.parameters())]
        text = np.array([json.dumps(shown).encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", text)], parameters={"of": "shows"})
"""
BF16 = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor.from_dlpack("OUTPUT0", r.inputs()[0].to_dlpack())])
            for r in requests
        ]
"""


def config(given: str, made: str, *more: str) -> str:
    text = identity("TYPE_FP32", "-1", batch=0).replace('"identity"', '"python"').replace("dynamic_batching { }", "")
    return " ".join([text.replace("TYPE_FP32", given, 1).replace("TYPE_FP32", made), *more])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Path:
    directory = tmp_path_factory.mktemp(f"utils-{isolation}")
    add_model(directory, "probe", config("TYPE_STRING", "TYPE_STRING"), {"model.py": PROBE})
    decoupled = "model_transaction_policy { decoupled: true }"
    add_model(directory, "counts", config("TYPE_INT32", "TYPE_INT32", decoupled), {"model.py": COUNTS})
    add_model(directory, "shows", config("TYPE_INT32", "TYPE_STRING"), {"model.py": SHOWS})
    add_model(directory, "bf16", config("TYPE_BF16", "TYPE_BF16"), {"model.py": BF16})
    return directory


@pytest.fixture(scope="module")
def server(repository: Path, isolation: str) -> Iterator[RunningServer]:
    with run_server(repository, EXPLICIT, "--load-model=*", isolated(isolation)) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


@pytest.fixture(params=CLIENTS)
def protocol(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def client(server: RunningServer, protocol: str) -> Iterator[Any]:
    with CLIENTS[protocol].InferenceServerClient(getattr(server, protocol)) as made:
        yield made


@pytest.fixture
def probe(client: Any, protocol: str) -> Ask:
    """Asks the probe for something; the JSON of what it found."""

    def ask(what: str, **options: Any) -> Any:
        tensor = CLIENTS[protocol].InferInput("INPUT0", [1], "BYTES")
        tensor.set_data_from_numpy(np.array([what.encode()], np.object_))
        return json.loads(client.infer("probe", [tensor], **options).as_numpy("OUTPUT0")[0])

    return ask


def test_arguments_of_initialize(probe: Ask, repository: Path) -> None:
    assert probe("arguments") == {
        "model_config": "probe",
        "model_instance_kind": "CPU",
        "model_instance_name": "probe_0_0",
        "model_instance_device_id": "0",
        "model_repository": str(repository / "probe"),
        "model_version": "1",
        "model_name": "probe",
        "directory": str(repository / "probe" / "1"),
    }


@pytest.mark.parametrize("sequence", [7, "a name"])
def test_a_request_shows_what_came(probe: Ask, protocol: str, sequence: int | str) -> None:
    found = probe(
        "request",
        request_id="an id",
        sequence_id=sequence,
        sequence_start=True,
        timeout=60_000_000,
        parameters={"k": "v"},
        outputs=[CLIENTS[protocol].InferRequestedOutput("OUTPUT0")],
    )
    assert found == {
        "id": "an id",
        "correlation_id": sequence,
        "flags": 1,
        "timeout": 60_000_000,
        "parameters": {"k": "v"},
        "outputs": ["OUTPUT0"],
        "inputs": ["INPUT0"],
        "cancelled": False,
        "context": None,
    }


def test_tensors(probe: Ask) -> None:
    assert probe("tensors") == {
        "given": ["INPUT0", [1], 13, True],
        "lent": ["B", [2, 3], 11, True, [1, 0]],
        "same": True,
    }


def test_bf16_by_dlpack(client: Any, protocol: str) -> None:
    tensor = CLIENTS[protocol].InferInput("INPUT0", [3], "BF16")
    tensor.set_data_from_numpy(np.array([1, -2, 0.5], pytest.importorskip("ml_dtypes").bfloat16))
    assert client.infer("bf16", [tensor]).as_numpy("OUTPUT0").tolist() == [1, -2, 0.5]


@pytest.mark.parametrize(
    ("code", "http", "grpc"),
    [
        ("UNKNOWN", "400", "UNKNOWN"),
        ("INTERNAL", "500", "INTERNAL"),
        ("NOT_FOUND", "404", "NOT_FOUND"),
        ("INVALID_ARG", "400", "INVALID_ARGUMENT"),
        ("UNAVAILABLE", "503", "UNAVAILABLE"),
        ("UNSUPPORTED", "501", "UNIMPLEMENTED"),
        ("ALREADY_EXISTS", "400", "ALREADY_EXISTS"),
        ("CANCELLED", "400", "CANCELLED"),
    ],
)
def test_codes_of_errors(probe: Ask, protocol: str, code: str, http: str, grpc: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        probe("error", parameters={"code": code})
    assert caught.value.message() == "on purpose"
    assert caught.value.status() == (http if protocol == "http" else f"StatusCode.{grpc}")


def test_parameters_of_a_response(client: Any, protocol: str) -> None:
    tensor = CLIENTS[protocol].InferInput("INPUT0", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"parameters"], np.object_))
    found = client.infer("probe", [tensor]).get_response()
    if protocol == "http":
        parameters = {name: found["parameters"][name] for name in ("text", "whole", "yes", "no", "part")}
    else:
        parameters = {name: getattr(one, one.WhichOneof("parameter_choice")) for name, one in found.parameters.items()}
    assert parameters == {"text": "t", "whole": -7, "yes": True, "no": False, "part": 0.25}
    assert isinstance(parameters["yes"], bool) and not isinstance(parameters["whole"], bool)


def test_lines_of_the_log(server: RunningServer, probe: Ask) -> None:
    probe("log")
    for kind, letter in (("plain", "I"), ("level", "W"), ("info", "I"), ("warning", "W"), ("error", "E")):
        text = f"{kind} line of the probe"
        eventually(lambda text=text: text in server.log, f"'{text}' is in the log")
        assert all(line.startswith(letter) for line in server.log.splitlines() if text in line)


def test_what_senders_refuse(probe: Ask) -> None:
    told = probe("senders")
    needed = "Inference Response object must be provided when the response flags is set to zero."
    unsent = "Non-decoupled model cannot send complete final before sending a response."
    assert told == [
        f"TritonModelException: {needed}",
        f"TritonModelException: {needed}",
        "TritonModelException: Unable to send response. Unsupported flag provided.",
        f"TritonModelException: Unable to send response. {unsent}",
    ]


def test_calls_of_decoupled_models(probe: Ask) -> None:
    assert probe("calls_a_decoupled_model") == [0, 1, 2, 3]
    assert probe("awaits_a_decoupled_model") == [[0, 1], [0, 1, 2]]
    assert probe("cancels_a_decoupled_model") == [[0], True]


def test_all_that_a_call_can_have(probe: Ask) -> None:
    shown = ["mine", 9, 60_000_000, 1, {"text": "t", "whole": 3, "yes": True}]
    assert probe("calls_with_all") == [shown, {"of": "shows"}]
    message, code = probe("calls_for_an_output_that_is_not_there")
    assert "NOTHING" in message
    assert code == 1  # INTERNAL, as in Triton
