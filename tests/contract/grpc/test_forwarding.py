# SPDX-License-Identifier: Apache-2.0
"""Headers that become request parameters, as a Python model sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc import service_pb2_grpc

from contract.conftest import add_model
from pyinfer.testing import run_server

SHOW = '''
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Answers with the parameters of the request."""

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([r.parameters()], dtype=object))])
            for r in requests
        ]
'''
CONFIG = """
backend: "python" max_batch_size: 0
input [ { name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_STRING dims: [ 1 ] } ]
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("forwarding")
    add_model(made, "show", CONFIG, {"model.py": SHOW})
    return made


@pytest.fixture(scope="module")
def stub(repository: Path) -> Iterator[Any]:
    with (
        run_server(repository, "--grpc-header-forward-pattern=^(x-.*|priority|user-agent)") as server,
        grpc.insecure_channel(server.grpc) as channel,
    ):
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def message(**parameters: str) -> pb.ModelInferRequest:
    made = pb.ModelInferRequest(model_name="show")
    made.inputs.add(name="INPUT0", datatype="UINT8", shape=[1])
    made.raw_input_contents.append(b"x")
    for name, value in parameters.items():
        made.parameters[name].string_param = value
    return made


def shown(response: pb.ModelInferResponse) -> dict[str, Any]:
    parameters: dict[str, Any] = json.loads(response.raw_output_contents[0][4:])
    assert parameters.pop("user-agent").startswith("grpc-python/")
    return parameters


METADATA = [
    ("x-tenant", "acme"),
    ("other", "1"),
    ("x-empty", ""),
    ("x-twice", "1"),
    ("x-twice", "2"),
    ("x-b-bin", b"\0\xff"),
]
EXPECTED = {"mine": "m", "x-tenant": "acme", "x-empty": "", "x-twice": "2", "x-b-bin": "AP8"}


def test_of_a_unary_call(stub: Any) -> None:
    response = stub.ModelInfer(message(mine="m"), metadata=METADATA, timeout=60)
    assert shown(response) == EXPECTED


def test_of_a_stream(stub: Any) -> None:
    responses = list(stub.ModelStreamInfer(iter([message(mine="m")] * 2), metadata=METADATA, timeout=60))
    assert [shown(response.infer_response) for response in responses] == [EXPECTED, EXPECTED]


def test_a_header_counts_more_than_a_parameter(stub: Any) -> None:
    response = stub.ModelInfer(message(**{"x-tenant": "of the request"}), metadata=METADATA[:1], timeout=60)
    assert shown(response) == {"x-tenant": "acme"}


def test_reserved_names_are_refused(stub: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message(), metadata=[("priority", "1")], timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details() == "Header 'priority' is reserved for Triton usage and cannot be forwarded."
    stub.ServerLive(pb.ServerLiveRequest(), metadata=[("priority", "1")], timeout=60)


def test_nothing_is_forwarded_unless_asked_for(repository: Path) -> None:
    with run_server(repository) as server, grpc.insecure_channel(server.grpc) as channel:
        response = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(
            message(), metadata=[*METADATA, ("priority", "1")], timeout=20
        )
        assert json.loads(response.raw_output_contents[0][4:]) == {}


def test_a_pattern_that_is_none(repository: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="--grpc-header-forward-pattern: .* is not a regular expression of RE2"),
        run_server(repository, "--grpc-header-forward-pattern=("),
    ):
        pass


def test_tensors_are_untouched(stub: Any) -> None:
    assert np.frombuffer(stub.ModelInfer(message(), timeout=60).raw_output_contents[0][:4], "<u4")[0] > 0
