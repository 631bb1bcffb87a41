# SPDX-License-Identifier: Apache-2.0
"""Answers each request with its own input, untouched."""

from __future__ import annotations

import triton_python_backend_utils as pb_utils

__all__ = ["TritonPythonModel"]


class TritonPythonModel:
    def execute(self, requests: list[pb_utils.InferenceRequest]) -> list[pb_utils.InferenceResponse]:
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "STRINGS")
            assert given is not None
            responses.append(pb_utils.InferenceResponse([given]))
        return responses
