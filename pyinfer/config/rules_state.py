# SPDX-License-Identifier: Apache-2.0
"""Rules about the implicit state of sequences (``sequence_batching.state``). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.config.rules_io import Fault
from pyinfer.config.source import FieldPath

__all__ = ["state_faults"]


def state_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of the states of a normalized configuration."""
    states: Sequence[Mapping[str, Any]] = config.get("sequence_batching", {}).get("state", ())
    inputs = {tensor["name"] for tensor in config["input"]}
    for index, state in enumerate(states):
        path: FieldPath = ("sequence_batching", "state", index)
        name = state["input_name"]
        yield from _tensor(state, path)
        for field in ("input_name", "output_name"):
            if state[field] and state[field] in [other[field] for other in states[:index]]:
                noun = field.partition("_")[0]
                yield Fault(f"State {noun} name '{state[field]}' specified more than once.", (*path, field))
        if name in inputs:
            yield Fault(f"state input '{name}' can not be an input that clients send as well", (*path, "input_name"))
        if len(state["initial_state"]) > 1:
            yield Fault(
                f"initial_state field for state input '{name}' must contain exactly one or zero element. Found "
                f"'{len(state['initial_state'])}' elements.",
                (*path, "initial_state"),
            )
        for position, initial in enumerate(state["initial_state"]):
            yield from _initial(state, initial, (*path, "initial_state", position))
        yield from _growable(config, state, path)
    if states and config.get("model_transaction_policy", {}).get("decoupled"):
        yield Fault(
            "a model with implicit state can not be decoupled: which response has the next request's state?",
            ("model_transaction_policy", "decoupled"),
        )


def _tensor(state: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    for field in ("input_name", "output_name"):
        if not state[field]:
            yield Fault(f"sequence batching state must specify '{field}'", path)
    label = f"sequence batching state '{state['input_name']}' must specify"
    if state["data_type"] == "TYPE_INVALID" or isinstance(state["data_type"], int):
        yield Fault(f"{label} 'data_type'", (*path, "data_type"))
    if not state["dims"]:
        yield Fault(f"{label} 'dims'", (*path, "dims"))
    elif any(dim < 1 and dim != -1 for dim in state["dims"]):
        yield Fault(f"{label} dims that are >= 1, or -1 for a variable-size dimension", (*path, "dims"))


def _initial(state: Mapping[str, Any], initial: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    name = state["input_name"]
    dims, wanted = initial["dims"], state["dims"]
    if initial["data_type"] != state["data_type"]:
        yield Fault(
            f"The data type used for 'initial_state' field of state '{name}' does not match the state data type.",
            (*path, "data_type"),
        )
    if not initial["name"]:
        yield Fault(f"Field 'name' must be set when using initial_state for state input '{name}'.", path)
    if len(dims) != len(wanted):
        yield Fault(
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions for state input "
            f"'{name}'. {len(dims)} != {len(wanted)}",
            (*path, "dims"),
        )
    for dim, allowed in zip(dims, wanted, strict=False):
        if dim < 0:
            yield Fault(
                f"'initial_state' field for state input name '{name}' contains variable dimensions.", (*path, "dims")
            )
        elif allowed not in (-1, dim):
            yield Fault(
                f"'initial_state' dim for input name '{name}' doesn't match 'state' dim description. {dim} != "
                f"{allowed}",
                (*path, "dims"),
            )
    if "zero_data" not in initial and "data_file" not in initial:
        yield Fault(f"initial_state setting expects state'{name}' to have state_data set", path)


def _growable(config: Mapping[str, Any], state: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    if not state["use_growable_memory"]:
        return
    where = (*path, "use_growable_memory")
    if not state["use_same_buffer_for_input_output"]:
        yield Fault(
            "In order to 'use_growable_memory', you must also enable 'use_single_buffer' for state input name "
            f"'{state['input_name']}'.",
            where,
        )
    if any(group["kind"] != "KIND_GPU" for group in config["instance_group"]):
        yield Fault(
            "'use_growable_memory' can only work with KIND_GPU model instances right now. Please either change the "
            "instance type to KIND_GPU or set 'use_growable_memory' to false for state input "
            f"'{state['input_name']}'.",
            where,
        )
