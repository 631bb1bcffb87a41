# SPDX-License-Identifier: Apache-2.0
"""The example decoupled, square: IN is answered as often as it says, each time by itself, from a thread."""

import threading

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            value = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            thread = threading.Thread(target=self.answer, args=(request.get_response_sender(), value))
            thread.daemon = True
            thread.start()

    def answer(self, sender, value):
        for _ in range(int(value[0])):
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array(value, np.int32))]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
