# SPDX-License-Identifier: Apache-2.0
"""Busy for MS milliseconds; PLACE is how many were executed since the request with the parameter ``first``."""

import json
import time

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.place = 0

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        milliseconds = pb_utils.get_input_tensor_by_name(request, "MS").as_numpy()
        time.sleep(int(milliseconds.reshape(-1)[0]) / 1000)
        self.place = 0 if "first" in json.loads(request.parameters()) else self.place + 1
        return pb_utils.InferenceResponse([pb_utils.Tensor("PLACE", np.full((1, 1), self.place, np.int32))])
