# SPDX-License-Identifier: Apache-2.0
"""A server whose delays are known, to test clients and what measures servers. It does NOT run models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pyinfer._core import FakeServerCore, FakeServerReport
from pyinfer.config.messages import framed, message

__all__ = ["FakeServer"]

_SERVICE = "/inference.GRPCInferenceService"


class FakeServer:
    """Serves one model over HTTP/1.1 and gRPC, on one port of loopback; use as a context manager.

    The model has an input ``INPUT0`` and an output ``OUTPUT0``, both FP32 ``shape``, and does not batch. Its answers
    are empty. They come

    * ``delays_s`` after the request: one for each inference, in the order in which they come, over and over;
    * but not during ``stalls_s``, pairs of (begin, length), counted from the first inference: what is due then comes
      when the stall is over.

    ``ModelStreamInfer`` and ``generate_stream`` have ``responses`` responses to each request: the first comes as said
    above, each other ``gap_s`` after the one before it.

    Each ``error_every``-th inference (0: none) is answered with an error. Its thread holds no lock of Python.
    """

    def __init__(
        self,
        delays_s: Sequence[float] = (0.0,),
        *,
        stalls_s: Sequence[tuple[float, float]] = (),
        error_every: int = 0,
        responses: int = 1,
        gap_s: float = 0.0,
        model: str = "fake",
        shape: Sequence[int] = (1,),
    ) -> None:
        self._core = FakeServerCore(
            delays_ns=[round(delay * 1e9) for delay in delays_s],
            stalls_ns=[(round(begin * 1e9), round(length * 1e9)) for begin, length in stalls_s],
            error_every=error_every,
            responses=responses,
            gap_ns=round(gap_s * 1e9),
            event=json.dumps({"model_name": model, "model_version": "1"}),
            answers={**_http_answers(model, shape), **_grpc_answers(model, shape)},
            http_answer=json.dumps({"model_name": model, "model_version": "1", "outputs": []}),
            grpc_answer=framed(message("ModelInferResponse")(model_name=model, model_version="1").SerializeToString()),
        )
        self.port: int = self._core.port
        #: ``host:port``, for either protocol
        self.address = f"127.0.0.1:{self.port}"

    def __enter__(self) -> FakeServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Answer nothing more. Connections are closed when the object is freed."""
        self._core.stop()

    def report(self) -> FakeServerReport:
        """What it has done so far: the truth that a measurement is held against."""
        return self._core.report()


def _tensor(name: str, shape: Sequence[int]) -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": list(shape)}


def _http_answers(model: str, shape: Sequence[int]) -> dict[str, str]:
    metadata = {
        "name": model,
        "versions": ["1"],
        "platform": "fake",
        "inputs": [_tensor("INPUT0", shape)],
        "outputs": [_tensor("OUTPUT0", shape)],
    }
    path = f"/v2/models/{model}"
    return {path: json.dumps(metadata), f"{path}/config": json.dumps({"name": model, "max_batch_size": 0})}


def _grpc_answers(model: str, shape: Sequence[int]) -> dict[str, bytes]:
    metadata: Any = message("ModelMetadataResponse")(name=model, versions=["1"], platform="fake")
    metadata.inputs.add(name="INPUT0", datatype="FP32", shape=shape)
    metadata.outputs.add(name="OUTPUT0", datatype="FP32", shape=shape)
    config: Any = message("ModelConfigResponse")()
    config.config.name = model
    return {
        f"{_SERVICE}/ModelMetadata": framed(metadata.SerializeToString()),
        f"{_SERVICE}/ModelConfig": framed(config.SerializeToString()),
    }
