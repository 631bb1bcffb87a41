# SPDX-License-Identifier: Apache-2.0
"""PRESENT: the names of the inputs that the request brought."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            tensors = request.inputs()
            names = ",".join(sorted(tensor.name() for tensor in tensors)).encode()
            rows = tensors[0].as_numpy().shape[0]
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("PRESENT", np.full((rows, 1), names, np.object_))])
            )
        return responses
