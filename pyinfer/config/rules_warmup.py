# SPDX-License-Identifier: Apache-2.0
"""Rules about ``model_warmup``. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pyinfer.config.rules_io import Fault
from pyinfer.config.source import FieldPath

__all__ = ["warmup_faults"]

#: a sample is run before the model serves anybody: more repetitions than this are a mistake
_MOST_RUNS = 100_000


def warmup_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of the samples of a normalized configuration."""
    samples = config["model_warmup"]
    if samples and "ensemble_scheduling" in config:
        yield Fault(f"model_warmup can not be specified for ensemble '{config['name']}'", ("model_warmup",))
    most = max(1, config["max_batch_size"])
    for index, sample in enumerate(samples):
        path: FieldPath = ("model_warmup", index)
        for name, tensor in sample["inputs"].items():
            yield from _input(name, tensor, (*path, "inputs"))
        if sample["batch_size"] > most:
            yield Fault(
                f"warmup sample '{sample['name']}' has batch_size {sample['batch_size']}, the most is {most} for "
                f"{config['name']}",
                (*path, "batch_size"),
                "max_batch_size",
            )
        if sample["count"] > _MOST_RUNS:
            yield Fault(
                f"warmup sample '{sample['name']}' has count {sample['count']}, the most is {_MOST_RUNS} for "
                f"{config['name']}",
                (*path, "count"),
            )


def _input(name: str, tensor: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    if any(dim < 0 for dim in tensor["dims"]):
        yield Fault(f"warmup setting expects all variable-size dimensions are specified for input '{name}'", path)
    if tensor["data_type"] == "TYPE_INVALID" or isinstance(tensor["data_type"], int):
        yield Fault(f"warmup setting expects input '{name}' to have data_type set", path)
    if not {"zero_data", "random_data", "input_data_file"} & set(tensor):
        yield Fault(f"warmup setting expects input '{name}' to have input_data_type set", path)
