# SPDX-License-Identifier: Apache-2.0
"""Sequences: OUTPUT is the sum of the sequence so far; CONTROL shows what the batcher told."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            start, end, ready, key = (self.control(request, name) for name in ("START", "END", "READY", "CORRID"))
            shape = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy().shape
            if not ready:
                self.add(responses, np.zeros(shape, np.int32), "not ready")
                continue
            total = (0 if start else self.sums.get(key, 0)) + int(self.control(request, "INPUT"))
            self.sums[key] = total
            if end:
                del self.sums[key]
            self.add(responses, np.full(shape, total, np.int32), f"start={int(start)} end={int(end)} id={key}")
        return responses

    def control(self, request, name):
        tensor = pb_utils.get_input_tensor_by_name(request, name)
        if tensor is None:
            return request.correlation_id()  # where no control tensor has it
        value = tensor.as_numpy().reshape(-1)[0]
        return value.decode() if isinstance(value, bytes) else value

    def add(self, responses, total, text):
        control = np.full(total.shape, text.encode(), np.object_)
        responses.append(
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", total), pb_utils.Tensor("CONTROL", control)])
        )
