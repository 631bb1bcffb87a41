# SPDX-License-Identifier: Apache-2.0
"""Response senders of Python models: decoupled ones, and those of the default mode. Batches are fakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyinfer.backends.base import Instance, InstanceContext, ModelContext
from pyinfer.backends.python.backend import InProcessBackend
from unit.backends.fake_batch import FakeBatch

MODEL = """
import triton_python_backend_utils as pb_utils

def response(*values):
    import numpy as np
    return pb_utils.InferenceResponse([pb_utils.Tensor("B", np.array(values, np.int32))])

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL

class TritonPythonModel:
    def execute(self, requests):
{body}
"""
ROW = {"A": np.array([[1]], np.int32)}


def execute(directory: Path, body: str, batch: FakeBatch, *, decoupled: bool = True) -> FakeBatch:
    source = MODEL.format(body="\n".join(" " * 8 + line for line in body.splitlines()))
    (directory / "m" / "1").mkdir(parents=True)
    (directory / "m" / "1" / "model.py").write_text(source)
    config: dict[str, Any] = {"model_transaction_policy": {"decoupled": decoupled}}
    backend = InProcessBackend(ModelContext("m", 1, directory / "m", config))
    instance: Instance = backend.make_instance(InstanceContext("m_0", "CPU", 0))
    try:
        instance.execute(batch)
    finally:
        instance.close()
        backend.close()
    return batch


def test_a_decoupled_model_sends_what_it_wants(tmp_path: Path) -> None:
    body = """\
for count, request in enumerate(requests):
    sender = request.get_response_sender()
    assert request.inputs()[0].name() == "A" and request.correlation_id() == 7 and request.timeout() == 90
    for value in range(count):
        sender.send(response(value))
    assert not sender.is_cancelled()
    sender.send(flags=FINAL)
    assert sender.is_cancelled() and request.is_cancelled()
"""
    batch = execute(tmp_path, body, FakeBatch(ROW, ROW, ROW, decoupled=True))
    assert batch.answers == {}
    assert [batch.responders[i].sent for i in range(3)] == [
        [(None, True)],
        [({"B": [0]}, False), (None, True)],
        [({"B": [0]}, False), ({"B": [1]}, False), (None, True)],
    ]


def test_the_last_response_may_carry_the_final_flag_or_an_error(tmp_path: Path) -> None:
    body = """\
requests[0].get_response_sender().send(response(5), flags=FINAL)
error = pb_utils.InferenceResponse(error=pb_utils.TritonError("no", pb_utils.TritonError.NOT_FOUND))
requests[1].get_response_sender().send(error)
requests[1].get_response_sender().send(flags=FINAL)
"""
    batch = execute(tmp_path, body, FakeBatch(ROW, ROW, decoupled=True))
    assert batch.responders[0].sent == [({"B": [5]}, True)]
    assert batch.responders[1].sent == [(("NOT_FOUND", "no"), False), (None, True)]


@pytest.mark.parametrize(
    ("decoupled", "call", "expected"),
    [
        (True, "sender.send(response(1), flags=2)", "Unsupported flag provided."),
        (True, "sender.send()", "Inference Response object must be provided"),
        (True, "sender.send(5)", "Expected an 'InferenceResponse' object"),
        (True, "sender.send(flags=FINAL); sender.send(flags=FINAL)", "Response sender has been closed."),
        (False, "sender.send(response(1)); sender.send(response(2))", "can not send more than one response"),
        (False, "sender.send(flags=FINAL)", "complete final before sending a response"),
    ],
)
def test_misuse_of_a_sender_fails_the_batch(tmp_path: Path, decoupled: bool, call: str, expected: str) -> None:
    body = f"sender = requests[0].get_response_sender()\n{call}"
    batch = execute(tmp_path, body, FakeBatch(ROW, ROW, decoupled=decoupled), decoupled=decoupled)
    code, text = batch.answers[1]
    assert code == "INTERNAL"
    assert expected.replace("can not", "cannot") in text
    assert batch.responders[0].ended


def test_a_decoupled_model_returns_nothing(tmp_path: Path) -> None:
    batch = execute(tmp_path, "return [response(1)]", FakeBatch(ROW, decoupled=True))
    assert "execute function must return None" in batch.answers[0][1]


def test_in_the_default_mode_a_sender_stands_for_a_response_of_the_list(tmp_path: Path) -> None:
    body = """\
requests[1].get_response_sender().send(response(7))
return [response(3), None]
"""
    batch = execute(tmp_path, body, FakeBatch(ROW, ROW), decoupled=False)
    assert batch.answers[0]["B"][1].tolist() == [3]
    assert batch.responders[1].sent == [({"B": [7]}, True)]


def test_in_the_default_mode_none_without_a_sender_is_a_fault(tmp_path: Path) -> None:
    batch = execute(tmp_path, "return [None]", FakeBatch(ROW), decoupled=False)
    assert "Expected an 'InferenceResponse' object" in batch.answers[0][1]
