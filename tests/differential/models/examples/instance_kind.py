# SPDX-License-Identifier: Apache-2.0
"""The example instance_kind: a model that looks at where it is to run."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        names = (
            "model_instance_kind",
            "model_instance_device_id",
            "model_instance_name",
            "model_version",
            "model_name",
        )
        self.place = " ".join(args[name] for name in names)
        self.directory = "/".join(pb_utils.get_model_dir().split("/")[-2:])
        if args["model_instance_kind"] != "CPU":
            raise pb_utils.TritonModelException("there is nothing but the CPU here")

    def execute(self, requests):
        text = np.array([self.place.encode(), self.directory.encode()], np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("PLACE", text)]) for _ in requests]
