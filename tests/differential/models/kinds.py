# SPDX-License-Identifier: Apache-2.0
"""The scores of the input in each data type, for classification."""

import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.outputs = {o["name"]: o["data_type"] for o in json.loads(args["model_config"])["output"]}

    def execute(self, requests):
        return [pb_utils.InferenceResponse(list(self.tensors(request))) for request in requests]

    def tensors(self, request):
        scores = pb_utils.get_input_tensor_by_name(request, "SCORES").as_numpy()
        for name, kind in self.outputs.items():
            if kind == "TYPE_STRING":
                yield pb_utils.Tensor(name, scores.astype(str).astype(np.object_))
            else:
                yield pb_utils.Tensor(name, scores.astype(pb_utils.triton_string_to_numpy(kind)))
