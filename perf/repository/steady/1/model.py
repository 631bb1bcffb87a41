# SPDX-License-Identifier: Apache-2.0
"""Answers with its input, 50 ms after it was asked."""

import time

import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    def execute(self, requests):
        begun = time.perf_counter()
        answers = [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())])
            for request in requests
        ]
        time.sleep(max(0.0, begun + 0.05 - time.perf_counter()))
        return answers
