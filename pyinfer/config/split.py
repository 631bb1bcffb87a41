# SPDX-License-Identifier: Apache-2.0
"""The model parameter ``split_large``: requests that are larger than a batch are executed in parts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyinfer.config.rules_io import Fault

__all__ = ["split_faults", "split_large"]

_NAME = "split_large"


def split_large(config: Mapping[str, Any]) -> bool:
    """Whether a valid configuration asks for it."""
    return _value(config) == "true"


def split_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """A value that means nothing, and what can not be executed in parts."""
    name, value = config["name"], _value(config)
    path = ("parameters", _NAME)
    if value not in ("", "true", "false"):
        yield Fault(f"parameter '{_NAME}' must be 'true' or 'false' for {name}, got '{value}'", path)
    if value != "true":
        return
    if config["max_batch_size"] < 1:
        yield Fault(f"parameter '{_NAME}' needs a max_batch_size above 0 for {name}", path, "max_batch_size")
    for what in _not_in_parts(config):
        yield Fault(f"parameter '{_NAME}' can not be used with {what} for {name}", path)


def _value(config: Mapping[str, Any]) -> str:
    return str(config.get("parameters", {}).get(_NAME, {}).get("string_value", ""))


def _not_in_parts(config: Mapping[str, Any]) -> Iterator[str]:
    if "sequence_batching" in config:
        yield "sequence_batching"
    if "ensemble_scheduling" in config:
        yield "ensemble_scheduling"
    if config.get("model_transaction_policy", {}).get("decoupled"):
        yield "model_transaction_policy.decoupled"
    if any(tensor.get("allow_ragged_batch") for tensor in config["input"]):
        yield "allow_ragged_batch"
    yield from (field for field in ("batch_input", "batch_output") if config[field])
