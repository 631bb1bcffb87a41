# SPDX-License-Identifier: Apache-2.0
"""Rules about an ensemble and the models that it is composed of. Pure.

What the ensemble's own text tells is in ``rules_ensemble``; an ensemble that breaks those rules is not looked at here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pyinfer.config.rules_ensemble import ensemble_faults
from pyinfer.config.rules_io import Fault

__all__ = ["graph_faults", "needs_decoupled"]


class _Seen(NamedTuple):
    """An ensemble tensor as the model that it was first seen with has it."""

    model: str
    data_type: str
    dims: Sequence[int]
    #: with the batch dimension, where there is one
    full_dims: Sequence[int]


def graph_faults(
    name: str, configs: Mapping[str, Mapping[str, Any] | None], unsure: Mapping[str, Collection[str]] | None = None
) -> Iterator[Fault]:
    """The faults of ensemble ``name`` that are seen beside the other models; none for a model that is no ensemble.

    ``configs`` are the normalized configurations of all models of the repositories; None stands for one that can not
    be read. ``unsure`` names the top-level fields of each that may still change (by what a backend reads from the
    model's file): no fault rests on those.
    """
    config = configs[name]
    if config is None or "ensemble_scheduling" not in config or any(ensemble_faults(config)):
        return
    steps = config["ensemble_scheduling"]["step"]
    missing = sorted({step["model_name"] for step in steps} - set(configs))
    if missing:
        yield Fault(
            f"ensemble {name} contains models that are not available or ambiguous: {', '.join(missing)}",
            ("ensemble_scheduling",),
        )
    circle = _circle(name, configs)
    if circle:
        yield Fault(f"circular dependency between ensembles: {' -> '.join(circle)}", ("ensemble_scheduling",))
    seen: dict[str, _Seen] = {}
    for io in (*config["input"], *config["output"]):
        shape = io["reshape"]["shape"] if "reshape" in io else io["dims"]
        seen.setdefault(io["name"], _seen(name, config, io, shape))
    for index, step in enumerate(steps):
        part = configs.get(step["model_name"])
        if part is not None:
            open_fields = (unsure or {}).get(step["model_name"], ())
            for fault in _step(config, step, part, open_fields, seen):
                yield fault._replace(path=("ensemble_scheduling", "step", index, *fault.path))
    yield from _mixed_responses(config, configs)


def needs_decoupled(config: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether ``config`` is that of an ensemble with a decoupled step, which makes it decoupled itself.

    ``parts`` are the configurations of its steps' models.
    """
    scheduling = config.get("ensemble_scheduling") or {}
    return any(_is_decoupled(parts[step["model_name"]]) for step in scheduling.get("step", ()))


def _is_decoupled(config: Mapping[str, Any]) -> bool:
    return bool(config.get("model_transaction_policy", {}).get("decoupled"))


def _mixed_responses(config: Mapping[str, Any], configs: Mapping[str, Mapping[str, Any] | None]) -> Iterator[Fault]:
    """Each response of a decoupled model goes through the graph by itself: those of two models never meet."""
    name, steps = config["name"], config["ensemble_scheduling"]["step"]
    makers = {tensor: index for index, step in enumerate(steps) for tensor in step["output_map"].values()}
    sources: dict[int, frozenset[int]] = {}

    def of_tensors(tensors: Collection[str]) -> frozenset[int]:
        """The decoupled steps whose responses ``tensors`` belong to."""
        return frozenset().union(*(of_step(makers[tensor]) for tensor in tensors if tensor in makers))

    def of_step(index: int) -> frozenset[int]:
        if index not in sources:
            sources[index] = frozenset()  # a circle is another fault
            decoupled = _is_decoupled(configs.get(steps[index]["model_name"]) or {})
            sources[index] = frozenset({index}) if decoupled else of_tensors(steps[index]["input_map"].values())
        return sources[index]

    # the ensemble's name is in the message that clients know, whichever step it is
    text = f"in ensemble {name}, step of model '{name}' receives inputs originated from different decoupled models"
    mixed = [index for index, step in enumerate(steps) if len(of_tensors(step["input_map"].values())) > 1]
    for index in mixed:
        yield Fault(text, ("ensemble_scheduling", "step", index, "input_map"))
    if not mixed and len(of_tensors([io["name"] for io in config["output"]])) > 1:
        yield Fault(text, ("output",))


def _circle(name: str, configs: Mapping[str, Mapping[str, Any] | None]) -> list[str]:
    """A way from ensemble ``name`` back to it, through ensembles; [] where there is none."""
    came_from: dict[str, str] = {}
    waiting = [name]
    while waiting:
        current = waiting.pop()
        scheduling = (configs.get(current) or {}).get("ensemble_scheduling")
        for step in scheduling["step"] if scheduling else ():
            target = step["model_name"]
            if target == name:
                way = [name, current]
                while way[-1] != name:
                    way.append(came_from[way[-1]])
                return way[::-1]
            if target not in came_from:
                came_from[target] = current
                waiting.append(target)
    return []


def _step(
    ensemble: Mapping[str, Any],
    step: Mapping[str, Any],
    part: Mapping[str, Any],
    unsure: Collection[str],
    seen: dict[str, _Seen],
) -> Iterator[Fault]:
    """The faults of one step, their paths from the step on."""
    most, part_most = ensemble["max_batch_size"], part["max_batch_size"]
    # a part without a batch dimension may still fit the shapes of the ensemble
    if part_most != 0 and part_most < most and "max_batch_size" not in unsure:
        yield Fault(
            f"ensemble {ensemble['name']} allows maximum batch size {most}, but it contains model "
            f"{step['model_name']} which only allows maximum batch size to be {part_most}",
            ("model_name",),
        )
    for kind in ("input", "output"):
        if kind not in unsure:
            yield from _mapping(ensemble["name"], step, part, kind, seen, batching="max_batch_size" not in unsure)


def _mapping(
    name: str, step: Mapping[str, Any], part: Mapping[str, Any], kind: str, seen: dict[str, _Seen], *, batching: bool
) -> Iterator[Fault]:
    mapping: Mapping[str, str] = step[f"{kind}_map"]
    path = (f"{kind}_map",)
    tensors = {io["name"]: io for io in part[kind]}
    verb = "to non-existing input" if kind == "input" else "from non-existing output"
    mapped = "mapping" if kind == "input" else "mapped"
    for model_tensor, ensemble_tensor in mapping.items():
        prefix = f"in ensemble {name}, ensemble tensor {ensemble_tensor}"
        io = tensors.get(model_tensor)
        if io is None:
            yield Fault(f"{prefix} is {mapped} {verb} {model_tensor} in model {step['model_name']}", path)
            continue
        here = _seen(step["model_name"], part, io, io["dims"])
        known = seen.setdefault(ensemble_tensor, here)
        difference = _difference(known, here, with_shape=batching)
        if difference:
            yield Fault(f"{prefix}: {difference}", path)
    if kind == "input":
        for tensor, io in tensors.items():
            if tensor not in mapping and not io["optional"]:
                yield Fault(
                    f"in ensemble {name}, input {tensor} in model {step['model_name']} is not mapped to any ensemble "
                    "tensors",
                    path,
                )


def _seen(model: str, config: Mapping[str, Any], io: Mapping[str, Any], dims: Sequence[int]) -> _Seen:
    return _Seen(model, io["data_type"], dims, [-1, *dims] if config["max_batch_size"] > 0 else dims)


def _difference(one: _Seen, other: _Seen, *, with_shape: bool) -> str:
    inferred = "inconsistent {}: {} is inferred from model {} while {} is inferred from model {}"
    if one.data_type != other.data_type:
        return inferred.format("data type", one.data_type, one.model, other.data_type, other.model)
    # a model without batches may take what a batching model gives: then the whole shapes agree
    if with_shape and not _fits(one.dims, other.dims) and not _fits(one.full_dims, other.full_dims):
        return inferred.format("shape", _text(one.full_dims), one.model, _text(other.full_dims), other.model)
    return ""


def _fits(one: Sequence[int], other: Sequence[int]) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _text(dims: Sequence[int]) -> str:
    return f"[{','.join(str(dim) for dim in dims)}]"
