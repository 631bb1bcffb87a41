# SPDX-License-Identifier: Apache-2.0
"""Runs a request as often as its first element says, then answers with flags and number of each round it was in."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.rounds = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            number = request.correlation_id()
            wanted = int(pb_utils.get_input_tensor_by_name(request, "ROUNDS").as_numpy().reshape(-1)[0])
            notes = self.rounds.setdefault(number, [])
            notes.append(request.flags())
            if len(notes) < wanted:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                responses.append(None)
                continue
            del self.rounds[number]
            text = np.full((1, 1), str(notes).encode(), np.object_)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("NOTES", text)]))
        return responses
