# SPDX-License-Identifier: Apache-2.0
"""The sum and the difference of two tensors, as small as a Python model can be."""

import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    """One object for each instance; ``execute`` is handed a batch of requests and answers them in order."""

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        left = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
        right = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
        if left.shape != right.shape:
            text = f"INPUT0 and INPUT1 must have the same shape, got {list(left.shape)} and {list(right.shape)}"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUTPUT0", left + right), pb_utils.Tensor("OUTPUT1", left - right)]
        )
