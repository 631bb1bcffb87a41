# SPDX-License-Identifier: Apache-2.0
"""h2load and wrk, which read no tensors but count every answer, its status and its bytes."""

from __future__ import annotations

import pytest
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2

from perf.bodies import Body, Protocol, fp32_rows, make_body
from perf.tools import run_h2load, run_wrk
from pyinfer.testing import RunningServer

PREFIX = 5  # of a gRPC message: a flag and its length
REQUESTS = 4000


def body(protocol: Protocol, model: str = "fixed") -> Body:
    return make_body(protocol, model, fp32_rows(16), name="INPUT0", output="OUTPUT0")


@pytest.mark.parametrize(("connections", "streams"), [(1, 1), (1, 100), (8, 8), (64, 1), (4, 400)])
@pytest.mark.parametrize("model", ["fixed", "single"])
def test_every_grpc_answer_has_its_status_and_size(
    loaded: RunningServer, model: str, connections: int, streams: int
) -> None:
    sent = body("grpc", model)
    request = service_pb2.ModelInferRequest.FromString(sent.content[PREFIX:])
    with triton.InferenceServerClient(loaded.grpc) as client:
        answer = client._client_stub.ModelInfer(request)
        before = successes(client, model)
        report = run_h2load(sent, loaded.grpc, connections, streams, requests=REQUESTS)
        assert successes(client, model) - before == REQUESTS
    assert report.requests == REQUESTS
    assert report.failures == 0
    assert report.bytes_per_answer == PREFIX + answer.ByteSize()


def successes(client: triton.InferenceServerClient, model: str) -> int:
    (stats,) = client.get_inference_statistics(model).model_stats
    return int(stats.inference_stats.success.count)


def test_h2load_speaks_http_1_as_well(loaded: RunningServer) -> None:
    report = run_h2load(body("http_json"), loaded.http, 8, 4, requests=REQUESTS)
    assert report.requests == REQUESTS
    assert report.failures == 0


@pytest.mark.parametrize("protocol", ["http_json", "http_binary"])
@pytest.mark.parametrize("connections", [1, 64])
def test_wrk_sees_no_failure(loaded: RunningServer, protocol: Protocol, connections: int) -> None:
    report = run_wrk(body(protocol), loaded.http, connections, 1)
    assert report.requests > 0
    assert report.failures == 0
