# SPDX-License-Identifier: Apache-2.0
"""The example preprocessing: encoded pictures to normalized tensors, the first step of an ensemble.

The pictures are binary PPM files, which need no library.
"""

import json

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        config = pb_utils.get_output_config_by_name(json.loads(args["model_config"]), "PIXELS")
        self.type = pb_utils.triton_string_to_numpy(config["data_type"])

    def execute(self, requests):
        responses = []
        for request in requests:
            pictures = pb_utils.get_input_tensor_by_name(request, "PICTURE").as_numpy().reshape(-1)
            tensors = np.stack([self.normalized(picture) for picture in pictures]).astype(self.type)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("PIXELS", tensors)]))
        return responses

    def normalized(self, picture):
        magic, width, height, most, data = picture.split(b"\n", 4)
        if magic != b"P6":
            raise ValueError("no binary PPM")
        pixels = np.frombuffer(data, np.uint8).reshape(int(height), int(width), 3) / float(most)
        return ((pixels - 0.5) / 0.25).transpose(2, 0, 1)
