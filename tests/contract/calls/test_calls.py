# SPDX-License-Identifier: Apache-2.0
"""Models that call models ("business logic scripting"), over both protocols."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.calls.callers import CALLERS, DECOUPLED, INNOCENT, INSTANCES, SEQUENCES, source
from contract.conftest import GATE, add_model, gate_config, identity, isolated
from faults.guard import counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

Infer = Callable[..., np.ndarray]


@pytest.fixture(scope="module", params=["thread", "process", "any thread"])
def isolation(request: pytest.FixtureRequest) -> str:
    """In the last of them every model may be executed by the thread that calls it."""
    how: str = request.param
    return how


def config(name: str) -> str:
    text = identity("TYPE_FP32", "-1").replace('"identity"', '"python"')
    text = text.replace("count: 1", f"count: {INSTANCES.get(name, 1)}")
    if name in DECOUPLED:
        text += " model_transaction_policy { decoupled: true }"
    if name in SEQUENCES:
        text = text.replace("dynamic_batching { }", "sequence_batching { oldest { max_candidate_sequences: 2 } }")
    return text


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Path:
    directory = tmp_path_factory.mktemp("calls")
    for name in CALLERS:
        text = config(name)
        if isolation == "any thread":
            text += ' parameters { key: "EXECUTE_ON_ANY_THREAD" value { string_value: "yes" } }'
        add_model(directory, name, text, {"model.py": source(name)})
    add_model(directory, "innocent", config("innocent"), {"model.py": INNOCENT})
    add_model(directory, "echo", identity("TYPE_FP32", "-1"))
    add_model(directory, "gate", gate_config(), {"model.py": GATE})
    return directory


@pytest.fixture(scope="module")
def calling(repository: Path, isolation: str) -> Iterator[RunningServer]:
    how = "thread" if isolation == "any thread" else isolation
    flags = ("--model-control-mode=explicit", "--load-model=*", isolated(how))
    with run_server(repository, *flags) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


@pytest.fixture(params=["http", "grpc"])
def infer(request: pytest.FixtureRequest, calling: RunningServer) -> Iterator[Infer]:
    library: Any = http_client if request.param == "http" else grpc_client
    url = calling.http if request.param == "http" else calling.grpc
    with library.InferenceServerClient(url, **({"network_timeout": 60} if request.param == "http" else {})) as client:

        def call(model: str, *values: float, **options: Any) -> np.ndarray:
            tensor = library.InferInput("INPUT0", [1, len(values)], "FP32")
            tensor.set_data_from_numpy(np.array([values], np.float32))
            result = client.infer(model, [tensor], **options)
            found: np.ndarray = result.as_numpy("OUTPUT0")
            return found

        yield call


def test_a_chain(infer: Infer) -> None:
    assert infer("chain", 1, 2.5).tolist() == [[4, 10]]


def test_who_executes_the_callee(infer: Infer, isolation: str) -> None:
    """The caller's thread only where the model allows it, and then with the context variables of the callee."""
    check_who(infer, "asks_who", isolation == "any thread")


def test_a_callee_whose_text_knows_of_no_thread_is_executed_by_its_caller(infer: Infer, isolation: str) -> None:
    check_who(infer, "asks_innocent", isolation != "process")


def check_who(infer: Infer, model: str, expected: bool) -> None:
    here = []

    def asked() -> bool:
        here.append(infer(model, 7)[0, 0])
        return here[-1] == 1 or (not expected and len(here) == 20)

    eventually(asked, "the callee never rested")
    assert expected or not any(here)


def test_calls_at_the_same_time(infer: Infer) -> None:
    assert infer("gather", 1).tolist() == [[2 * (1 + 2 + 3 + 4 + 5)]]


def test_from_a_thread_of_the_model(infer: Infer) -> None:
    assert infer("threaded", 3).tolist() == [[6]]


def test_answers_of_a_decoupled_model(infer: Infer) -> None:
    assert infer("collector", 4).tolist() == [[0, 1, 2, 3]]
    assert infer("collector", 0).size == 0


def test_a_stateful_model(infer: Infer) -> None:
    assert infer("sequence", 1, 2, 3, 4).tolist() == [[10]]


def test_arrays_are_not_shared_with_whoever_writes_to_them(infer: Infer) -> None:
    assert infer("writer", 0).tolist() == [[3, 4]]


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("nobody", "Model 'nobody' is not ready"),
        ("repeat", "decoupled=True"),
        ("failing", "ValueError: on purpose"),
        ("", "is not ready"),
    ],
)
def test_errors_of_the_callee_are_the_callers_to_handle(infer: Infer, which: str, text: str) -> None:
    with pytest.raises(InferenceServerException, match=text):
        infer("texts", 1, parameters={"which": which})
    assert infer("texts", 1, parameters={"which": "double"}).tolist() == [[2]]


@pytest.mark.parametrize("name", ["itself", "ping"])
def test_row_48_a_model_that_would_wait_for_itself_is_told_so(infer: Infer, name: str) -> None:
    with pytest.raises(InferenceServerException, match="would wait for ever"):
        infer(name, 1)


def test_row_48_recursion_within_the_instances(infer: Infer) -> None:
    assert infer("factorial", 5).tolist() == [[120]]
    with pytest.raises(InferenceServerException, match="would wait for ever"):
        infer("factorial", 6)


def test_row_48_64_callers_at_once(infer: Infer, calling: RunningServer) -> None:
    results: list[float] = []

    def ask(number: int) -> None:
        with grpc_client.InferenceServerClient(calling.grpc) as client:
            tensor = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[number]], np.float32))
            found = [client.infer("gather", [tensor]).as_numpy("OUTPUT0")[0, 0] for _ in range(5)]
        results.extend(float(value) - 10 * number for value in found)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [20.0] * 320


def test_a_decoupled_coroutine_lets_others_begin(calling: RunningServer) -> None:
    """The answer to the request that waits less comes first, from one instance."""
    answers: Queue[Any] = Queue()
    with grpc_client.InferenceServerClient(calling.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        for wait in (400, 1):
            tensor = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
            tensor.set_data_from_numpy(np.array([[wait]], np.float32))
            client.async_stream_infer("later", [tensor], request_id=str(wait))
        found = [answers.get(timeout=60) for _ in range(2)]
        client.stop_stream()
    assert [(error, result.get_response().id, result.as_numpy("OUTPUT0")[0, 0]) for result, error in found] == [
        (None, "1", 2),
        (None, "400", 800),
    ]


@pytest.mark.parametrize(
    ("model", "text"),
    [
        ("fails_later", "ValueError: on purpose"),
        ("returns_too_much", "Python model 'returns_too_much' is using the decoupled mode"),
    ],
)
def test_a_decoupled_coroutine_that_fails(calling: RunningServer, model: str, text: str) -> None:
    answers: Queue[Any] = Queue()
    with grpc_client.InferenceServerClient(calling.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        tensor = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[1]], np.float32))
        client.async_stream_infer(model, [tensor])
        _, error = answers.get(timeout=60)
        client.stop_stream()
    assert text in str(error)


@pytest.mark.parametrize("caller", ["texts", "apart", "apart_later"])
def test_row_48_a_cancelled_request_takes_its_calls_along(
    calling: RunningServer, repository: Path, caller: str
) -> None:
    """The callee is busy; what the caller has queued there goes when the client cancels."""
    gate = repository / "gate"
    for note in ("began", "open"):
        (gate / note).unlink(missing_ok=True)
    with (
        grpc_client.InferenceServerClient(calling.grpc) as client,
        grpc_client.InferenceServerClient(calling.grpc) as leaving,
    ):
        tensor = grpc_client.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[1]], np.float32))
        held: Queue[Any] = Queue()
        client.async_infer("gate", [tensor], lambda result, error: held.put(error))
        eventually((gate / "began").exists, "the gate was not reached")
        leaving.start_stream(lambda result, error: None)
        leaving.async_stream_infer(caller, [tensor], parameters={"which": "gate"})
        eventually(lambda: pending(calling) == 1, "the call was not queued")
        leaving.stop_stream(cancel_requests=True)
        eventually(lambda: pending(calling) == 0, "the call is still queued")
        (gate / "open").touch()
        assert held.get(timeout=60) is None  # the next caller finds the gate free
        assert client.infer("texts", [tensor], parameters={"which": "double"}).as_numpy("OUTPUT0").tolist() == [[2]]


def pending(server: RunningServer) -> int:
    return counter(server, "nv_inference_pending_request_count", "gate")


def test_row_48_unloading_the_callee_is_an_error_of_the_call(infer: Infer, calling: RunningServer) -> None:
    with http_client.InferenceServerClient(calling.http) as client:
        client.unload_model("echo")
        with pytest.raises(InferenceServerException, match="is not ready"):
            infer("texts", 1, parameters={"which": "echo"})
        client.load_model("echo")
    assert infer("texts", 1, parameters={"which": "echo"}).tolist() == [[1]]
