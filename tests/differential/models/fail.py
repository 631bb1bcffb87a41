# SPDX-License-Identifier: Apache-2.0
"""Fails as the request's parameter ``mode`` says."""

import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request, json.loads(request.parameters()).get("mode", "")) for request in requests]

    def answer(self, request, mode):
        data = pb_utils.get_input_tensor_by_name(request, "INPUT").as_numpy()
        # Triton does not have these names yet while it imports the module.
        Error, Response, Tensor = pb_utils.TritonError, pb_utils.InferenceResponse, pb_utils.Tensor
        good = Tensor("OUTPUT", data)
        if mode == "raise":
            raise ValueError("the model says no")
        if mode == "raise model exception":
            raise pb_utils.TritonModelException("the model says no")
        if mode == "error":
            return Response(error=Error("this one is bad"))
        if mode.startswith("code "):
            return Response(error=Error("this one is bad", getattr(Error, mode[5:])))
        if mode == "error beside outputs":
            return Response([good], error=Error("this one is bad"))
        if mode == "empty text":
            return Response(error=Error(""))
        if mode == "no outputs":
            return Response([])
        if mode == "unknown output":
            return Response([good, Tensor("OTHER", data)])
        if mode == "other type":
            return Response([Tensor("OUTPUT", data.astype(np.float64))])
        if mode == "other shape":
            return Response([Tensor("OUTPUT", data.reshape(-1))])
        return Response([good])
