# SPDX-License-Identifier: Apache-2.0
"""Whether the instances of a Python model are threads of the server or processes of their own.

The model's parameter ``ISOLATION`` says so (``thread`` or ``process``), or ``--backend-config=python,isolation=...``
for models without it. A model with ``EXECUTION_ENV_PATH`` needs a process, one that takes inputs on a CUDA device
(``FORCE_CPU_ONLY_INPUT_TENSORS`` ``no``) a thread. Where nobody says anything, instances are processes, as in Triton.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfer.backends.base import Backend, Instance, InstanceContext, MetricFamily, ModelContext
from pyinfer.backends.paths import lowest_version
from pyinfer.errors import ConfigError

__all__ = ["PythonBackend", "isolation_of"]

_PARAMETER = "ISOLATION"
_OPTION = "isolation"
_ENVIRONMENT = "EXECUTION_ENV_PATH"
_HOST_INPUTS = "FORCE_CPU_ONLY_INPUT_TENSORS"


def isolation_of(config: Mapping[str, Any], options: Mapping[str, str]) -> str:
    """``thread`` or ``process``. Raises ConfigError for anything else, and for a thread that needs an environment."""
    parameters = config.get("parameters", {})
    chosen = str(parameters.get(_PARAMETER, {}).get("string_value", ""))
    has_environment = bool(parameters.get(_ENVIRONMENT, {}).get("string_value", ""))
    where = f"model parameter {_PARAMETER}" if chosen else f"backend option {_OPTION} of the python backend"
    host_inputs = str(parameters.get(_HOST_INPUTS, {}).get("string_value", "yes")).lower() != "no"
    chosen = chosen or options.get(_OPTION, "process" if has_environment or host_inputs else "thread")
    if chosen not in ("thread", "process"):
        raise ConfigError(f"{where} must be thread or process, got '{chosen}'")
    if has_environment and chosen == "thread":
        raise ConfigError(
            f"model parameter {_ENVIRONMENT} needs a process of its own, and {where} says 'thread'; remove one of them"
        )
    return chosen


class PythonBackend(Backend):
    """A Python model that runs as :func:`isolation_of` says."""

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        self._chosen = _chosen(model.config, model.options)(model)

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        if lowest_version(directory) is None:
            return config
        return _chosen(config, options).auto_complete(directory, config, options)

    @classmethod
    def metric_families(cls) -> Sequence[MetricFamily]:
        # Models in this process can have made some; where none is, nothing is imported for the question.
        made = sys.modules.get("pyinfer.backends.python.metric_registry")
        return () if made is None else made.families()

    @classmethod
    def log_level_changed(cls, level: int) -> None:
        supervising = sys.modules.get("pyinfer.backends.python.supervisor")
        if supervising is not None:
            supervising.tell_log_level(level)

    @classmethod
    def end(cls) -> None:
        launching = sys.modules.get("pyinfer.backends.python.launch")
        if launching is not None:
            launching.fork_server.end()

    def device_inputs(self) -> bool:
        return self._chosen.device_inputs()

    def make_instance(self, instance: InstanceContext) -> Instance:
        return self._chosen.make_instance(instance)

    def close(self) -> None:
        self._chosen.close()


def _chosen(config: Mapping[str, Any], options: Mapping[str, str]) -> type[Backend]:
    # Imported where needed: a worker process imports this module's package, and must stay small.
    if isolation_of(config, options) == "process":
        from pyinfer.backends.python.process import ProcessBackend

        return ProcessBackend
    from pyinfer.backends.python.backend import InProcessBackend

    return InProcessBackend
