# SPDX-License-Identifier: Apache-2.0
"""MLServer with a runtime of one's own and its adaptive batching: HTTP on PEER_PORT, gRPC and metrics on the next two.

It writes its settings into a folder of its own and becomes MLServer.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse
from peer_model import BATCH, PORT, Model

__all__ = ["Runtime"]


class Runtime(MLModel):  # type: ignore[misc]
    """The model ``peer``."""

    async def load(self) -> bool:
        self._model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        answer = self._model.run(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output(self._model.output, answer)
        return InferenceResponse(model_name=self.name, outputs=[output])


def _write_settings(folder: Path) -> None:
    model = Model()
    server = {"host": "127.0.0.1", "http_port": PORT, "grpc_port": PORT + 1, "metrics_port": PORT + 2}
    # the process that listens hands requests to one worker, which is its default
    (folder / "settings.json").write_text(json.dumps({**server, "debug": False, "parallel_workers": 1}))
    tensor = {"name": model.input, "datatype": "FP32", "shape": [-1, model.elements]}
    described = {"name": "peer", "implementation": "mlserver_app.Runtime", "inputs": [tensor]}
    (folder / "model-settings.json").write_text(
        json.dumps({**described, "max_batch_size": BATCH, "max_batch_time": 0.001})
    )


def _main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="peer-"))
    _write_settings(folder)
    program = Path(sys.executable).with_name("mlserver")
    os.execv(program, [str(program), "start", str(folder)])


if __name__ == "__main__":
    _main()
