# SPDX-License-Identifier: Apache-2.0
"""Request rescheduling: a decoupled model that sends one response a round, as often as the request says."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.left = {}

    def execute(self, requests):
        for request in requests:
            key = request.correlation_id()
            if key not in self.left:
                self.left[key] = int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().reshape(-1)[0])
            self.left[key] -= 1
            sender = request.get_response_sender()
            left = np.full((1, 1), self.left[key], np.int32)
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("LEFT", left)]))
            if self.left[key] > 0:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            else:
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                del self.left[key]
