# SPDX-License-Identifier: Apache-2.0
"""The examples of the documentation of Triton's Python backend, made anew from their descriptions.

The programs are in ``models/examples/``; docs/python-models.md lists them.
"""

from __future__ import annotations

from differential.repository import Model

__all__ = ["EXAMPLES"]

_DECOUPLED = "model_transaction_policy { decoupled: true }"
_SUMS = (["INPUT0 FP32 4", "INPUT1 FP32 4"], ["OUTPUT0 FP32 4", "OUTPUT1 FP32 4"])
_NAMED = (["MODEL_NAME BYTES 1", *_SUMS[0]], _SUMS[1])
_ITERATIVE = "sequence_batching { iterative_sequence: true }"
_ENSEMBLE = """
platform: "ensemble"
input [ { name: "PICTURE" data_type: TYPE_STRING dims: [ 1 ] } ]
output [ { name: "FEATURES" data_type: TYPE_FP32 dims: [ 1, 3, 2, 2 ] } ]
ensemble_scheduling { step [
  { model_name: "preprocessing" model_version: -1
    input_map { key: "PICTURE" value: "PICTURE" } output_map { key: "PIXELS" value: "pixels" } },
  { model_name: "features" model_version: -1
    input_map { key: "INPUT0" value: "pixels" } output_map { key: "OUTPUT0" value: "FEATURES" } } ] }
"""


def _config(inputs: list[str], outputs: list[str], *, batch: int = 0, more: str = "") -> str:
    """config.pbtxt of tensors that are given as ``"NAME TYPE dims"``."""

    def entries(tensors: list[str]) -> str:
        fields = (tensor.replace("BYTES", "STRING").split() for tensor in tensors)
        return ", ".join(f'{{ name: "{name}" data_type: TYPE_{kind} dims: [ {dims} ] }}' for name, kind, dims in fields)

    group = "instance_group [ { count: 1 kind: KIND_CPU } ]"
    tensors = f"input [ {entries(inputs)} ] output [ {entries(outputs)} ]"
    return f'backend: "python" max_batch_size: {batch} {tensors} {group} {more}'


def _example(name: str, inputs: list[str], outputs: list[str], program: str = "", more: str = "") -> Model:
    return Model(name, f"examples/{program or name}", _config(inputs, outputs, more=more))


EXAMPLES: tuple[Model, ...] = (
    _example("add_sub", *_SUMS),
    _example("add_sub_too", *_SUMS, "add_sub"),
    Model("nobatch_auto_complete", "examples/nobatch_auto_complete"),
    Model("batch_auto_complete", "examples/batch_auto_complete"),
    _example("bls_sync", *_NAMED),
    _example("bls_async", *_SUMS),
    _example("bls_decoupled_sync", ["IN INT32 1"], ["SUM INT32 1"]),
    _example("bls_decoupled_async", ["IN INT32 1"], ["SUM INT32 1"]),
    _example(
        "repeat_int32",
        ["IN INT32 -1", "DELAY UINT32 -1", "WAIT UINT32 1"],
        ["OUT INT32 1", "IDX UINT32 1"],
        more=_DECOUPLED,
    ),
    _example("square_int32", ["IN INT32 1"], ["OUT INT32 1"], more=_DECOUPLED),
    _example("custom_metrics", ["IN FP32 1"], ["VALUES FP64 2"]),
    _example("instance_kind", ["IN FP32 1"], ["PLACE BYTES 2"]),
    _example("preprocessing", ["PICTURE BYTES 1"], ["PIXELS FP32 1,3,2,2"]),
    Model("features", "echo", _config(["INPUT0 FP32 1,3,2,2"], ["OUTPUT0 FP32 1,3,2,2"])),
    Model("preprocessed", "", _ENSEMBLE),
    Model(
        "generative",
        "examples/generative",
        _config(["IN INT32 1"], ["LEFT INT32 1"], batch=4, more=f"{_DECOUPLED} {_ITERATIVE}"),
    ),
    _example("awaits", ["IN INT32 -1"], ["OUT INT32 1"], more=_DECOUPLED),
)
