# SPDX-License-Identifier: Apache-2.0
"""Identity: output i is input i, in the order of the configuration."""

import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.pairs = [(i["name"], o["name"]) for i, o in zip(config["input"], config["output"])]

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(output, pb_utils.get_input_tensor_by_name(request, name).as_numpy())
                    for name, output in self.pairs
                ]
            )
            for request in requests
        ]
