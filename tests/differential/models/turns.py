# SPDX-License-Identifier: Apache-2.0
"""Busy for MS milliseconds; PLACE is how many executions of all models of this server there were since the parameter
``first``. Only one of them may execute at a time, but for requests with the parameter ``wait``.
"""

import json
import time
from hashlib import sha256
from pathlib import Path

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        # both servers have these models; each has its own utilities
        server = sha256(pb_utils.__file__.encode()).hexdigest()
        self.places = Path(args["model_repository"]).parent / "holder" / f"places-{server}"

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        parameters = json.loads(request.parameters())
        place = 0
        if not parameters.keys() & {"first", "wait"}:
            place = int(self.places.read_text()) + 1
        if "wait" not in parameters:
            self.places.write_text(str(place))
        milliseconds = pb_utils.get_input_tensor_by_name(request, "MS").as_numpy()
        time.sleep(int(milliseconds.reshape(-1)[0]) / 1000)
        return pb_utils.InferenceResponse([pb_utils.Tensor("PLACE", np.full((1, 1), place, np.int32))])
