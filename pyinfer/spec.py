# SPDX-License-Identifier: Apache-2.0
"""What the core must know of a model, from its configuration and the files that this names.

Reads labels and initial states below the model's directory. It does NOT judge: the configuration is valid.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfer._core import (
    EnsembleOptions,
    ModelSpec,
    PaddingOptions,
    QueueOptions,
    QueuePolicy,
    SequenceOptions,
    StatisticsOptions,
    TensorSpec,
)
from pyinfer.config.metrics import MetricsConfig, first_response_bounds
from pyinfer.config.padding import Padding, padding_of
from pyinfer.config.rules_slo import latency_slo_us
from pyinfer.config.split import split_large
from pyinfer.errors import ConfigError
from pyinfer.model_files import data_size, read_labels, read_tensor, wire_type

__all__ = ["model_spec"]

#: among how many of the requests that wait the companions of the first are looked for
_WINDOW_REQUESTS = 64
_WINDOW_BATCHES = 8


def model_spec(
    config: Mapping[str, Any],
    version: int,
    directory: Path,
    metrics: MetricsConfig | None = None,
    device_inputs: bool = False,
) -> ModelSpec:
    """What the core must know of a normalized configuration, with the labels that it names in the model's directory.

    Raises ValueError where the core refuses a value, ConfigError where a label file can not be read.
    """
    metrics = metrics or MetricsConfig()
    batcher = config.get("dynamic_batching")
    sequences = config.get("sequence_batching")
    ensemble = config.get("ensemble_scheduling")
    padding = padding_of(config)
    slo_us = latency_slo_us(config)
    # the batches of strategy oldest are formed as those of the dynamic batcher
    settings = batcher or (sequences or {}).get("oldest") or (sequences or {}).get("direct") or {}
    return ModelSpec(
        name=config["name"],
        version=version,
        inputs=[_tensor_spec(tensor, ()) for tensor in config["input"]],
        outputs=[_tensor_spec(tensor, _labels(tensor, directory)) for tensor in config["output"]],
        max_batch_size=config["max_batch_size"],
        # with an SLO, batches are formed where they pay: there is nothing else to say about them
        dynamic_batching=batcher is not None or sequences is not None or slo_us != 0,
        preferred_batch_sizes=settings.get("preferred_batch_size", ()),
        max_queue_delay_us=settings.get("max_queue_delay_microseconds", 0),
        queue=_queue_options(batcher or {}, slo_us),
        decoupled=config.get("model_transaction_policy", {}).get("decoupled", False),
        sequence=None if sequences is None else _sequence_options(sequences, config["max_batch_size"], directory),
        ensemble=None if ensemble is None else _ensemble_options(ensemble),
        statistics=StatisticsOptions(
            summary_quantiles=metrics.summary_quantiles if metrics.summary_latencies else (),
            first_response_bounds_ms=first_response_bounds(metrics, config),
            histograms=metrics.pyinfer_histograms,
        ),
        # padding copies inputs anyway, and on the host
        device_inputs=device_inputs and padding is None,
        preserve_ordering=settings.get("preserve_ordering", False),
        batch_inputs=[
            (one["kind"], one["target_name"], one["source_input"][0], wire_type(one["data_type"]))
            for one in config["batch_input"]
        ],
        cached=config.get("response_cache", {}).get("enable", False),
        split_large=split_large(config),
        batch_outputs=[(one["target_name"], one["source_input"][0]) for one in config["batch_output"]],
        padding=None if padding is None else _padding_options(padding, config["max_batch_size"]),
    )


def _padding_options(padding: Padding, max_batch_size: int) -> PaddingOptions:
    return PaddingOptions(
        axes=[(axis.name, axis.buckets, axis.to_longest, *axis.lengths) for axis in padding.axes],
        inputs=[(name, tensor.places, tensor.fill) for name, tensor in padding.inputs.items()],
        outputs=[(name, tensor.places) for name, tensor in padding.outputs.items()],
        window=max(_WINDOW_REQUESTS, _WINDOW_BATCHES * max_batch_size),
    )


def _queue_options(batcher: Mapping[str, Any], slo_us: int) -> QueueOptions:
    policies = batcher.get("priority_queue_policy", {})
    return QueueOptions(
        priority_levels=batcher.get("priority_levels", 0),
        default_priority_level=batcher.get("default_priority_level", 0),
        default_policy=_queue_policy(batcher.get("default_queue_policy", {})),
        policies={int(level): _queue_policy(policy) for level, policy in policies.items()},
        latency_slo_us=slo_us,
    )


def _queue_policy(policy: Mapping[str, Any]) -> QueuePolicy:
    return QueuePolicy(
        timeout_action=policy.get("timeout_action", "REJECT"),
        default_timeout_us=policy.get("default_timeout_microseconds", 0),
        allow_timeout_override=policy.get("allow_timeout_override", False),
        max_queue_size=policy.get("max_queue_size", 0),
    )


#: how a control tells false and true: field of the configuration, data type, numpy type of its elements
_FALSE_TRUE = (
    ("int32_false_true", "INT32", "<i4"),
    ("fp32_false_true", "FP32", "<f4"),
    ("bool_false_true", "BOOL", "?"),
)


def _sequence_options(batcher: Mapping[str, Any], max_batch_size: int, directory: Path) -> SequenceOptions:
    oldest = batcher.get("oldest")
    return SequenceOptions(
        strategy="direct" if oldest is None else "oldest",
        slots=max(1, max_batch_size if oldest is None else oldest["max_candidate_sequences"]),
        max_idle_us=batcher["max_sequence_idle_microseconds"],
        minimum_slot_utilization=batcher.get("direct", {}).get("minimum_slot_utilization", 0.0),
        controls=[_control(one["name"], control) for one in batcher["control_input"] for control in one["control"]],
        states=[_state(state, directory) for state in batcher["state"]],
        iterative=batcher["iterative_sequence"],
    )


def _ensemble_options(scheduling: Mapping[str, Any]) -> EnsembleOptions:
    return EnsembleOptions(
        steps=[
            (step["model_name"], step["model_version"], step["input_map"], step["output_map"])
            for step in scheduling["step"]
        ],
        max_inflight_requests=scheduling["max_inflight_requests"],
    )


def _state(state: Mapping[str, Any], directory: Path) -> tuple[str, str, str, Sequence[int], Sequence[int], bytes]:
    data_type, dims = state["data_type"], state["dims"]
    if state["initial_state"]:
        shape, data = state["initial_state"][0]["dims"], _initial_data(state["initial_state"][0], directory)
    else:
        # as in Triton, variable dimensions are 1 where the configuration says nothing of the first request
        shape = [1 if dim == -1 else dim for dim in dims]
        data = bytes(data_size(data_type, shape))
    return state["input_name"], state["output_name"], wire_type(data_type), dims, shape, data


def _initial_data(initial: Mapping[str, Any], directory: Path) -> bytes:
    tensor = initial["data_type"], initial["dims"]
    if "data_file" not in initial:
        return bytes(data_size(*tensor))
    too_short = "initial_state setting expects {size} bytes, but the data provided from {name}only has {found} bytes."
    return read_tensor(directory, "initial_state", initial["data_file"], "initial state file", tensor, too_short)


def _control(name: str, control: Mapping[str, Any]) -> tuple[str, str, str, bytes, bytes]:
    kind = control["kind"].removeprefix("CONTROL_SEQUENCE_")
    if kind == "CORRID":
        return kind, name, wire_type(control["data_type"]), b"", b""
    import numpy as np  # see data_size

    for field_name, datatype, numpy_type in _FALSE_TRUE:
        values = control[field_name]
        if values:
            no, yes = np.array(values, numpy_type)
            return kind, name, datatype, no.tobytes(), yes.tobytes()
    raise ConfigError(f"control tensor '{name}' does not say what stands for false and true")


def _labels(output: Mapping[str, Any], directory: Path) -> list[bytes]:
    name = output.get("label_filename", "")
    return read_labels(directory, name) if name else []


def _tensor_spec(tensor: Mapping[str, Any], labels: Sequence[bytes]) -> TensorSpec:
    reshape = tensor.get("reshape")
    return TensorSpec(
        tensor["name"],
        wire_type(tensor["data_type"]),
        tensor["dims"],
        reshape=None if reshape is None else reshape["shape"],
        optional=tensor.get("optional", False),
        labels=labels,
        ragged=tensor.get("allow_ragged_batch", False),
    )
