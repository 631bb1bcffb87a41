# SPDX-License-Identifier: Apache-2.0
"""Instance groups and other fields that are not for every model: which are refused, and what is served."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import get, json_infer, post, tensor
from differential.repository import Model

__all__ = ["MODELS", "instances"]


def _model(name: str, groups: str, *, more: str = "", of_input: str = "") -> Model:
    """A Python model that answers with its version."""
    config = f"""
backend: "python"
input [ {{ name: "INPUT" data_type: TYPE_FP32 dims: [ 1 ] {of_input} }} ]
output [ {{ name: "VERSION" data_type: TYPE_INT64 dims: [ 1 ] }} ]
instance_group [ {groups} ]
{more}
"""
    return Model(name, "version", config)


_CPU = "{ count: 1 kind: KIND_CPU }"
_STRATEGY = 'parameters { key: "TRITON_BATCH_STRATEGY_PATH" value { string_value: "/no/such.so" } }\n'

MODELS: tuple[Model, ...] = (
    _model("passive", f"{{ count: 1 kind: KIND_CPU passive: true }}, {_CPU}"),
    _model("all_passive", "{ count: 1 kind: KIND_CPU passive: true }"),
    _model("secondary", "{ count: 1 kind: KIND_CPU secondary_devices [ { kind: KIND_NVDLA device_id: 0 } ] }"),
    _model("profile", '{ count: 1 kind: KIND_CPU profile: [ "1" ] }'),
    _model("host_policy", '{ count: 1 kind: KIND_CPU host_policy: "mine" }'),
    _model("of_model", "{ count: 1 kind: KIND_MODEL }"),
    _model("no_count", "{ kind: KIND_CPU }"),
    _model("cpu_gpus", "{ count: 1 kind: KIND_CPU gpus: [ 0 ] }"),
    _model("negative_count", "{ count: -1 kind: KIND_CPU }"),
    _model("shape_tensor", _CPU, of_input="is_shape_tensor: true"),
    _model("strategy", _CPU, more=f"{_STRATEGY} dynamic_batching {{ }}"),
    _model("strategy_sequence", _CPU, more=f"{_STRATEGY} sequence_batching {{ }}"),
    _model("priority", _CPU, more="optimization { priority: PRIORITY_MIN }"),
    _model("priority_max", _CPU, more="optimization { priority: PRIORITY_MAX }"),
)


#: by pyinfer; or, the last one, with a library that there is
_REFUSED = ("all_passive", "secondary", "strategy")


def instances() -> Iterable[Case]:
    one = [tensor("INPUT", "FP32", [1], [1])]
    for model in MODELS:
        yield Case(f"load {model.name}", post(f"/v2/repository/models/{model.name}/load"))
        if model.name in _REFUSED:
            yield Case(f"unload {model.name}", post(f"/v2/repository/models/{model.name}/unload"))
            continue
        yield Case(f"{model.name} is ready", get(f"/v2/models/{model.name}/ready"))
        yield Case(f"configuration of {model.name}", get(f"/v2/models/{model.name}/config"))
        yield Case(f"{model.name} serves", json_infer(model.name, one))
        yield Case(f"unload {model.name}", post(f"/v2/repository/models/{model.name}/unload"))
