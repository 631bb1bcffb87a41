# SPDX-License-Identifier: Apache-2.0
"""Rows 39 to 41 and 62: models that fail or answer wrongly, poisoned batches, full queues."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import isolated
from contract.http.raw import Raw, Response, post
from faults.client import Grpc, check_text, document, http, message, refused, tensor
from faults.guard import counter
from faults.models import closed_gate
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

pytestmark = pytest.mark.usefixtures("guarded")


@pytest.fixture(scope="module", params=["thread", "process"])
def server(request: pytest.FixtureRequest, models: Path) -> Iterator[RunningServer]:
    flags = ("--model-control-mode=explicit", "--load-model=*", isolated(request.param))
    with run_server(models, *flags) as running:
        yield running
        assert running.process.poll() is None, running.log[-4000:]


INPUT = [1.0, 2.0, 3.0, 4.0]
FAILED = "Failed to process the request(s) for model 'faulty_0_0', message: "
FAULTY = "/v2/models/faulty/infer"


def body(mode: str, values: list[float] | None = None) -> bytes:
    return document(tensor((1, 4), values or INPUT), parameters={"mode": mode})


def rpc_request(mode: str, values: list[float] | None = None) -> pb.ModelInferRequest:
    request = message("faulty", ("INPUT0", "FP32", (1, 4)), raw=[np.array(values or INPUT, "<f4").tobytes()])
    request.parameters["mode"].string_param = mode
    return request


def check_good(response: Response, values: list[float] | None = None) -> None:
    assert response.status == 200, response
    outputs = {output["name"]: output["data"] for output in response.document["outputs"]}
    expected = values or INPUT
    assert outputs == {"OUTPUT0": [value * 2 for value in expected], "OUTPUT1": [int(expected[0])]}


def check_usable(server: RunningServer) -> None:
    check_good(http(server, FAULTY, body("")))


def accounted(server: RunningServer, model: str) -> dict[str, int]:
    reasons = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    counts = {reason: counter(server, "nv_inference_request_failure", model, reason=reason) for reason in reasons}
    return counts | {"ok": counter(server, "nv_inference_request_success", model)}


RAISES = {
    "raise": "ValueError: the model says no",
    "raise with a path": "can not read",
    "raise without a text": "",
    "raise a huge text": "xxx",
    "exit": "SystemExit",
    "stop the loop": "StopIteration",
    "run out of memory": "MemoryError",
    "recurse": "RecursionError",
}


@pytest.mark.parametrize("mode", RAISES)
def test_row_39_model_raises(server: RunningServer, rpc: Grpc, mode: str) -> None:
    before = accounted(server, "faulty")
    response = http_error(server, mode)
    assert response.document["error"].startswith(FAILED)
    assert RAISES[mode] in response.document["error"]
    rpc.refused(rpc_request(mode), "INTERNAL", RAISES[mode])
    check_usable(server)
    after = accounted(server, "faulty")
    assert after == before | {"BACKEND": before["BACKEND"] + 2, "ok": before["ok"] + 2}


def http_error(server: RunningServer, mode: str) -> Response:
    with Raw(server.http_port) as raw:
        response = raw.send(post(FAULTY, body(mode))).receive()
        assert response.status == 500, response
        text = response.document["error"]
        check_text(text[:4000])
        check_good(raw.send(post(FAULTY, body(""))).receive())
        return response


class Gate:
    """Keeps the instance busy while a batch comes together."""

    def __init__(self, server: RunningServer, path: Path) -> None:
        self._server, self._path = server, path / "gate"
        self._raw = Raw(server.http_port, timeout_s=60)
        self._raw.send(post(FAULTY, body(f"wait {self._path}")))
        eventually(self._path.with_suffix(".began").exists, "the model never began")

    def open(self, waiting: int) -> None:
        """Once so many requests are queued."""
        queued = "nv_inference_pending_request_count"
        eventually(lambda: counter(self._server, queued, "faulty") == waiting, f"{waiting} requests were never queued")
        self._path.with_suffix(".open").touch()
        check_good(self._raw.receive())
        self._raw.socket.close()


def batch(server: RunningServer, path: Path, bodies: list[bytes], *, valid: int | None = None) -> list[Response]:
    """The answers to ``bodies``, of which the ``valid`` ones (default: all) are executed as one batch."""
    executions = counter(server, "nv_inference_exec_count", "faulty")
    gate = Gate(server, path)
    with Raw(server.http_port, timeout_s=60) as raw:
        raw.send(b"".join(post(FAULTY, data) for data in bodies))
        gate.open(len(bodies) if valid is None else valid)
        answers = [raw.receive() for _ in bodies]
    assert counter(server, "nv_inference_exec_count", "faulty") == executions + 2
    return answers


@pytest.mark.parametrize(
    ("mode", "status", "text"),
    [("raise for one", 500, "this one is bad"), ("invalid argument for one", 400, "bad argument")],
)
def test_row_39_error_of_one_request(
    server: RunningServer, tmp_path: Path, rpc: Grpc, mode: str, status: int, text: str
) -> None:
    """The model says so for one: its batch-mates get their answers."""
    values = [[float(n)] * 4 for n in range(1, 8)]
    modes = ["", "", "", mode, "", "", ""]
    answers = batch(server, tmp_path, [body(m, v) for m, v in zip(modes, values, strict=True)])
    for answer, asked, given in zip(answers, modes, values, strict=True):
        if asked:
            assert (answer.status, answer.document["error"]) == (status, text)
        else:
            check_good(answer, given)
    rpc.refused(rpc_request(mode), "INTERNAL" if status == 500 else "INVALID_ARGUMENT", text)


def test_row_39_raising_fails_the_whole_batch(server: RunningServer, tmp_path: Path) -> None:
    answers = batch(server, tmp_path, [body(mode) for mode in ("", "", "raise", "")])
    assert [answer.status for answer in answers] == [500] * 4
    check_usable(server)


POISON = {
    "shape": document(tensor((1, 5), [*INPUT, 5])),
    "datatype": document(tensor((1, 4), [1, 2, 3, 4], datatype="INT32")),
    "batch": document(tensor((9, 4), INPUT * 9)),
    "name": document(tensor((1, 4), INPUT, name="OTHER")),
    "output": document(tensor((1, 4), INPUT), outputs=[{"name": "OTHER"}]),
    "JSON": b"{",
    "data": document(tensor((1, 4), [1, 2, 3])),
}


@pytest.mark.parametrize("case", POISON)
def test_row_40_poison_in_a_batch(server: RunningServer, tmp_path: Path, case: str) -> None:
    """Seven right requests and a wrong one at the same time: it never gets into their batch."""
    values = [[float(n)] * 4 for n in range(1, 8)]
    bodies = [body("", v) for v in values]
    bodies.insert(4, POISON[case])
    failed = accounted(server, "faulty")["BACKEND"]
    answers = batch(server, tmp_path, bodies, valid=7)
    assert answers.pop(4).status == 400
    for answer, given in zip(answers, values, strict=True):
        check_good(answer, given)
    assert accounted(server, "faulty")["BACKEND"] == failed


def test_row_40_poison_in_a_batch_grpc(server: RunningServer, tmp_path: Path, rpc: Grpc) -> None:
    values = [[float(n)] * 4 for n in range(1, 8)]
    requests = [rpc_request("", v) for v in values]
    poison = rpc_request("")
    poison.raw_input_contents[0] = bytes(15)
    gate = Gate(server, tmp_path)
    calls = [rpc.method().future(r.SerializeToString(), timeout=60) for r in (*requests[:4], poison, *requests[4:])]
    gate.open(7)
    error = calls.pop(4).exception()
    assert isinstance(error, grpc.RpcError)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    for call, given in zip(calls, values, strict=True):
        response = pb.ModelInferResponse.FromString(call.result())
        assert np.frombuffer(response.raw_output_contents[0], "<f4").tolist() == [v * 2 for v in given]


WRONG = {
    "return None": FAILED,
    "return a dict": FAILED,
    "return a number": FAILED,
    "too few": FAILED,
    "too many": FAILED,
    "not a response": FAILED,
    "None in the list": "",
    "missing output": "did not return its output 'OUTPUT0'",
    "unknown output": "'OTHER'",
    "wrong dtype": "expected 'FP32'",
    "text for numbers": "expected 'FP32'",
    "wrong rank": "the shape of output 'OUTPUT0' of model 'faulty' is [4], expected [1,4]",
    "wrong dimension": "the shape of output 'OUTPUT0' of model 'faulty' is [1,5], expected [1,4]",
    "wrong batch": "the shape of output 'OUTPUT0' of model 'faulty' is [2,4], expected [1,4]",
    "scalar": "the shape of output 'OUTPUT0' of model 'faulty' is [], expected [1,4]",
    "no array": FAILED,
}


@pytest.mark.parametrize("mode", WRONG)
def test_row_41_wrong_answers(server: RunningServer, rpc: Grpc, mode: str) -> None:
    before = accounted(server, "faulty")
    refused(server, "faulty", body(mode), status=500, text=WRONG[mode])
    rpc.refused(rpc_request(mode), "INTERNAL", WRONG[mode])
    check_usable(server)
    after = accounted(server, "faulty")
    assert after == before | {"BACKEND": before["BACKEND"] + 2, "ok": before["ok"] + 1}


@pytest.mark.parametrize("mode", ["missing output", "wrong dtype", "wrong dimension", "unknown output"])
def test_row_41_wrong_answer_in_a_batch(server: RunningServer, tmp_path: Path, mode: str) -> None:
    values = [[float(n)] * 4 for n in range(1, 8)]
    modes = [mode if n == 3 else "" for n in range(7)]
    answers = batch(server, tmp_path, [body(m, v) for m, v in zip(modes, values, strict=True)])
    assert answers.pop(3).status == 500
    values.pop(3)
    for answer, given in zip(answers, values, strict=True):
        check_good(answer, given)


RIGHT = [
    "other order",
    "not contiguous",
    "transposed",
    "backwards",
    "big-endian",
    "output twice",
    "empties the requests",
]


@pytest.mark.parametrize("mode", RIGHT)
def test_row_41_unusual_answers(server: RunningServer, mode: str) -> None:
    """Odd, but unmistakable: right answers."""
    if mode == "output twice":
        response = http(server, FAULTY, body(mode))
        assert response.status == 500  # OUTPUT0 is missing where OUTPUT1 came twice
        return
    if mode == "big-endian":
        response = http(server, FAULTY, body(mode))
        if response.status == 500:
            assert "OUTPUT0" in response.document["error"] or FAILED in response.document["error"]
        else:
            check_good(response)
        return
    check_good(http(server, FAULTY, body(mode)))


def test_row_41_input_as_output(server: RunningServer, tmp_path: Path) -> None:
    """The request's own memory is answered with; no other request can be seen in it."""
    values = [[float(n)] * 4 for n in range(1, 8)]
    answers = batch(server, tmp_path, [body("input as output", v) for v in values])
    for answer, given in zip(answers, values, strict=True):
        outputs = {output["name"]: output["data"] for output in answer.document["outputs"]}
        assert outputs["OUTPUT0"] == given


def test_row_41_reversed_answers_are_the_models_word(server: RunningServer, tmp_path: Path) -> None:
    """Answers are matched with requests by their place: a model that reverses them is not found out, as in Triton."""
    answers = batch(server, tmp_path, [body("reversed list", [float(n)] * 4) for n in (1, 2)])
    assert [answer.status for answer in answers] == [200, 200]


def test_row_41_huge_answer(server: RunningServer, rpc: Grpc) -> None:
    """256 MiB for a request of 8 bytes; beyond 2 GiB gRPC has no length, and says so."""
    count = 64 << 20
    request = message("huge", ("INPUT0", "INT64", [1]), raw=[np.int64(count).tobytes()])
    assert len(rpc.infer(request).raw_output_contents[0]) == count * 4


def test_row_41_answer_that_does_not_fit_into_memory(server: RunningServer, rpc: Grpc) -> None:
    given = document(tensor([1], [1 << 50], datatype="INT64"))
    refused(server, "huge", given, status=500, text="MemoryError")
    negative = message("huge", ("INPUT0", "INT64", [1]), raw=[np.int64(-1).tobytes()])
    rpc.refused(negative, "INTERNAL", "ValueError")


FULL = "[request id: <id_unknown>] Exceeds maximum queue size"


def test_row_62_full_queue_http(server: RunningServer, models: Path) -> None:
    """One is executed, four are queued."""
    before = accounted(server, "short_queue")
    request = post("/v2/models/short_queue/infer", document(tensor((1, 1), [7])))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Raw(server.http_port, timeout_s=60)) for _ in range(20)]
        with closed_gate(models, "short_queue") as gate:
            clients[0].send(request)
            eventually((gate / "began").exists, "never began")
            for raw in clients[1:]:
                raw.send(request)
            eventually(lambda: accounted(server, "short_queue")["REJECTED"] - before["REJECTED"] == 15, "not refused")
        answers = [raw.receive() for raw in clients]
        assert all(raw.send(request).receive().status == 200 for raw in clients)
    rejected = [answer for answer in answers if answer.status == 503]
    assert [answer.document for answer in rejected] == [{"error": FULL}] * 15
    served = [answer for answer in answers if answer.status == 200]
    assert [answer.document["outputs"][0]["data"] for answer in served] == [[7]] * 5
    after = accounted(server, "short_queue")
    assert after == before | {"REJECTED": before["REJECTED"] + 15, "ok": before["ok"] + 25}


def test_row_62_full_queue_grpc(server: RunningServer, models: Path, rpc: Grpc) -> None:
    before = accounted(server, "short_queue")
    data = message("short_queue", ("INPUT0", "FP32", (1, 1)), raw=[bytes(4)]).SerializeToString()
    with closed_gate(models, "short_queue") as gate:
        calls = [rpc.method().future(data, timeout=60)]
        eventually((gate / "began").exists, "never began")
        calls += [rpc.method().future(data, timeout=60) for _ in range(49)]
        eventually(lambda: accounted(server, "short_queue")["REJECTED"] - before["REJECTED"] == 45, "not refused")
    errors = [call.exception() for call in calls]
    rejected = [error for error in errors if error is not None]
    assert len(rejected) == 45
    assert all((error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, FULL) for error in rejected)
    after = accounted(server, "short_queue")
    assert after == before | {"REJECTED": before["REJECTED"] + 45, "ok": before["ok"] + 5}
    eventually(lambda: counter(server, "nv_inference_pending_request_count", "short_queue") == 0, "requests are left")
