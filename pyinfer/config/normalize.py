# SPDX-License-Identifier: Apache-2.0
"""Fills the defaults of a model configuration, so that all later readers find every choice made.

Pure; works on Triton's JSON form. Judges nothing but the grammar: ``validate`` runs afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfer.config.pbtxt import canonical

__all__ = ["device_ids", "instances", "normalize", "only_device"]

_SEQUENCE_IDLE_MICROSECONDS = 1_000_000


def normalize(config: Mapping[str, Any], *, cpu_instances: int = 1, gpus: Sequence[int] = ()) -> dict[str, Any]:
    """A copy of ``config`` with every primitive field present and the defaults filled.

    ``cpu_instances`` is the count of a KIND_CPU group that names none (``Backend.default_cpu_instances``), ``gpus`` are
    the device ids that instances may use: KIND_AUTO becomes KIND_GPU only where all that it names are among them.
    """
    given = {"version_policy": {"latest": {"num_versions": 1}}} | dict(config)
    is_ensemble = "ensemble_scheduling" in given
    if not is_ensemble:
        pinned = {"input_pinned_memory": {"enable": True}, "output_pinned_memory": {"enable": True}}
        given["optimization"] = pinned | given.get("optimization", {})
        given["instance_group"] = given.get("instance_group") or [{"name": given.get("name", "")}]
    normal = canonical(given)
    _fill_batching(normal)
    if not is_ensemble:
        _fill_instance_groups(normal, cpu_instances, gpus)
    return normal


#: of an instance: its priority, and (name, is it global, count) of each resource that it needs
_Limits = tuple[int, tuple[tuple[str, bool, int], ...]]


def instances(config: Mapping[str, Any]) -> list[tuple[str, str, int, _Limits, bool]]:
    """(name, kind, device id, limits, whether it is passive) of each instance of a normalized configuration.

    ``kind`` is ``CPU``, ``GPU`` or ``MODEL``. ``limits`` are its priority for the rate limiter, and (name, is it
    global, count) of each resource that it needs. A KIND_GPU group has ``count`` instances on each of its GPUs; the
    names do not tell the device.
    """
    return [
        (f"{group['name']}_{index}", group["kind"].removeprefix("KIND_"), device, _limits(group), group["passive"])
        for group in config.get("instance_group", ())
        for device in (group["gpus"] if group["kind"] == "KIND_GPU" else [0])
        for index in range(group["count"])
    ]


def device_ids(config: Mapping[str, Any]) -> list[int]:
    """The devices that instances of a normalized configuration are on; instances on none add nothing."""
    return sorted({device for _, kind, device, *_ in instances(config) if kind == "GPU"})


def only_device(config: Mapping[str, Any]) -> int | None:
    """The device that all instances are on; None where there is no such device."""
    devices = {device if kind == "GPU" else None for _, kind, device, *_ in instances(config)}
    return devices.pop() if len(devices) == 1 else None


def _limits(group: Mapping[str, Any]) -> _Limits:
    limiter = group.get("rate_limiter", {})
    resources = tuple((one["name"], one["global"], one["count"]) for one in limiter.get("resources", ()))
    return limiter.get("priority", 0), resources


def _fill_batching(config: dict[str, Any]) -> None:
    whole = [config["max_batch_size"]] if config["max_batch_size"] > 0 else []
    batcher = config.get("dynamic_batching")
    if batcher is not None and not batcher["preferred_batch_size"]:
        batcher["preferred_batch_size"] = whole
    sequence = config.get("sequence_batching")
    if sequence is None:
        return
    if sequence["max_sequence_idle_microseconds"] == 0:
        sequence["max_sequence_idle_microseconds"] = _SEQUENCE_IDLE_MICROSECONDS
    oldest = sequence.get("oldest")
    if oldest is not None and not oldest["preferred_batch_size"]:
        oldest["preferred_batch_size"] = whole


def _fill_instance_groups(config: dict[str, Any], cpu_instances: int, gpus: Sequence[int]) -> None:
    for index, group in enumerate(config["instance_group"]):
        if not group["name"]:
            group["name"] = f"{config['name']}_{index}"
        if group["kind"] == "KIND_AUTO":
            group["kind"] = "KIND_GPU" if gpus and set(group["gpus"]) <= set(gpus) else "KIND_CPU"
        if group["count"] < 1:
            group["count"] = cpu_instances if group["kind"] == "KIND_CPU" else 1
        if group["kind"] == "KIND_GPU" and not group["gpus"]:
            group["gpus"] = sorted(gpus)
