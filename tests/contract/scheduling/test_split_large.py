# SPDX-License-Identifier: Apache-2.0
"""``split_large`` over both protocols: a request that is larger than a batch has one answer, with all rows in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model
from pyinfer.testing import RunningServer, run_server

MODEL = '''
import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Doubles numbers, and fails where one of them is 13; ROWS is how many rows the request had that it saw."""

    def execute(self, requests):
        responses = []
        for request in requests:
            value = request.inputs()[0].as_numpy()
            if (value == 13).any():
                responses.append(pb_utils.InferenceResponse(error=pb_utils.TritonError("unlucky")))
                continue
            rows = np.full((len(value), 1), len(value), np.int32)
            outputs = [pb_utils.Tensor("OUT", value * 2), pb_utils.Tensor("ROWS", rows)]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
'''
CONFIG = """
backend: "{backend}" max_batch_size: 4
input [ {{ name: "IN" data_type: TYPE_{kind} dims: [ 2 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_{kind} dims: [ 2 ] }} {outputs} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
parameters {{ key: "split_large" value {{ string_value: "true" }} }}
{more}
"""
#: rows of any length, padded to 4 or 8 elements; how long the model sees them
PADDED = """
backend: "python" max_batch_size: 4
input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }} ]
output [ {{ name: "OUT" data_type: TYPE_INT32 dims: [ -1 ] }}, {{ name: "WIDTH" data_type: TYPE_INT32 dims: [ 1 ] }} ]
instance_group [ {{ count: 2 kind: KIND_CPU }} ]
parameters {{ key: "split_large" value {{ string_value: "true" }} }}
parameters {{ key: "padding.width.inputs" value {{ string_value: "IN" }} }}
parameters {{ key: "padding.width.buckets" value {{ string_value: "4, 8" }} }}
parameters {{ key: "padding.width.outputs" value {{ string_value: "OUT" }} }}
{more}
"""
WIDE = MODEL.replace('"ROWS", rows', '"WIDTH", rows * 0 + value.shape[1]')
#: a queue that nothing is refused from, by each kind of policy
POLICIES = {
    "delay": "dynamic_batching { max_queue_delay_microseconds: 100 }",
    "slo": 'parameters { key: "latency_slo_ms" value { string_value: "60000" } }',
}
ROWS = ', { name: "ROWS" data_type: TYPE_INT32 dims: [ 1 ] }'


def config(backend: str, kind: str = "INT32", outputs: str = "", more: str = "") -> str:
    return CONFIG.format(backend=backend, kind=kind, outputs=outputs, more=more)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository: Path = tmp_path_factory.mktemp("models")
    add_model(repository, "double", config("python", outputs=ROWS, more="dynamic_batching { }"), {"model.py": MODEL})
    add_model(repository, "counted", config("python", outputs=ROWS, more="dynamic_batching { }"), {"model.py": MODEL})
    add_model(repository, "texts", config("identity", "STRING"), {})
    add_model(repository, "unbatched", config("identity"), {})
    few = "dynamic_batching { default_queue_policy { max_queue_size: 2 } }"
    slow = 'parameters { key: "execute_delay_ms" value { string_value: "200" } }'
    add_model(repository, "few", config("identity", more=f"{few} {slow}"), {})
    for name, policy in POLICIES.items():
        add_model(repository, f"padded_{name}", PADDED.format(more=policy), {"model.py": WIDE})
        timed = config("python", outputs=ROWS, more=policy)
        add_model(repository, f"double_{name}", timed, {"model.py": MODEL})
    whole = config("identity").replace('"true"', '"false"')
    add_model(repository, "whole", whole, {})
    with run_server(repository) as running:
        yield running


@pytest.fixture(params=["http", "grpc"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ask(server: RunningServer, protocol: str) -> Iterator[Any]:
    module: Any = http_client if protocol == "http" else grpc_client
    with module.InferenceServerClient(getattr(server, protocol)) as client:

        def infer(model: str, values: np.ndarray[Any, Any], outputs: list[str] | None = None) -> Any:
            tensor = module.InferInput("IN", values.shape, "BYTES" if values.dtype == np.object_ else "INT32")
            tensor.set_data_from_numpy(values)
            wanted = None if outputs is None else [module.InferRequestedOutput(name) for name in outputs]
            return client.infer(model, [tensor], request_id="seven", outputs=wanted)

        infer.client = client  # type: ignore[attr-defined]
        yield infer


def numbers(rows: int) -> np.ndarray[Any, Any]:
    return np.arange(20, 20 + rows * 2, dtype=np.int32).reshape(rows, 2)


@pytest.mark.parametrize("rows", [1, 4, 5, 8, 11, 1000])
def test_all_rows_in_order(ask: Any, rows: int) -> None:
    for model, factor in (("double", 2), ("unbatched", 1)):
        answer = ask(model, numbers(rows))
        np.testing.assert_array_equal(answer.as_numpy("OUT"), numbers(rows) * factor)
    seen = ask("double", numbers(rows), ["ROWS"])
    assert seen.as_numpy("OUT") is None
    parts = [4] * (rows // 4 * 4) + [rows % 4] * (rows % 4)
    assert seen.as_numpy("ROWS").ravel().tolist() == parts


@pytest.mark.parametrize("policy", POLICIES)
def test_with_padding_and_with_a_latency_slo(ask: Any, policy: str) -> None:
    """Parts are padded each, and cut back each; whatever decides when they go."""
    for rows, width, bucket in ((3, 3, 4), (11, 3, 4), (9, 7, 8), (4, 8, 8)):
        values = np.arange(100, 100 + rows * width, dtype=np.int32).reshape(rows, width)
        answer = ask(f"padded_{policy}", values)
        np.testing.assert_array_equal(answer.as_numpy("OUT"), values * 2)
        assert answer.as_numpy("WIDTH").ravel().tolist() == [bucket] * rows
    with pytest.raises(Exception, match="has 9 along dimension 1, the most is 8 along 'width'"):
        ask(f"padded_{policy}", np.zeros((11, 9), np.int32))
    np.testing.assert_array_equal(ask(f"double_{policy}", numbers(37)).as_numpy("OUT"), numbers(37) * 2)


def test_texts(ask: Any) -> None:
    texts = np.array([[b"x" * i, b""] for i in range(11)], np.object_)
    assert ask("texts", texts).as_numpy("OUT").tolist() == texts.tolist()


def test_a_part_that_fails_fails_the_whole_once(ask: Any) -> None:
    values = numbers(12)
    values[6, 1] = 13
    with pytest.raises(Exception, match="unlucky"):
        ask("double", values)
    np.testing.assert_array_equal(ask("double", numbers(5)).as_numpy("OUT"), numbers(5) * 2)


def test_what_is_refused(ask: Any) -> None:
    with pytest.raises(Exception, match="inference request batch-size must be <= 4 for 'whole'"):
        ask("whole", numbers(5))
    with pytest.raises(Exception, match="inference request batch-size must be <= 4096 for 'double'"):
        ask("double", numbers(4097))
    # of seven parts two may wait
    with pytest.raises(Exception, match=r"\[request id: seven\] Exceeds maximum queue size"):
        ask("few", numbers(28))
    np.testing.assert_array_equal(ask("few", numbers(8)).as_numpy("OUT"), numbers(8))


def test_one_inference_of_all_rows_is_counted(ask: Any, protocol: str) -> None:
    def counts() -> tuple[int, int, int]:
        if protocol == "http":
            [stats] = ask.client.get_inference_statistics("counted")["model_stats"]
        else:
            [stats] = ask.client.get_inference_statistics("counted", as_json=True)["model_stats"]
        success = stats["inference_stats"]["success"].get("count", 0)
        sizes = {int(one["batch_size"]) for one in stats.get("batch_stats", ())}
        assert all(size <= 4 for size in sizes)
        return int(stats.get("inference_count", 0)), int(stats.get("execution_count", 0)), int(success)

    before = counts()
    ask("counted", numbers(10))
    assert tuple(b - a for a, b in zip(before, counts(), strict=True)) == (10, 3, 1)


CONFLICTS = [
    ("sequence_batching { }", "sequence_batching"),
    ("model_transaction_policy { decoupled: true }", "model_transaction_policy.decoupled"),
]


def test_what_can_not_be_executed_in_parts_is_not_loaded(tmp_path: Path) -> None:
    for number, (more, _) in enumerate(CONFLICTS):
        add_model(tmp_path, f"m{number}", config("python", outputs=ROWS, more=more), {"model.py": MODEL})
    with (
        run_server(tmp_path, "--exit-on-error=false") as server,
        http_client.InferenceServerClient(server.http) as client,
    ):
        reasons = {entry["name"]: entry["reason"] for entry in client.get_model_repository_index()}
        for number, (_, what) in enumerate(CONFLICTS):
            text = f"parameter 'split_large' can not be used with {what} for m{number}"
            assert text in reasons[f"m{number}"]
