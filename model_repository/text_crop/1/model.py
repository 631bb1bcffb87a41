# SPDX-License-Identifier: Apache-2.0
"""The detector's answer -> the lines of text, cut out. Needs the package rapidocr when it is asked, not when loaded."""

import math

import numpy as np

import triton_python_backend_utils as pb_utils

HEIGHT = 48
#: lines are padded to the widest, and at least to this share of their height
LEAST_RATIO = 320 / 48


class TritonPythonModel:
    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            from rapidocr.ch_ppocr_det.main import TextDetector
            from rapidocr.ch_ppocr_det.utils import DBPostProcess
            from rapidocr.utils.process_img import get_rotate_crop_image
        except ImportError:
            text = "this model needs the package rapidocr: pip install rapidocr==3.10.0"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, pb_utils.TritonError.UNAVAILABLE))
        picture = pb_utils.get_input_tensor_by_name(request, "padded").as_numpy()
        found = pb_utils.get_input_tensor_by_name(request, "map").as_numpy()
        find = DBPostProcess(
            thresh=0.3, box_thresh=0.5, max_candidates=1000, unclip_ratio=1.6, use_dilation=True, score_mode="fast"
        )
        boxes, _ = find(found, picture.shape[:2])
        if len(boxes) == 0:
            lines, boxes = np.zeros((1, 3, HEIGHT, 320), np.float32), np.zeros((0, 4, 2), np.float32)
        else:
            boxes = TextDetector.sorted_boxes(boxes)
            lines = _stacked([get_rotate_crop_image(picture, box.copy()) for box in boxes])
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("x", lines), pb_utils.Tensor("boxes", boxes.astype(np.float32))]
        )


def _stacked(crops):
    """The lines as CHW with values in [-1, 1], padded with zeros to one width."""
    import cv2

    ratio = max(LEAST_RATIO, *(crop.shape[1] / crop.shape[0] for crop in crops))
    stack = np.zeros((len(crops), 3, HEIGHT, int(HEIGHT * ratio)), np.float32)
    for line, crop in zip(stack, crops, strict=True):
        width = min(math.ceil(HEIGHT * crop.shape[1] / crop.shape[0]), line.shape[2])
        scaled = cv2.resize(crop, (width, HEIGHT)).astype(np.float32).transpose(2, 0, 1)
        line[:, :, :width] = (scaled / 255 - 0.5) / 0.5
    return stack
