# SPDX-License-Identifier: Apache-2.0
"""A text encoder as an ONNX model: the graph of BERT, around weights that come from elsewhere.

Inputs ``input_ids``, ``attention_mask`` and ``token_type_ids``, INT64 [n, tokens]; outputs ``last_hidden_state``, FP32
[n, tokens, hidden], and ``sentence_embedding``, FP32 [n, hidden]: the mean over the tokens that the mask has, scaled
to length 1.
Tokens that the mask leaves out change nothing of the others. It knows nothing of any package that carries weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Encoder", "build_encoder", "random_weights"]

_Weights = Mapping[str, NDArray[np.float32]]

#: added to the scores of tokens that the mask leaves out: their share is exactly 0
_MASKED = -1e30
_OPSET = 17


@dataclass(frozen=True)
class Encoder:
    """Sizes of a BERT."""

    layers: int
    hidden: int
    heads: int
    inner: int
    vocabulary: int = 30522
    positions: int = 512
    epsilon: float = 1e-12


def random_weights(encoder: Encoder, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Weights as a BERT is begun with, by the names that its checkpoints have; the same for the same seed."""
    random = np.random.default_rng(seed)

    def normal(*shape: int) -> NDArray[np.float32]:
        return (0.05 * random.standard_normal(shape)).astype(np.float32)

    weights = {
        "embeddings.word_embeddings.weight": normal(encoder.vocabulary, encoder.hidden),
        "embeddings.position_embeddings.weight": normal(encoder.positions, encoder.hidden),
        "embeddings.token_type_embeddings.weight": normal(2, encoder.hidden),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(encoder.layers):
        prefix = f"encoder.layer.{layer}"
        norms += [f"{prefix}.attention.output.LayerNorm", f"{prefix}.output.LayerNorm"]
        for name, rows, columns in _dense_layers(encoder):
            weights[f"{prefix}.{name}.weight"] = normal(rows, columns)
            weights[f"{prefix}.{name}.bias"] = normal(rows)
    for name in norms:
        weights[f"{name}.weight"] = np.ones(encoder.hidden, np.float32)
        weights[f"{name}.bias"] = np.zeros(encoder.hidden, np.float32)
    return weights


def _dense_layers(encoder: Encoder) -> list[tuple[str, int, int]]:
    square = [f"attention.self.{one}" for one in ("query", "key", "value")] + ["attention.output.dense"]
    wide = [("intermediate.dense", encoder.inner, encoder.hidden), ("output.dense", encoder.hidden, encoder.inner)]
    return [(name, encoder.hidden, encoder.hidden) for name in square] + wide


def build_encoder(encoder: Encoder, weights: _Weights) -> bytes:
    """The model file. Raises KeyError where ``weights`` lack one."""
    return _Graph(encoder, weights).build()


class _Graph:
    """Nodes and initializers, in order; each method returns the name of what it computes."""

    def __init__(self, encoder: Encoder, weights: _Weights) -> None:
        self._encoder = encoder
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: dict[str, NDArray[Any]] = {}

    def build(self) -> bytes:
        from onnx import TensorProto, checker, helper, numpy_helper

        hidden, mask = self._embedded(), self._mask()
        for layer in range(self._encoder.layers):
            hidden = self._layer(f"encoder.layer.{layer}", hidden, mask)
        self._node("Identity", hidden, out="last_hidden_state")
        self._pooled(hidden)
        whole, size = ["batch", "tokens"], self._encoder.hidden
        names = ("input_ids", "attention_mask", "token_type_ids")
        graph = helper.make_graph(
            self._nodes,
            "encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, whole) for name in names],
            [
                helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*whole, size]),
                helper.make_tensor_value_info("sentence_embedding", TensorProto.FLOAT, ["batch", size]),
            ],
            [numpy_helper.from_array(array, name) for name, array in self._initializers.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
        checker.check_model(model)
        return bytes(model.SerializeToString())

    def _node(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = out or f"{kind.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def _constant(self, name: str, value: Any, kind: Any) -> str:
        self._initializers[name] = np.array(value, kind)
        return name

    def _weight(self, name: str, *, transposed: bool = False) -> str:
        array = self._weights[name]
        self._initializers[name] = np.ascontiguousarray(array.T if transposed else array, np.float32)
        return name

    def _embedded(self) -> str:
        words = self._node("Gather", self._weight("embeddings.word_embeddings.weight"), "input_ids")
        types = self._node("Gather", self._weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        tokens = self._node("Shape", "input_ids", start=1, end=2)
        zero, axis = self._constant("zero", [0], np.int64), self._constant("axis_0", [0], np.int64)
        table = self._weight("embeddings.position_embeddings.weight")
        positions = self._node("Slice", table, zero, tokens, axis)
        return self._norm("embeddings.LayerNorm", self._node("Add", self._node("Add", words, types), positions))

    def _mask(self) -> str:
        """[n, 1, 1, tokens]: what is added to the scores."""
        axes = self._constant("axes_1_2", [1, 2], np.int64)
        present = self._node("Cast", self._node("Unsqueeze", "attention_mask", axes), to=1)
        absent = self._node("Sub", self._constant("one", 1.0, np.float32), present)
        return self._node("Mul", absent, self._constant("masked", _MASKED, np.float32))

    def _norm(self, name: str, value: str) -> str:
        scale, bias = self._weight(f"{name}.weight"), self._weight(f"{name}.bias")
        return self._node("LayerNormalization", value, scale, bias, axis=-1, epsilon=self._encoder.epsilon)

    def _dense(self, name: str, value: str) -> str:
        product = self._node("MatMul", value, self._weight(f"{name}.weight", transposed=True))
        return self._node("Add", product, self._weight(f"{name}.bias"))

    def _layer(self, prefix: str, hidden: str, mask: str) -> str:
        attended = self._dense(
            f"{prefix}.attention.output.dense", self._attention(f"{prefix}.attention.self", hidden, mask)
        )
        hidden = self._norm(f"{prefix}.attention.output.LayerNorm", self._node("Add", attended, hidden))
        inner = self._gelu(self._dense(f"{prefix}.intermediate.dense", hidden))
        outer = self._dense(f"{prefix}.output.dense", inner)
        return self._norm(f"{prefix}.output.LayerNorm", self._node("Add", outer, hidden))

    def _attention(self, prefix: str, hidden: str, mask: str) -> str:
        size = self._encoder.hidden // self._encoder.heads
        apart = self._constant("apart", [0, 0, self._encoder.heads, size], np.int64)
        queries, keys, values = (
            self._node(
                "Transpose",
                self._node("Reshape", self._dense(f"{prefix}.{one}", hidden), apart),
                perm=[0, 2, 3, 1] if one == "key" else [0, 2, 1, 3],
            )
            for one in ("query", "key", "value")
        )
        root = self._constant("root", 1 / np.sqrt(size), np.float32)
        scores = self._node("Add", self._node("Mul", self._node("MatMul", queries, keys), root), mask)
        mixed = self._node("MatMul", self._node("Softmax", scores, axis=-1), values)
        together = self._constant("together", [0, 0, self._encoder.hidden], np.int64)
        return self._node("Reshape", self._node("Transpose", mixed, perm=[0, 2, 1, 3]), together)

    def _gelu(self, value: str) -> str:
        root, one, half = (
            self._constant(name, number, np.float32)
            for name, number in (("root_2", np.sqrt(2)), ("one", 1.0), ("half", 0.5))
        )
        share = self._node("Add", self._node("Erf", self._node("Div", value, root)), one)
        return self._node("Mul", self._node("Mul", value, share), half)

    def _pooled(self, hidden: str) -> None:
        tokens, last = self._constant("axis_1", [1], np.int64), self._constant("axis_2", [2], np.int64)
        present = self._node("Unsqueeze", self._node("Cast", "attention_mask", to=1), last)
        total = self._node("ReduceSum", self._node("Mul", hidden, present), tokens, keepdims=0)
        length = self._node("ReduceL2", total, axes=[1], keepdims=1)
        tiny = self._constant("tiny", 1e-9, np.float32)
        self._node("Div", total, self._node("Max", length, tiny), out="sentence_embedding")
