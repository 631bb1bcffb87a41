# SPDX-License-Identifier: Apache-2.0
"""Rules about the data flow of an ensemble, as far as its own text tells.

What needs the configurations of the composing models is in ``rules_graph``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfer.config.rules_io import Fault

__all__ = ["ensemble_faults"]


@dataclass
class _Tensor:
    """One tensor of the ensemble: who makes it and who needs it."""

    is_written: bool = False
    is_ready: bool = False
    sources: list[str] = field(default_factory=list)
    readers: list[str] = field(default_factory=list)


def ensemble_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of ``ensemble_scheduling`` and of fields that an ensemble may not have."""
    name = config["name"]
    if "ensemble_scheduling" not in config:
        if config["platform"] == "ensemble":
            yield Fault(
                f"ensemble scheduling must be set for ensemble {name} whose platform is ensemble",
                ("platform",),
                "ensemble_scheduling",
            )
        return
    if config["platform"] != "ensemble":
        yield Fault(
            f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble",
            ("ensemble_scheduling",),
            "platform",
        )
    if config["instance_group"]:
        yield Fault(f"instance group should not be specified for ensemble '{name}'", ("instance_group",))
    if "optimization" in config:
        yield Fault(f"optimization should not be specified for ensemble '{name}'", ("optimization",))
    if config["model_warmup"]:
        yield Fault(f"model_warmup can not be specified for ensemble '{name}'", ("model_warmup",))
    steps = config["ensemble_scheduling"]["step"]
    if not steps:
        yield Fault(f"must specify 'step' for ensemble '{name}'", ("ensemble_scheduling",))
    step_faults = list(_steps(name, steps))
    yield from step_faults
    if not step_faults:
        for fault in _flow(config, _graph(steps)):
            yield fault._replace(needs="ensemble_scheduling")


def _steps(name: str, steps: Sequence[Mapping[str, Any]]) -> Iterator[Fault]:
    written: set[str] = set()
    for index, step in enumerate(steps):
        path = ("ensemble_scheduling", "step", index)
        for needed in ("model_name", "input_map", "output_map"):
            if not step[needed]:
                yield Fault(f"must specify '{needed}' in step {index} of ensemble '{name}'", path)
        for tensor in step["output_map"].values():
            if tensor in written:
                yield Fault(
                    f"ensemble tensor '{tensor}' can appear in an output map only once for ensemble '{name}' "
                    f"step {index}",
                    (*path, "output_map"),
                )
            written.add(tensor)


def _graph(steps: Sequence[Mapping[str, Any]]) -> dict[str, _Tensor]:
    tensors: dict[str, _Tensor] = {}
    for step in steps:
        outputs = list(step["output_map"].values())
        inputs = list(step["input_map"].values())
        for name in (*outputs, *inputs):
            tensors.setdefault(name, _Tensor())
        for name in outputs:
            tensors[name].is_written = True
            tensors[name].sources += inputs
        for name in inputs:
            tensors[name].readers += outputs
    return tensors


def _flow(config: Mapping[str, Any], tensors: dict[str, _Tensor]) -> Iterator[Fault]:
    name = config["name"]
    ready: list[str] = []
    for index, io in enumerate(config["input"]):
        if io["name"] in tensors:
            tensors[io["name"]].is_ready = True
            ready.append(io["name"])
        else:
            # the odd quote is in the message that clients know
            yield Fault(f"ensemble input '{io['name']}' for ensemble {name}' is not used", ("input", index))
    while ready:
        for reader in tensors[ready.pop()].readers:
            tensor = tensors[reader]
            if not tensor.is_ready and all(tensors[source].is_ready for source in tensor.sources):
                tensor.is_ready = True
                ready.append(reader)
    outputs = {io["name"] for io in config["output"]}
    for index, io in enumerate(config["output"]):
        if io["name"] not in tensors:
            yield Fault(f"ensemble output '{io['name']}' for ensemble {name}' is not used", ("output", index))
        elif not tensors[io["name"]].is_ready:
            yield Fault(
                f"output '{io['name']}' for ensemble '{name}' is not written{_cause(io['name'], tensors)}",
                ("output", index),
            )
    for tensor_name, tensor in tensors.items():
        if tensor_name not in outputs and not (tensor.is_ready and tensor.readers):
            yield Fault(f"ensemble tensor '{tensor_name}' is unused in ensemble '{name}'", ("ensemble_scheduling",))


def _cause(name: str, tensors: Mapping[str, _Tensor]) -> str:
    """The far end of the chain of tensors that are not ready; empty where it is the output itself."""
    seen: set[str] = set()
    last = name
    while True:
        waiting = [one for one in tensors[last].sources if not tensors[one].is_ready and one not in seen]
        if not waiting:
            break
        last = waiting[0]
        seen.add(last)
    return "" if last == name else f": at least one of its depending tensors, '{last}', is not connected"
