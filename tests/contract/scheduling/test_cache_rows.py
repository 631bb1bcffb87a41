# SPDX-License-Identifier: Apache-2.0
"""Row 68 of the catalogue of bad input: whatever happens to the response cache is a miss, and never wrong bytes.

Beside these: a million keys, and answers that do not fit (``tests/core/test_response_cache.cc``), entries that were
damaged (``test_redis_cache``).
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from contract.conftest import add_model
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

#: the sum of the input plus {more}, and how often it was executed; 77 makes the file "begun" and waits for "open"
MODEL = """
import time
from pathlib import Path
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])
        self.executed = 0

    def execute(self, requests):
        return [self.answer(request.inputs()[0].as_numpy()) for request in requests]

    def answer(self, value):
        while value[0, 0] == 77 and not (self.folder / "open").exists():
            (self.folder / "begun").touch()
            time.sleep(0.005)
        self.executed += 1
        outputs = (("SUM", value.sum() + MORE), ("TIMES", self.executed))
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, np.full((1, 1), v, np.int32)) for n, v in outputs])
"""
CONFIG = """
backend: "python" max_batch_size: 8
input [ { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] } ]
output [ { name: "SUM" data_type: TYPE_INT32 dims: [ 1 ] }, { name: "TIMES" data_type: TYPE_INT32 dims: [ 1 ] } ]
instance_group [ { count: 1 kind: KIND_CPU } ]
dynamic_batching { }
response_cache { enable: true }
"""
CACHE = 100_000


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, RunningServer]]:
    add_model(tmp_path, "cached", CONFIG, {"model.py": MODEL.replace("MORE", "0")})
    flags = ("--model-control-mode=explicit", "--load-model=cached", f"--cache-config=local,size={CACHE}")
    with run_server(tmp_path, *flags) as running:
        yield tmp_path, running


@pytest.fixture(params=["http", "grpc"])
def module(request: pytest.FixtureRequest) -> Any:
    return http_client if request.param == "http" else grpc_client


def ask(server: RunningServer, module: Any, values: np.ndarray[Any, Any]) -> tuple[int, int]:
    """SUM and TIMES."""
    with module.InferenceServerClient(server.http if module is http_client else server.grpc) as client:
        tensor = module.InferInput("IN", [1, values.size], "INT32")
        tensor.set_data_from_numpy(values.astype(np.int32).reshape(1, -1))
        result = client.infer("cached", [tensor])
    return tuple(int(result.as_numpy(name)[0, 0]) for name in ("SUM", "TIMES"))  # type: ignore[return-value]


def _hits(server: RunningServer) -> int:
    return counter(server, "nv_cache_num_hits_per_model", "cached")


def test_row_68_one_key_that_100_miss_at_once(served: tuple[Path, RunningServer], module: Any) -> None:
    repository, server = served
    values = np.array([77, 1])
    with ThreadPoolExecutor(100) as pool:
        calls = [pool.submit(ask, server, module, values)]
        eventually((repository / "cached" / "begun").exists, "the first is executed")
        calls += [pool.submit(ask, server, module, values) for _ in range(99)]
        eventually(
            lambda: counter(server, "nv_inference_pending_request_count", "cached") == 99, "all have missed the cache"
        )
        (repository / "cached" / "open").touch()
        answers = [call.result(60) for call in calls]
    assert {total for total, _ in answers} == {78}
    assert sorted(times for _, times in answers) == list(range(1, 101))
    assert _hits(server) == 0
    # the first answer is the one that is kept
    assert [ask(server, module, values) for _ in range(3)] == [(78, 1)] * 3
    assert _hits(server) == 3
    assert counter(server, "nv_cache_num_misses_per_model", "cached") == 100


def test_row_68_what_is_larger_than_the_cache(served: tuple[Path, RunningServer], module: Any) -> None:
    _, server = served
    small, large = np.array([1]), np.ones(CACHE, np.int32)
    assert ask(server, module, small) == (1, 1)
    assert [ask(server, module, large) for _ in range(2)] == [(CACHE, 2), (CACHE, 3)]
    assert ask(server, module, small) == (1, 1)


def test_row_68_a_model_that_is_loaded_again_has_no_old_answers(
    served: tuple[Path, RunningServer], module: Any
) -> None:
    repository, server = served
    values = np.array([5])
    assert ask(server, module, values) == (5, 1)
    (repository / "cached" / "1" / "model.py").write_text(MODEL.replace("MORE", "1000"))
    load = urllib.request.Request(
        f"http://{server.http}/v2/repository/models/cached/load", json.dumps({}).encode(), method="POST"
    )
    with urllib.request.urlopen(load, timeout=60) as answer:
        assert answer.status == 200
    assert [ask(server, module, values) for _ in range(2)] == [(1005, 1)] * 2
    assert _hits(server) == 1


def test_row_68_a_cache_of_no_size(tmp_path: Path) -> None:
    add_model(tmp_path, "cached", CONFIG, {"model.py": MODEL.replace("MORE", "0")})
    flag = "--cache-config=local,size=0"
    with (
        pytest.raises(RuntimeError, match="the size of the local cache must be a number of bytes above 0, got '0'"),
        run_server(tmp_path, flag),
    ):
        pass
