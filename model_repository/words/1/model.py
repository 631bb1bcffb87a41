# SPDX-License-Identifier: Apache-2.0
"""Says a text back, word by word: the least that a model can be whose responses are streamed."""

import json
import time

import numpy as np

import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """Decoupled: responses go through a sender, at any time; the flag FINAL ends a request."""

    def execute(self, requests):
        for request in requests:
            self._answer(request, request.get_response_sender())

    def _answer(self, request, sender):
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy()[0].decode()
        pause = json.loads(request.parameters()).get("pause", 0.0)  # seconds before each word
        for word in text.split():
            if sender.is_cancelled():
                break  # nobody waits any more
            time.sleep(pause)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("WORD", np.array([word], np.object_))]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
