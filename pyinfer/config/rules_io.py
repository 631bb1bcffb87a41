# SPDX-License-Identifier: Apache-2.0
"""Rules about the tensors of a model configuration. Pure; the order of the rules is the order of the messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

from pyinfer.config.source import FieldPath

__all__ = ["Fault", "tensor_faults"]

_TENSORRT = "tensorrt_plan"
_MAX_ELEMENTS = 2**63 - 1


class Fault(NamedTuple):
    """A broken rule: what a client is told, and the field that breaks it."""

    message: str
    path: FieldPath
    #: the other field that the rule looks at, of the model or of the same tensor: unless that is known for sure, the
    #: fault is not either
    needs: str = ""


def tensor_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of inputs, outputs and batch inputs and outputs; each message ends `` for <model>``."""
    suffix = f" for {config['name']}"
    for kind in ("input", "output"):
        seen: set[str] = set()
        for index, io in enumerate(config[kind]):
            for fault in _one_tensor(kind, io, config):
                yield fault._replace(message=fault.message + suffix, path=(kind, index, *fault.path))
            if io["name"] in seen:
                yield Fault(f"model {kind} '{io['name']}' is specified more than once{suffix}", (kind, index, "name"))
            seen.add(io["name"])
    for fault in _batch_io(config):
        yield fault._replace(message=fault.message + suffix)


def _one_tensor(kind: str, io: Mapping[str, Any], config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of one tensor, their paths from the tensor on."""
    yield from _shape(f"model {kind} ", io, config["max_batch_size"])
    is_tensorrt = config["platform"] == _TENSORRT
    if kind == "input" and io["format"] != "FORMAT_NONE" and len(io["dims"]) != 3:
        yield Fault("model input NHWC/NCHW require 3 dims", ("format",))
    if io["is_shape_tensor"] and not is_tensorrt:
        yield Fault("shape tensors are only supported for TensorRT platform", ("is_shape_tensor",))
    if io["is_non_linear_format_io"]:
        if not is_tensorrt:
            yield Fault(
                "Non-linear IO format is only supported for the TensorRT platform", ("is_non_linear_format_io",)
            )
        elif len(io["dims"]) != 3:
            yield Fault(f"Non-linear IO format {kind} requires 3 dims", ("is_non_linear_format_io",))


def _shape(prefix: str, io: Mapping[str, Any], max_batch_size: int) -> Iterator[Fault]:
    if not io["name"]:
        yield Fault(f"{prefix}must specify 'name'", ())
    prefix += f"'{io['name']}' "
    dims: Sequence[int] = io["dims"]
    # an enum keeps a number that it has no name for
    if io["data_type"] == "TYPE_INVALID" or isinstance(io["data_type"], int):
        yield Fault(f"{prefix}must specify 'data_type'", ("data_type",))
    if not dims:
        yield Fault(f"{prefix}must specify 'dims'", ("dims",))
    reshape: Sequence[int] | None = io["reshape"]["shape"] if "reshape" in io else None
    if reshape == [] and max_batch_size == 0:
        yield Fault(
            f"{prefix}cannot have empty reshape for non-batching model as scalar tensors are not supported",
            ("reshape",),
            needs="max_batch_size",
        )
    variable = "to indicate a variable-size dimension"
    if any(dim < 1 and dim != -1 for dim in dims):
        yield Fault(f"{prefix}dimension must be integer >= 1, or -1 {variable}", ("dims",))
    elif _largest_run(dims) > _MAX_ELEMENTS:
        yield Fault(f"{prefix}has more than {_MAX_ELEMENTS} elements", ("dims",))
    if reshape is None:
        return
    if any(dim < 1 and dim != -1 for dim in reshape):
        yield Fault(f"{prefix}reshape dimensions must be integer >= 1, or -1 {variable}", ("reshape",))
    else:
        yield from _reshape(prefix, dims, reshape)


def _reshape(prefix: str, dims: Sequence[int], reshape: Sequence[int]) -> Iterator[Fault]:
    runs, reshape_runs = _runs(dims), _runs(reshape)
    # a shape has one run more than it has wildcards; without one of them there is nothing to pair with
    one_is_fixed = (len(runs) == 1) != (len(reshape_runs) == 1)
    if len(runs) != len(reshape_runs) and not one_is_fixed:
        yield Fault(
            f"{prefix}has different number of variable-size dimensions for dims and reshape", ("reshape",), "dims"
        )
    elif runs != reshape_runs:
        yield Fault(f"{prefix}has different size for dims and reshape", ("reshape",), "dims")


def _runs(dims: Sequence[int]) -> list[int]:
    """Element counts of the parts between variable dimensions; an empty part counts 1."""
    runs: list[list[int]] = [[]]
    for dim in dims:
        if dim == -1:
            runs.append([])
        else:
            runs[-1].append(dim)
    return [prod(run) for run in runs]


def _largest_run(dims: Sequence[int]) -> int:
    return prod(dim for dim in dims if dim != -1)


def _batch_io(config: Mapping[str, Any]) -> Iterator[Fault]:
    inputs = {io["name"] for io in config["input"]}
    outputs = {io["name"] for io in config["output"]}
    for index, one in enumerate(config["batch_input"]):
        path: FieldPath = ("batch_input", index)
        yield from _sources("batch input", one, path)
        if one["data_type"] not in ("TYPE_INT32", "TYPE_FP32"):
            yield Fault("batch input data type must be TYPE_INT32 or TYPE_FP32", (*path, "data_type"))
        yield from _unknown_sources(one, inputs, path)
    for index, one in enumerate(config["batch_output"]):
        path = ("batch_output", index)
        yield from _sources("batch output", one, path)
        yield from _unknown_sources(one, inputs, path)
        for position, name in enumerate(one["target_name"]):
            if name not in outputs:
                yield Fault(f"unknown target output name '{name}'", (*path, "target_name"), needs="output")
            if name in one["target_name"][:position]:
                yield Fault(f"target output name '{name}' can only be specified once", (*path, "target_name"))


def _sources(noun: str, one: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    if isinstance(one["kind"], int):
        yield Fault(f"unknown {noun} kind '{one['kind']}'", (*path, "kind"))
    elif len(one["source_input"]) != 1:
        count = len(one["source_input"])
        yield Fault(f"{noun} kind '{one['kind']}' expects 1 source input, got {count}", (*path, "source_input"))


def _unknown_sources(one: Mapping[str, Any], inputs: set[str], path: FieldPath) -> Iterator[Fault]:
    for name in one["source_input"]:
        if name not in inputs:
            yield Fault(f"unknown source input name '{name}'", (*path, "source_input"), needs="input")
