# SPDX-License-Identifier: Apache-2.0
"""A picture -> what the text detector takes. Needs the package rapidocr when it is asked, not when it is loaded."""

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            from rapidocr.ch_ppocr_det.utils import DetPreProcess
            from rapidocr.utils.process_img import apply_vertical_padding, resize_image_within_bounds
        except ImportError:
            text = "this model needs the package rapidocr: pip install rapidocr==3.10.0"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.UNAVAILABLE))
        image = pb_utils.get_input_tensor_by_name(request, "IMAGE").as_numpy()
        height, width = image.shape[:2]
        # the numbers are those of the package's own configuration
        picture, ratio_h, ratio_w = resize_image_within_bounds(np.ascontiguousarray(image[..., ::-1]), 30, 2000)
        padded, record = apply_vertical_padding(picture, {}, 8, 30)
        x = DetPreProcess(736, "min")(padded)
        if x is None:
            text = f"a picture of {height} x {width} is too small to be read"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG))
        geometry = np.array([height, width, ratio_h, ratio_w, record["padding_1"]["top"]], np.float64)
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("x", x),
                pb_utils.Tensor("padded", padded),
                pb_utils.Tensor("geometry", geometry),
            ]
        )
