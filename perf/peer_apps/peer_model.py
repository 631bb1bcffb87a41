# SPDX-License-Identifier: Apache-2.0
"""What every peer serves: PEER_MODEL, an ONNX file with one input and one output of FP32 rows, on PEER_PORT."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["BATCH", "PORT", "Model"]

PORT = int(os.environ["PEER_PORT"])
#: rows that a peer with a batcher puts together at most, as in the configuration of pyinfer's model
BATCH = 64


class Model:
    """One session on one thread, as pyinfer's model has it."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            os.environ["PEER_MODEL"], options, providers=["CPUExecutionProvider"]
        )
        (given,), (wanted,) = self._session.get_inputs(), self._session.get_outputs()
        self.input, self.output, self.elements = given.name, wanted.name, given.shape[1]

    def run(self, rows: Any) -> NDArray[np.float32]:
        """FP32 [n, elements] -> FP32 [n, m]."""
        (answer,) = self._session.run([self.output], {self.input: np.asarray(rows, np.float32)})
        return np.asarray(answer)
