# SPDX-License-Identifier: Apache-2.0
"""Rules about dynamic batching, sequence batching and instance groups. Pure.

They cover every field of the grammar, also those that this version refuses to serve (``validate.unsupported``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfer.config.rules_io import Fault
from pyinfer.config.source import FieldPath

__all__ = ["BATCH_STRATEGY", "MAX_INSTANCES", "batching_faults", "instance_group_faults", "sequence_faults"]

#: more instances of one group are a mistake and not a plan: each is a thread
MAX_INSTANCES = 1024

#: the key among a model's ``parameters`` that names a library which decides what joins a batch
BATCH_STRATEGY = "TRITON_BATCH_STRATEGY_PATH"

_CORRELATION_TYPES = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
_FALSE_TRUE = ("int32_false_true", "fp32_false_true", "bool_false_true")


def batching_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of ``dynamic_batching``."""
    name = config["name"]
    batcher = config.get("dynamic_batching")
    if batcher is None:
        return
    base: FieldPath = ("dynamic_batching",)
    for size in batcher["preferred_batch_size"]:
        path = (*base, "preferred_batch_size")
        if size <= 0:
            yield Fault(f"dynamic batching preferred size must be positive for {name}", path)
        if size > config["max_batch_size"]:
            yield Fault(f"dynamic batching preferred size must be <= max batch size for {name}", path, "max_batch_size")
    levels = batcher["priority_levels"]
    if levels:
        if not 1 <= batcher["default_priority_level"] <= levels:
            yield Fault(
                f"default priority level must be in range [1, {levels}] for {name}", (*base, "default_priority_level")
            )
        if not all(1 <= int(level) <= levels for level in batcher["priority_queue_policy"]):
            yield Fault(
                f"priority queue policy must have priority level in range [1, {levels}] for {name}",
                (*base, "priority_queue_policy"),
            )
    if batcher["preserve_ordering"]:
        yield from _ordering(name, batcher, (*base, "preserve_ordering"))


def _ordering(name: str, batcher: Mapping[str, Any], path: FieldPath) -> Iterator[Fault]:
    if batcher["priority_levels"] > 1:
        yield Fault(f"Only one priority level is allowed when 'preserve_ordering' is true for {name}", path)
    policies = [batcher.get("default_queue_policy"), *batcher["priority_queue_policy"].values()]
    if any(
        policy and policy["timeout_action"] == "DELAY" and policy["default_timeout_microseconds"] for policy in policies
    ):
        yield Fault(
            f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {name}", path
        )


def sequence_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of ``sequence_batching``."""
    name = config["name"]
    batcher = config.get("sequence_batching")
    if batcher is None:
        return
    base: FieldPath = ("sequence_batching",)
    if BATCH_STRATEGY in config["parameters"]:
        yield Fault(
            f"{BATCH_STRATEGY} cannot be specified with sequence batcher, using default batching strategy",
            ("parameters", BATCH_STRATEGY),
        )
    if config.get("response_cache", {}).get("enable"):
        yield Fault(
            f"Response Cache does not currently support model {name} with sequence batching scheduler. "
            "Please disable the response cache.",
            ("response_cache", "enable"),
        )
    yield from _control_tensors(name, batcher["control_input"])
    for kind in ("START", "END", "READY", "CORRID"):
        yield from _controls(name, batcher["control_input"], f"CONTROL_SEQUENCE_{kind}")
    for size in batcher.get("oldest", {}).get("preferred_batch_size", ()):
        path = (*base, "oldest", "preferred_batch_size")
        if size <= 0:
            yield Fault(f"sequence batching preferred batch size must be positive for {name}", path)
        if size > config["max_batch_size"]:
            yield Fault(
                f"sequence batching preferred batch size must be <= max batch size for {name}", path, "max_batch_size"
            )
    # a float that is not finite is written as text in the JSON form
    utilization = float(batcher.get("direct", {}).get("minimum_slot_utilization", 0))
    if not 0 <= utilization <= 1:
        yield Fault(
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {name}",
            (*base, "direct", "minimum_slot_utilization"),
        )


def _control_tensors(model: str, inputs: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    seen: set[str] = set()
    for index, one in enumerate(inputs):
        path: FieldPath = ("sequence_batching", "control_input", index)
        if not one["name"]:
            yield Fault(f"sequence batching control tensor must have a name for {model}", path)
        if one["name"] in seen:
            yield Fault(
                f"sequence batching control tensor '{one['name']}' is specified for multiple control kinds for {model}",
                (*path, "name"),
            )
        seen.add(one["name"])


def _controls(model: str, inputs: Sequence[Mapping[str, Any]], kind: str) -> Iterator[Fault]:
    found = [
        (control, ("sequence_batching", "control_input", index, "control", position))
        for index, one in enumerate(inputs)
        for position, control in enumerate(one["control"])
        if control["kind"] == kind
    ]
    for order, (control, path) in enumerate(found):
        if order:
            yield Fault(f"sequence batching specifies multiple {kind} tensors for {model}", path)
        given = [values for values in _FALSE_TRUE if control[values]]
        if kind == "CONTROL_SEQUENCE_CORRID":
            yield from _correlation(model, control, given, path)
        elif not given:
            yield Fault(
                "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' "
                f"for {kind} for {model}",
                path,
            )
        elif len(given) > 1:
            yield Fault(
                "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
                f"'bool_false_true' for {kind} for {model}",
                path,
            )
        elif len(control[given[0]]) != 2:
            yield Fault(
                f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} for {model}",
                (*path, given[0]),
            )


def _correlation(model: str, control: Mapping[str, Any], given: Sequence[str], path: FieldPath) -> Iterator[Fault]:
    if given:
        yield Fault(
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' "
            f"for CONTROL_SEQUENCE_CORRID for {model}",
            (*path, given[0]),
        )
    if control["data_type"] not in _CORRELATION_TYPES:
        yield Fault(
            f"unexpected data type for control CONTROL_SEQUENCE_CORRID for {model}. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
            (*path, "data_type"),
        )


def instance_group_faults(config: Mapping[str, Any], gpus: Sequence[int] | None) -> Iterator[Fault]:
    """The faults of ``instance_group``; ``gpus`` are the usable device ids, None for a backend that uses none."""
    if "ensemble_scheduling" in config:
        return
    name = config["name"]
    if not config["instance_group"]:
        yield Fault(f"must specify one or more 'instance group's for {name}", ("instance_group",))
    elif all(group["passive"] for group in config["instance_group"]):
        yield Fault(
            f"must specify an instance group that is not passive for {name}: nobody would execute its requests",
            ("instance_group", 0, "passive"),
        )
    for index, group in enumerate(config["instance_group"]):
        path: FieldPath = ("instance_group", index)
        label = f"instance group {group['name']} of model {name}"
        if group["kind"] == "KIND_GPU":
            yield from _gpu_group(label, group["gpus"], gpus, path)
        elif group["kind"] in ("KIND_CPU", "KIND_MODEL") and group["gpus"]:
            yield Fault(f"{label} has kind {group['kind']} but specifies one or more GPUs", (*path, "gpus"))
        elif group["kind"] not in ("KIND_CPU", "KIND_MODEL"):
            yield Fault(f"{label} has unexpected kind {group['kind']}", (*path, "kind"))
        if group["count"] > MAX_INSTANCES:
            yield Fault(f"{label} has count {group['count']}, the most is {MAX_INSTANCES}", (*path, "count"))
        if group["profile"] and config["platform"] != "tensorrt_plan":
            # the missing blank is in the message that clients know
            yield Fault(
                f"{label} and platform {config['platform']}specifies profile field which is only supported for "
                "TensorRT models",
                (*path, "profile"),
            )


def _gpu_group(label: str, wanted: Sequence[int], gpus: Sequence[int] | None, path: FieldPath) -> Iterator[Fault]:
    if gpus is None:
        yield Fault(f"{label} has kind KIND_GPU but its backend does not support GPUs", (*path, "kind"))
        return
    if not wanted:
        reason = "specifies no GPUs" if gpus else "no GPUs are available"
        yield Fault(f"{label} has kind KIND_GPU but {reason}", path)
    for device in wanted:
        if device not in gpus:
            usable = ", ".join(str(one) for one in gpus)
            yield Fault(
                f"{label} specifies invalid or unsupported gpu id {device}. GPUs that can be used are: {usable}",
                (*path, "gpus"),
            )
