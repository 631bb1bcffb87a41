# SPDX-License-Identifier: Apache-2.0
"""Says what is wrong with a model configuration. Pure: no disk, no backend, no other model.

Works on the normalized JSON form. ``validate`` knows the rules of the format, for every field of it; ``unsupported``
knows which fields mean something that this version does not do, so that such a model is refused, not served wrongly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from pyinfer.config.files import named_files, stays_within
from pyinfer.config.padding import padding_faults
from pyinfer.config.rules_ensemble import ensemble_faults
from pyinfer.config.rules_io import Fault, tensor_faults
from pyinfer.config.rules_scheduling import BATCH_STRATEGY, batching_faults, instance_group_faults, sequence_faults
from pyinfer.config.rules_slo import slo_faults
from pyinfer.config.rules_state import state_faults
from pyinfer.config.rules_warmup import warmup_faults
from pyinfer.config.source import Source, path_text
from pyinfer.config.split import split_faults
from pyinfer.errors import ConfigError, Unsupported

__all__ = ["faults", "placed", "require_supported", "unsupported", "validate"]

#: the platforms of the backends that have fixed ones
_PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch", "libtorch", "torch_aoti"),
}


def validate(
    config: Mapping[str, Any],
    *,
    directory_name: str | None = None,
    gpus: Sequence[int] | None = None,
    source: Source | None = None,
) -> None:
    """Raise ConfigError for the first broken rule, at its place in ``source`` where that is known.

    ``config`` is normalized. ``directory_name`` None skips the comparison with the model's name; ``gpus`` are the
    usable device ids, None where the backend uses none.
    """
    fault = next(faults(config, directory_name=directory_name, gpus=gpus), None)
    if fault is None:
        return
    raise placed(fault, source)


def placed(fault: Fault, source: Source | None) -> ConfigError:
    """``fault`` as an error, at its place in ``source`` where that is known."""
    line, column = source.locate(fault.path) if source else (None, None)
    return ConfigError(
        fault.message, file=source.file if source else None, line=line, column=column, field=path_text(fault.path)
    )


def faults(
    config: Mapping[str, Any], *, directory_name: str | None = None, gpus: Sequence[int] | None = None
) -> Iterator[Fault]:
    """Every broken rule, the one that Triton would report first."""
    if directory_name is not None and config["name"] != directory_name:
        yield Fault(
            f"unexpected directory name '{directory_name}' for model '{config['name']}', directory name must equal "
            "model name",
            ("name",),
        )
    yield from _identity(config)
    yield from batching_faults(config)
    yield from sequence_faults(config)
    yield from slo_faults(config)
    yield from ensemble_faults(config)
    yield from _cache_and_metrics(config)
    yield from tensor_faults(config)
    yield from instance_group_faults(config, gpus)
    yield from split_faults(config)
    yield from _paths(config)
    yield from state_faults(config)
    yield from warmup_faults(config)
    yield from padding_faults(config)


def _identity(config: Mapping[str, Any]) -> Iterator[Fault]:
    name, backend, platform = config["name"], config["backend"], config["platform"]
    if not name:
        yield Fault("model configuration must specify 'name'", ("name",))
    if not backend and platform != "ensemble":
        yield Fault(f"unexpected platform type '{platform}' for {name}", ("platform",), "backend")
    if backend and platform == "ensemble":
        yield Fault(f"Ensemble model '{name}' must have platform type 'ensemble' and empty backend type", ("backend",))
    if backend in _PLATFORMS and platform not in _PLATFORMS[backend]:
        yield Fault(f"unexpected 'platform' and 'backend' pair, got:{platform}, {backend}", ("platform",), "backend")
    if config["max_batch_size"] < 0:
        yield Fault(f"'max_batch_size' must be non-negative value for {name}", ("max_batch_size",))
    if not config.get("version_policy"):
        yield Fault(f"must specify 'version policy' for {name}", ("version_policy",))


def _cache_and_metrics(config: Mapping[str, Any]) -> Iterator[Fault]:
    if _enabled(config, "model_transaction_policy", "decoupled") and _enabled(config, "response_cache", "enable"):
        yield Fault(
            f"Response Cache does not currently support model {config['name']} with 'decoupled' transaction policy. "
            "Please disable the response cache.",
            ("response_cache", "enable"),
        )
    for index, control in enumerate(config.get("model_metrics", {}).get("metric_control", ())):
        path = ("model_metrics", "metric_control", index)
        if "metric_identifier" not in control:
            yield Fault("metric control must specify 'metric_identifier'", path)
        elif not control["metric_identifier"]["family"]:
            yield Fault("metric identifier must specify non-empty 'family'", (*path, "metric_identifier"))
        if "histogram_options" not in control:
            yield Fault("metric control must specify 'histogram_options'", path)
        elif not control["histogram_options"]["buckets"]:
            yield Fault("histogram options must specify non-empty 'buckets'", (*path, "histogram_options"))
        elif not _ascends(control["histogram_options"]["buckets"]):
            text = "histogram options must specify 'buckets' that are finite numbers in ascending order"
            yield Fault(text, (*path, "histogram_options"))


def _ascends(given: Sequence[float | str]) -> bool:
    numbers = [float(number) for number in given]  # in JSON, what is not finite is a text
    return all(map(math.isfinite, numbers)) and all(a < b for a, b in pairwise(numbers))


def _paths(config: Mapping[str, Any]) -> Iterator[Fault]:
    """Files are named below the model's directory, whoever wrote the configuration."""
    for name, _, path, field in named_files(config):
        if not stays_within(name):
            yield Fault(f"'{field}' must name a file within the model directory for {config['name']}", path)


def unsupported(config: Mapping[str, Any]) -> list[str]:
    """The fields of a normalized configuration whose meaning this version does not implement, by path."""
    found: list[str] = []
    nested = (
        ("model_repository_agents", "agents"),
        ("model_operations", "op_library_filename"),
    )
    found += [f"{outer}.{inner}" for outer, inner in nested if _enabled(config, outer, inner)]
    # the name that Triton itself gives to a backend's library says nothing new
    if config["runtime"] not in ("", f"libtriton_{config['backend']}.so"):
        found.append("runtime")
    if BATCH_STRATEGY in config["parameters"]:
        found.append(f"parameters: {BATCH_STRATEGY}")
    for kind in ("input", "output"):
        for index, io in enumerate(config[kind]):
            flags = ("is_shape_tensor", "is_non_linear_format_io")
            found += [f"{kind}[{index}].{flag}" for flag in flags if io.get(flag)]
    for index, group in enumerate(config["instance_group"]):
        for name in ("secondary_devices", "profile"):
            if group[name]:
                found.append(f"instance_group[{index}].{name}")
    return found


def require_supported(config: Mapping[str, Any]) -> None:
    """Raise Unsupported that names every field of :func:`unsupported`; None where there are none."""
    fields = unsupported(config)
    if fields:
        raise Unsupported(
            f"model '{config['name']}' uses configuration that this version does not support: {', '.join(fields)}"
        )


def _enabled(config: Mapping[str, Any], outer: str, inner: str) -> bool:
    return bool(config.get(outer, {}).get(inner))
