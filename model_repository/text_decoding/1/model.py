# SPDX-License-Identifier: Apache-2.0
"""The recogniser's answer -> text. ``characters.txt``, which fetch.py makes, has one character a line."""

from pathlib import Path

import numpy as np

import triton_python_backend_utils as pb_utils

LEAST_SCORE = 0.5


class TritonPythonModel:
    def initialize(self, args):
        listed = (Path(args["model_repository"]) / args["model_version"] / "characters.txt").read_text("utf-8")
        # the first of the model's classes is "no character", the last a blank
        self.characters = np.array(["", *listed.split("\n")[:-1], " "])

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        given = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        height, width, ratio_h, ratio_w, top = given["geometry"]
        texts, scores, kept = [], [], []
        for index in range(len(given["boxes"])):
            text, score = self._read(given["characters"][index])
            if text.strip() and score >= LEAST_SCORE:
                texts.append(text)
                scores.append(score)
                kept.append(index)
        boxes = given["boxes"][kept]
        boxes = (boxes - np.array([0, top], np.float32)) * np.array([ratio_w, ratio_h], np.float32)
        boxes = np.clip(boxes, 0, np.array([width, height], np.float32))
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor("TEXT", np.array(texts, dtype=np.object_)),
                pb_utils.Tensor("SCORE", np.array(scores, np.float32)),
                pb_utils.Tensor("BOX", boxes.astype(np.float32)),
            ]
        )

    def _read(self, likely):
        """The text of one line: the best class of each column, less repetitions and what is no character."""
        best = likely.argmax(axis=1)
        keep = best != 0
        keep[1:] &= best[1:] != best[:-1]
        scores = [round(float(score), 5) for score in likely.max(axis=1)[keep]]
        return "".join(self.characters[best[keep]]), round(float(np.mean(scores)), 5) if scores else 0.0
