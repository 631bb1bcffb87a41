# SPDX-License-Identifier: Apache-2.0
"""A decoupled model for the tests of generate, and what they ask and read."""

from __future__ import annotations

import json
from typing import Any

from contract.http.raw import post

__all__ = ["CONFIG", "COUNT", "EVENTS", "NOT_ONE", "STREAM", "WHOLE", "ask", "event", "numbers"]

COUNT = '''
import json
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """Decoupled: answers with TEXT and a number, `count` times; `errors` are the numbers that are errors.

    With `gate`, each number waits until the file of this name is there; `<gate>began` says that it does, and
    `<gate>cancelled` that nobody waits any more. With `last`, the end comes with the last response.
    """

    def execute(self, requests):
        for request in requests:
            self.answer(request, request.get_response_sender(), json.loads(request.parameters()))

    def answer(self, request, sender, parameters):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()
        count = parameters.get("count", 1)
        for number in range(count):
            if not self.wait(sender, parameters.get("gate", ""), number):
                break
            if str(number) in parameters.get("errors", "").split(","):
                response = pb_utils.InferenceResponse(
                    error=pb_utils.TritonError(f"{number} is bad", pb_utils.TritonError.NOT_FOUND)
                )
            else:
                response = pb_utils.InferenceResponse(
                    [pb_utils.Tensor("TEXT", text), pb_utils.Tensor("NUMBER", np.array([number], np.int32))],
                    parameters={"id_of_request": request.request_id(), "even": number % 2 == 0},
                )
            if parameters.get("last") and number == count - 1:
                sender.send(response, flags=FINAL)
                return
            sender.send(response)
        sender.send(flags=FINAL)

    def wait(self, sender, gate, number):
        if gate:
            Path(f"{gate}began").touch()
        while gate and not Path(f"{gate}{number}").exists():
            if sender.is_cancelled():
                Path(f"{gate}cancelled").touch()
                return False
            time.sleep(0.002)
        return True
'''
CONFIG = """
backend: "python" max_batch_size: 0
input [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "TEXT" data_type: TYPE_STRING dims: [ 1 ] }, { name: "NUMBER" data_type: TYPE_INT32 dims: [ 1 ] } ]
model_transaction_policy { decoupled: true }
instance_group [ { count: 4 kind: KIND_CPU } ]
"""
STREAM = "/v2/models/count/generate_stream"
WHOLE = "/v2/models/count/generate"
EVENTS = "text/event-stream; charset=utf-8"
NOT_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that generates various number "
    "of responses"
)


def ask(path: str, *headers: str, **members: Any) -> bytes:
    return post(path, json.dumps({"TEXT": "hi", **members}).encode(), *headers)


def event(chunk: bytes) -> Any:
    """The JSON of a chunk, which must be one event."""
    assert chunk.startswith(b"data: ") and chunk.endswith(b"\n\n") and chunk.count(b"\n") == 2, chunk
    return json.loads(chunk[6:])


def numbers(body: bytes) -> list[int]:
    return [json.loads(line[6:])["NUMBER"] for line in body.split(b"\n") if line]
