# SPDX-License-Identifier: Apache-2.0
"""LitServe with its dynamic batching, one worker."""

from typing import Any

import litserve
import numpy as np
from peer_model import BATCH, PORT, Model

__all__ = ["Api"]


class Api(litserve.LitAPI):  # type: ignore[misc]
    """``{"x": rows}`` -> ``{"y": rows}``; one row a request."""

    def setup(self, device: Any) -> None:
        self._model = Model()

    def decode_request(self, request):  # type: ignore[no-untyped-def] # its type would be a schema
        return np.asarray(request["x"][0], np.float32)

    def predict(self, rows: Any) -> Any:
        return self._model.run(rows)

    def encode_response(self, row: Any) -> dict[str, Any]:
        return {"y": [row.tolist()]}


def _main() -> None:
    # it collects while a batch is executed; waiting beyond that would only add to the latency
    api = Api(max_batch_size=BATCH, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=PORT, generate_client_file=False, log_level="warning", access_log=False)


if __name__ == "__main__":
    _main()
