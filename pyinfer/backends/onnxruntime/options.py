# SPDX-License-Identifier: Apache-2.0
"""Turns a model's configuration into ONNX Runtime's session options and execution providers. It opens no model.

Threads. Left alone, ONNX Runtime starts a thread for each core in each session, and those spin for a while after each
run. In a server that is paid for by every other model: measured on a small MLP with pauses of a millisecond between
batches, spinning doubles the CPU of a row in batches of 64 and multiplies it in batches of one; a second thread for
one run costs more CPU than it saves time. Hence the defaults: no spinning, and the cores shared out among the model's
instances. A session for each instance gains nothing over a shared one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import onnxruntime

from pyinfer.backends.base import ModelContext
from pyinfer.errors import ConfigError

__all__ = ["ARENA_SHRINKAGE", "execution_providers", "session_options"]

#: the run option and model parameter of one name
ARENA_SHRINKAGE = "memory.enable_memory_arena_shrinkage"

_LEVELS = {
    0: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL,
    -1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    1: onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    2: onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
_MODES = {"0": onnxruntime.ExecutionMode.ORT_SEQUENTIAL, "1": onnxruntime.ExecutionMode.ORT_PARALLEL}
_SWITCH = {"0": False, "1": True, "false": False, "true": True}
_ERRORS_ONLY = 3


def session_options(model: ModelContext) -> onnxruntime.SessionOptions:
    """The options of the model's session. Raises ConfigError for a value that is not understood."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    for key in ("session.intra_op.allow_spinning", "session.inter_op.allow_spinning"):
        options.add_session_config_entry(key, "0")
    for key in model.config.get("parameters", {}):
        if key.startswith("session."):
            options.add_session_config_entry(key, model.parameter(key))
    options.intra_op_num_threads = _count(model, "intra_op_thread_count", _fair_share(model))
    options.inter_op_num_threads = _count(model, "inter_op_thread_count", 1)
    options.execution_mode = _chosen(model, "execution_mode", _MODES, onnxruntime.ExecutionMode.ORT_SEQUENTIAL)
    options.enable_cpu_mem_arena = _chosen(model, "enable_mem_arena", _SWITCH, True)
    options.enable_mem_pattern = _chosen(model, "enable_mem_pattern", _SWITCH, True)
    level = int(model.config.get("optimization", {}).get("graph", {}).get("level", 0))
    if level not in _LEVELS:
        raise ConfigError(f"optimization graph level {level} of model '{model.name}' must be -1, 0, 1 or 2")
    options.graph_optimization_level = _LEVELS[level]
    return options


def execution_providers(model: ModelContext) -> list[tuple[str, dict[str, str]]]:
    """(provider, its options) in the order of preference: the configured accelerators, then the CPU.

    Raises ConfigError for an accelerator that the installed ONNX Runtime does not have.
    """
    accelerators = model.config.get("optimization", {}).get("execution_accelerators", {})
    available = {name.removesuffix("ExecutionProvider").lower(): name for name in onnxruntime.get_available_providers()}
    chosen: list[tuple[str, dict[str, str]]] = []
    for accelerator in accelerators.get("cpu_execution_accelerator", ()):
        name = str(accelerator.get("name", ""))
        provider = available.get(name.lower())
        if provider is None:
            raise ConfigError(
                f"model '{model.name}': execution accelerator '{name}' is not in the installed ONNX Runtime, which "
                f"has: {', '.join(sorted(available))}"
            )
        chosen.append((provider, {key: str(value) for key, value in accelerator.get("parameters", {}).items()}))
    return [*chosen, ("CPUExecutionProvider", {})]


def _fair_share(model: ModelContext) -> int:
    # the instances run at the same time, each on a thread of its own that takes part in the work
    instances = sum(int(group.get("count", 1)) for group in model.config.get("instance_group", ()))
    return max(1, len(os.sched_getaffinity(0)) // max(1, instances))


def _setting(model: ModelContext, key: str) -> str:
    """The model's parameter, else the backend's option; its key may be written with hyphens."""
    return model.parameter(key) or model.options.get(key, "") or model.options.get(key.replace("_", "-"), "")


def _count(model: ModelContext, key: str, default: int) -> int:
    text = _setting(model, key)
    if not text:
        return default
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{key} of model '{model.name}' must be a whole number (0: all cores), got '{text}'")
    return int(text)


def _chosen(model: ModelContext, key: str, values: Mapping[str, Any], default: Any) -> Any:
    text = _setting(model, key)
    if text and text.lower() not in values:
        raise ConfigError(f"{key} of model '{model.name}' must be one of {', '.join(values)}, got '{text}'")
    return values[text.lower()] if text else default
