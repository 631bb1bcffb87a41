# SPDX-License-Identifier: Apache-2.0
"""Completes a model configuration from what an ONNX model says of itself, and checks the two against each other.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyinfer.errors import ConfigError, ModelError

__all__ = ["Signature", "TensorInfo", "check", "complete", "model_inputs", "model_outputs"]

_SCHEDULERS = ("dynamic_batching", "sequence_batching", "ensemble_scheduling")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output of the model file."""

    name: str
    #: ``TYPE_FP32`` and its kind; the model's own name of the type where no tensor of a configuration can have it
    data_type: str
    #: all dimensions, the batch dimension among them; -1 is variable
    dims: tuple[int, ...]

    @property
    def is_tensor(self) -> bool:
        return self.data_type.startswith("TYPE_")


@dataclass(frozen=True)
class Signature:
    """What goes into and comes out of the model file, in its order."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    #: inputs that have a default in the model
    optional_inputs: tuple[TensorInfo, ...] = ()

    @property
    def batches(self) -> bool:
        """Whether the first dimension of every input and output is variable, so that it can be the batch's."""
        return all(tensor.dims[:1] == (-1,) for tensor in (*self.inputs, *self.outputs))


def model_inputs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the model is fed by ``config``: the inputs of requests, and the tensors that the scheduler adds to them."""
    added = [*_control_inputs(config), *_states(config, "input_name"), *_batch_inputs(config), *_lengths(config)]
    return [*config.get("input", ()), *added]


def model_outputs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What the model is asked for by ``config``: the outputs of requests, and the state that is not among them."""
    # how those look that are cut by the shape of an input is told by the requests of a batch alone
    scattered = {name for one in config.get("batch_output", ()) for name in one["target_name"]}
    outputs = [
        {**entry, "dims": None} if entry.get("name") in scattered else entry for entry in config.get("output", ())
    ]
    names = {entry["name"] for entry in outputs}
    return [*outputs, *(state for state in _states(config, "output_name") if state["name"] not in names)]


def _states(config: Mapping[str, Any], field: str) -> list[Mapping[str, Any]]:
    states = config.get("sequence_batching", {}).get("state", ())
    return [{"name": state[field], "data_type": state["data_type"], "dims": state["dims"]} for state in states]


def _control_inputs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    inputs = config.get("sequence_batching", {}).get("control_input", ())
    return [
        {"name": one["name"], "data_type": _control_type(control), "dims": [1]}
        for one in inputs
        for control in one["control"]
    ]


def _control_type(control: Mapping[str, Any]) -> str:
    fields = (("int32_false_true", "TYPE_INT32"), ("fp32_false_true", "TYPE_FP32"), ("bool_false_true", "TYPE_BOOL"))
    told = next((data_type for field, data_type in fields if control.get(field)), None)
    return told or str(control.get("data_type", "TYPE_INVALID"))


def _batch_inputs(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        {"name": name, "data_type": one["data_type"], "dims": None}
        for one in config.get("batch_input", ())
        for name in one["target_name"]
    ]


def _lengths(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Inputs that are told how long requests were before they were padded."""
    keys = [key for key in config.get("parameters", {}) if re.fullmatch(r"padding\.[^.]+\.lengths", key)]
    told = [str(config["parameters"][key].get("string_value", "")).split() for key in keys]
    return [{"name": words[0], "data_type": words[-1], "dims": None} for words in told if words]


def complete(
    config: Mapping[str, Any], signature: Signature, model: str, default_max_batch_size: int
) -> dict[str, Any]:
    """``config`` with tensors and batching filled in where it has no inputs or no outputs; else only types and dims.

    Raises ConfigError for ``max_batch_size`` > 0 on a model that has no batch dimension.
    """
    completed = dict(config)
    size = int(completed.get("max_batch_size", 0))
    if not (completed.get("input") and completed.get("output")):
        if not signature.batches:
            if size > 0:
                raise ConfigError(
                    f"autofill failed for model '{model}': model does not support batching while non-zero "
                    "max_batch_size is specified"
                )
        elif size == 0 and not _has_full_rank(completed, signature):
            size = completed["max_batch_size"] = max(default_max_batch_size, 0)
        if size > 1 and not any(scheduler in completed for scheduler in _SCHEDULERS):
            completed["dynamic_batching"] = {}
    added = {entry["name"] for entry in (*model_inputs({**config, "input": ()}), *_states(config, "output_name"))}
    for kind, every in (("input", signature.inputs), ("output", signature.outputs)):
        tensors = [tensor for tensor in every if tensor.name not in added]
        given = completed.get(kind)
        if given:
            known = {tensor.name: tensor for tensor in (*tensors, *signature.optional_inputs)}
            completed[kind] = [_filled(entry, known.get(entry.get("name", "")), size > 0) for entry in given]
        else:
            completed[kind] = [_declared(tensor, kind, model, size > 0) for tensor in tensors]
    return completed


def check(config: Mapping[str, Any], signature: Signature, model: str) -> None:
    """Raise ConfigError where ``config`` and the model disagree on names, data types or dims, naming both sides."""
    batching = int(config.get("max_batch_size", 0)) > 0
    inputs = model_inputs(config)
    allowed = {tensor.name: tensor for tensor in (*signature.inputs, *signature.optional_inputs)}
    _check_controls(config, allowed, model, batching)
    for entry in inputs:
        _check_tensor(entry, allowed, "input", model, batching)
    given = {entry["name"] for entry in inputs}
    missing = [tensor.name for tensor in signature.inputs if tensor.name not in given]
    if missing:
        raise ConfigError(
            f"unable to load model '{model}', configuration expects {len(inputs)} inputs, model provides "
            f"{len(signature.inputs)}; missing: {', '.join(missing)}"
        )
    produced = {tensor.name: tensor for tensor in signature.outputs}
    for entry in model_outputs(config):
        _check_tensor(entry, produced, "output", model, batching)


def _check_controls(config: Mapping[str, Any], allowed: Mapping[str, TensorInfo], model: str, batching: bool) -> None:
    for entry in _control_inputs(config):
        tensor = allowed.get(entry["name"])
        if tensor is None:
            raise ConfigError(
                f"configuration specified sequence control '{entry['name']}', but model does not provide that input"
            )
        dims = tensor.dims[1 if batching else 0 :]
        if dims not in ((1,), (-1,)):
            raise ConfigError(
                f"unable to load model '{model}', sequence control '{entry['name']}' in model has dims {_shown(dims)} "
                "but dims [1] is expected"
            )


def _has_full_rank(config: Mapping[str, Any], signature: Signature) -> bool:
    """Whether the user has written a tensor with all of the model's dimensions, hence without batching."""
    ranks = {tensor.name: len(tensor.dims) for tensor in (*signature.inputs, *signature.outputs)}
    entries = (*config.get("input", ()), *config.get("output", ()))
    return any(entry.get("dims") and len(entry["dims"]) == ranks.get(entry.get("name")) for entry in entries)


def _declared(tensor: TensorInfo, kind: str, model: str, batching: bool) -> dict[str, Any]:
    if not tensor.is_tensor:
        raise ModelError(
            f"{kind} '{tensor.name}' of model '{model}' has the type {tensor.data_type}, which is no tensor that can "
            f"be served; name the {kind}s to use in the model configuration"
        )
    return _filled({"name": tensor.name}, tensor, batching)


def _filled(entry: Mapping[str, Any], tensor: TensorInfo | None, batching: bool) -> dict[str, Any]:
    filled = dict(entry)
    if tensor is None or not tensor.is_tensor:
        return filled
    if filled.get("data_type", "TYPE_INVALID") == "TYPE_INVALID":
        filled["data_type"] = tensor.data_type
    if not filled.get("dims"):
        dims = list(tensor.dims[1:] if batching else tensor.dims)
        # A configuration can not say "no dimensions" but by a reshape.
        filled["dims"] = dims or [1]
        if not dims:
            filled["reshape"] = {"shape": []}
    return filled


def _check_tensor(
    entry: Mapping[str, Any], known: Mapping[str, TensorInfo], kind: str, model: str, batching: bool
) -> None:
    name = entry["name"]
    tensor = known.get(name)
    if tensor is None:
        listed = ", ".join(known)
        raise ConfigError(f"unexpected inference {kind} '{name}', allowed {kind}s are: {listed}, for model '{model}'")
    if entry.get("data_type") != tensor.data_type:
        raise ConfigError(
            f"unable to load model '{model}', configuration expects datatype {entry.get('data_type')} for {kind} "
            f"'{name}', model provides {tensor.data_type}"
        )
    reshape = entry.get("reshape")
    if entry.get("dims", ()) is None:
        return  # its shape follows from the requests of a batch
    if entry.get("allow_ragged_batch"):
        _check_ragged(entry, tensor, model)
        return
    dims = list(entry.get("dims", ()) if reshape is None else reshape.get("shape", ()))
    if batching and tensor.dims[:1] != (-1,):
        raise ConfigError(
            f"model '{model}', tensor '{name}': for the model to support batching the shape should have at least 1 "
            f"dimension and the first dimension must be -1; but shape expected by the model is {_shown(tensor.dims)}"
        )
    if not tensor.dims and not batching:
        # a configuration can not say "no dimensions", so a scalar of the model is written as dims: [1]
        if all(dim == 1 for dim in dims):
            return
        raise ConfigError(
            f"unable to load model '{model}', scalar tensor '{name}', should only provide 1 in the model configuration "
            f"when the model doesn't support batching. Model configuration provided: {_shown(dims)}."
        )
    whole = [-1, *dims] if batching else dims
    same_rank = len(whole) == len(tensor.dims)
    if same_rank and all(-1 in pair or pair[0] == pair[1] for pair in zip(whole, tensor.dims, strict=True)):
        return
    how = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete "
        "shape "
        if batching
        else "shape "
    )
    raise ConfigError(
        f"model '{model}', tensor '{name}': the model expects {len(tensor.dims)} dimensions (shape "
        f"{_shown(tensor.dims)}) but the model configuration specifies {len(whole)} dimensions ({how}{_shown(whole)})"
    )


def _check_ragged(entry: Mapping[str, Any], tensor: TensorInfo, model: str) -> None:
    if entry.get("optional"):
        raise ConfigError(
            f"unable to load model '{model}', configuration expects model provides input with shape [-1] for ragged "
            f"input '{tensor.name}', which is not supported for optional input"
        )
    if tensor.dims != (-1,):
        # the two blanks are in the message that operators know
        raise ConfigError(
            f"unable to load model '{model}', configuration expects model provides input with shape [-1]  for ragged "
            f"input '{tensor.name}', model provides {_shown(tensor.dims)}"
        )


def _shown(dims: Sequence[int]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"
