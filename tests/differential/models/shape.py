# SPDX-License-Identifier: Apache-2.0
"""OUTPUT is INPUT; SHAPE is the shape in which the model saw it, for each row of a batch."""

import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.batches = json.loads(args["model_config"])["max_batch_size"] > 0

    def execute(self, requests):
        responses = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
            shape = np.array(array.shape, np.int64)
            if self.batches:
                shape = np.tile(shape, (array.shape[0], 1))
            responses.append(
                pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT", array), pb_utils.Tensor("SHAPE", shape)])
            )
        return responses
