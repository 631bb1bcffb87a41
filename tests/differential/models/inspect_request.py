# SPDX-License-Identifier: Apache-2.0
"""REQUEST: what the model can see of its request, as JSON. Parameters of the request become those of the response."""

import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        parameters = json.loads(request.parameters())
        seen = {
            "id": request.request_id(),
            "correlation": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "outputs": sorted(request.requested_output_names()),
            "parameters": parameters,
        }
        text = json.dumps(seen, sort_keys=True).encode()
        kept = {key: value for key, value in parameters.items() if key.startswith("keep")}
        tensors = [
            pb_utils.Tensor("REQUEST", np.array([text], np.object_)),
            pb_utils.Tensor("SIZE", np.array([len(text)], np.int32)),
        ]
        try:
            return pb_utils.InferenceResponse(tensors, parameters=kept)
        except TypeError:  # before Triton 2.53
            return pb_utils.InferenceResponse(tensors)
