# SPDX-License-Identifier: Apache-2.0
"""A text encoder under requests of many lengths: as it is, and with padding and length buckets.

Closed loop: so many connections, each with one text at a time, which take the texts in turn. Both models are served by
one server and take turns.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.bodies import Body
from perf.load import LoadError, measure_window
from perf.minilm import Texts, WordPieces, encoder_file, texts, vocabulary
from perf.servers import Server
from perf.tools import percentile
from perf.turns import in_turns, medians

__all__ = ["MODELS", "build_padding_repository", "measure_padding"]

_CONFIG = """
backend: "onnxruntime" max_batch_size: 32 dynamic_batching { }
input [
  { name: "input_ids" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "attention_mask" data_type: TYPE_INT64 dims: [ -1 ] },
  { name: "token_type_ids" data_type: TYPE_INT64 dims: [ -1 ] }
]
output [
  { name: "last_hidden_state" data_type: TYPE_FP32 dims: [ -1, 384 ] },
  { name: "sentence_embedding" data_type: TYPE_FP32 dims: [ 384 ] }
]
"""
_PADDED = """
parameters { key: "padding.tokens.inputs" value { string_value: "input_ids, attention_mask, token_type_ids" } }
parameters { key: "padding.tokens.outputs" value { string_value: "last_hidden_state" } }
parameters { key: "padding.tokens.buckets" value { string_value: "%s" } }
"""
_LONGEST_TEXT = 256
#: the same encoder by the name that it is served under, and what is added to its configuration
MODELS: Mapping[str, str] = {
    "unpadded": "",
    "padded": _PADDED % f"longest within multiples of 2 up to {_LONGEST_TEXT}",
}
#: FP32, of vectors of length 1
_TOLERANCE = 1e-4


def build_padding_repository(directory: Path) -> Path:
    """All of ``MODELS`` in ``directory``."""
    for name, added in MODELS.items():
        (directory / name / "1").mkdir(parents=True)
        (directory / name / "config.pbtxt").write_text(_CONFIG + added)
        shutil.copy(encoder_file(), directory / name / "1" / "model.onnx")
    return directory


def measure_padding(
    server: Server, kind: Texts, clients: int, seconds: float, rounds: int
) -> dict[str, dict[str, Any]]:
    """Figures of each model over ``rounds`` turns. Raises LoadError where the models do not answer alike."""
    pieces = WordPieces(vocabulary())
    encoded = [ids for ids in map(pieces.ids, texts(kind)) if len(ids) <= _LONGEST_TEXT]
    random.Random(0).shuffle(encoded)
    _check_answers(server, encoded[:24])
    bodies = {model: _bodies(encoded, model) for model in MODELS}
    windows = in_turns(list(MODELS), rounds, lambda model: _window(server, bodies[model], clients, seconds))
    figures = {model: medians(rows) for model, rows in windows.items()}
    lengths = sorted(map(len, encoded))
    figures["texts"] = {
        "texts": len(lengths),
        "tokens_mean": statistics.mean(lengths),
        "tokens_p50": percentile(lengths, 0.5),
        "tokens_p99": percentile(lengths, 0.99),
        "tokens_most": lengths[-1],
    }
    return figures


def _check_answers(server: Server, encoded: Sequence[Sequence[int]]) -> None:
    """The encoder gives the same vectors, and of the same lengths, whether its texts were padded or not."""
    for ids in encoded:
        given = [_ask(server, model, ids) for model in MODELS]
        for hidden, pooled in given[1:]:
            alike = hidden.shape == given[0][0].shape and np.allclose(hidden, given[0][0], atol=10 * _TOLERANCE)
            if not alike or not np.allclose(pooled, given[0][1], atol=_TOLERANCE):
                raise LoadError("padding changes the answers of the encoder")


def _ask(server: Server, model: str, ids: Sequence[int]) -> tuple[NDArray[Any], NDArray[Any]]:
    import tritonclient.http as client

    with contextlib.closing(client.InferenceServerClient(server.http)) as connection:
        answer = connection.infer(model, _inputs(ids))
    hidden, pooled = answer.as_numpy("last_hidden_state"), answer.as_numpy("sentence_embedding")
    if hidden is None or pooled is None:
        raise LoadError(f"{model} leaves out an output")
    return hidden, pooled


def _inputs(ids: Sequence[int]) -> list[Any]:
    import tritonclient.http as client

    arrays = {"input_ids": np.array([ids], np.int64)}
    arrays["attention_mask"] = np.ones_like(arrays["input_ids"])
    arrays["token_type_ids"] = np.zeros_like(arrays["input_ids"])
    inputs = []
    for name, array in arrays.items():
        inputs.append(client.InferInput(name, list(array.shape), "INT64"))
        inputs[-1].set_data_from_numpy(array)
    return inputs


def _bodies(encoded: Sequence[Sequence[int]], model: str) -> list[Body]:
    """Requests for the vector of each text."""
    import tritonclient.http as client

    wanted = [client.InferRequestedOutput("sentence_embedding", binary_data=True)]
    bodies = []
    for ids in encoded:
        content, header = client.InferenceServerClient.generate_request_body(_inputs(ids), outputs=wanted)
        bodies.append(Body(bytes(content), "http_binary", model, int(header)))
    return bodies


def _window(server: Server, bodies: Sequence[Body], clients: int, seconds: float) -> dict[str, float]:
    window = measure_window(server, bodies, clients, 1, seconds)
    if window.failures:
        raise LoadError(f"{bodies[0].model} has refused {window.failures} requests")
    shown = ("requests_per_s", "p50_us", "p99_us", "cpu_us", "mean_batch")
    return {key: getattr(window, key) for key in shown}
