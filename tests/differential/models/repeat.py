# SPDX-License-Identifier: Apache-2.0
"""Decoupled: one response for each element of IN, then the end. ``mode`` asks for errors in between."""

import json

import numpy as np

import triton_python_backend_utils as pb_utils

FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            self.answer(request, request.get_response_sender(), json.loads(request.parameters()).get("mode", ""))

    def answer(self, request, sender, mode):
        values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy().reshape(-1)
        if mode == "raise":
            raise ValueError("the model says no")
        for index, value in enumerate(values):
            if mode == "error at 1" and index == 1:
                response = pb_utils.InferenceResponse(error=pb_utils.TritonError("this one is bad"))
            else:
                out, place = np.array([value], np.int32), np.array([index], np.uint32)
                response = pb_utils.InferenceResponse([pb_utils.Tensor("OUT", out), pb_utils.Tensor("INDEX", place)])
            if mode == "final with the last" and index == len(values) - 1:
                sender.send(response, flags=FINAL)
                return
            sender.send(response)
        sender.send(flags=FINAL)
