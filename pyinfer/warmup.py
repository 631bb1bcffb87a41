# SPDX-License-Identifier: Apache-2.0
"""Warm-up: the samples of ``model_warmup``, executed by each instance before it takes its first request.

The data are made or read once for a model version. An instance is run on its own thread, as for requests.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinfer.errors import ModelError
from pyinfer.model_files import NUMPY_TYPES, data_size, read_tensor, wire_type

if TYPE_CHECKING:
    from pyinfer._core import Batch, Model

__all__ = ["Sample", "Warmup", "random_bytes"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """One batch: ``size`` requests that each have ``inputs`` (name, wire type, shape, data), run ``count`` times."""

    name: str
    size: int
    count: int
    inputs: list[tuple[str, str, list[int], bytes]]


class Warmup:
    """The samples of one model version. Raises ConfigError where a file is missing, too short or elsewhere."""

    def __init__(self, config: Mapping[str, Any], directory: Path) -> None:
        batching = config["max_batch_size"] > 0
        self.samples = [
            Sample(
                sample["name"],
                sample["batch_size"],
                max(1, sample["count"]),
                [_tensor(name, tensor, directory, batching=batching) for name, tensor in sample["inputs"].items()],
            )
            for sample in config["model_warmup"]
            if sample["batch_size"] > 0
        ]

    def run(self, core: Model, instance: str, execute: Callable[[Batch], object] | None) -> None:
        """Execute every sample, or only look whether the model takes it. Raises ModelError naming one that fails."""
        for sample in self.samples:
            _log.info("model instance '%s' is running warmup sample '%s'", instance, sample.name)
            for _ in range(sample.count if execute is not None else 1):
                fault = core.rehearse(sample.inputs, sample.size, execute)
                if fault is not None:
                    where = f"model '{core.name}' instance '{instance}'"
                    raise ModelError(f"{where} failed to run warmup sample '{sample.name}': {fault}")


def random_bytes(data_type: str, dims: list[int]) -> bytes:
    """The same numbers each time: floats in [0, 1), bytes of any value, wider integers in [0, 128); texts are empty."""
    if data_type == "TYPE_STRING":
        return bytes(data_size(data_type, dims))
    import numpy as np  # see data_size

    generator = np.random.default_rng(0)
    numpy_type = np.dtype(NUMPY_TYPES[data_type])
    if data_type == "TYPE_BF16":
        # the upper half of a float is that number as BF16
        return (generator.random(dims, np.float32).view(np.uint32) >> 16).astype(numpy_type).tobytes()
    if numpy_type.kind == "f":
        return generator.random(dims).astype(numpy_type).tobytes()
    if numpy_type.kind == "b":
        return generator.integers(0, 2, dims).astype(numpy_type).tobytes()
    low, high = (np.iinfo(numpy_type).min, np.iinfo(numpy_type).max + 1) if numpy_type.itemsize == 1 else (0, 128)
    return generator.integers(low, high, dims).astype(numpy_type).tobytes()


def _tensor(
    name: str, tensor: Mapping[str, Any], directory: Path, *, batching: bool
) -> tuple[str, str, list[int], bytes]:
    dims = list(tensor["dims"])
    shape = [1, *dims] if batching else dims
    return name, wire_type(tensor["data_type"]), shape, _data(tensor, dims, directory)


def _data(tensor: Mapping[str, Any], dims: list[int], directory: Path) -> bytes:
    if "random_data" in tensor:
        return random_bytes(tensor["data_type"], dims)
    if "input_data_file" not in tensor:
        return bytes(data_size(tensor["data_type"], dims))
    too_short = "warmup setting expects {size} bytes, but the data provided from {name}only has {found} bytes"
    of_tensor = tensor["data_type"], dims
    return read_tensor(directory, "warmup", tensor["input_data_file"], "warmup data file", of_tensor, too_short)
