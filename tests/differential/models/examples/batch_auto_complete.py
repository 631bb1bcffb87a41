# SPDX-License-Identifier: Apache-2.0
"""The example auto_complete, with batching: add_sub that brings its own configuration."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        config = auto_complete_model_config
        known = config.as_dict()
        inputs = [entry["name"] for entry in known["input"]]
        outputs = [entry["name"] for entry in known["output"]]
        for name in ("INPUT0", "INPUT1"):
            if name not in inputs:
                config.add_input({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        for name in ("OUTPUT0", "OUTPUT1"):
            if name not in outputs:
                config.add_output({"name": name, "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(4)
        config.set_dynamic_batching()
        return config

    def execute(self, requests):
        responses = []
        for request in requests:
            one = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            other = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            tensors = [pb_utils.Tensor("OUTPUT0", one + other), pb_utils.Tensor("OUTPUT1", one - other)]
            responses.append(pb_utils.InferenceResponse(tensors))
        return responses
