# SPDX-License-Identifier: Apache-2.0
"""Makes as many responses as it is asked for, as fast as its server takes them."""

import numpy as np

import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    def execute(self, requests):
        text = np.array([b"token"], np.object_)
        for request in requests:
            sender = request.get_response_sender()
            for _ in range(int(pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()[0])):
                sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("TEXT", text)]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
