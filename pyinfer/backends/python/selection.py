# SPDX-License-Identifier: Apache-2.0
"""Whether the instances of a Python model are threads of the server or processes of their own.

The model's parameter ``ISOLATION`` says so (``thread`` or ``process``), or ``--backend-config=python,isolation=...``
for models without it. A model with ``EXECUTION_ENV_PATH`` needs a process, one that takes inputs on a CUDA device
(``FORCE_CPU_ONLY_INPUT_TENSORS`` ``no``) a thread. Where nobody says anything, instances are processes, as in Triton.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyinfer.backends.base import Backend, Instance, InstanceContext, MetricFamily, ModelContext
from pyinfer.backends.paths import lowest_version
from pyinfer.backends.python.settings import LIMITS, Settings

__all__ = ["PythonBackend"]

_log = logging.getLogger("pyinfer.backends.python")


class PythonBackend(Backend):
    """A Python model that runs as its settings say."""

    uses_devices = True

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        settings = Settings.of(model.config, model.options)
        if settings.isolation == "thread" and (idle := [name for name in LIMITS if model.parameter(name)]):
            _log.warning("model '%s': without effect, as its instances are threads: %s", model.name, ", ".join(idle))
        self._chosen = _chosen(settings)(model)

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        if lowest_version(directory) is None:
            return config
        return _chosen(Settings.of(config, options)).auto_complete(directory, config, options)

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


def _chosen(settings: Settings) -> type[Backend]:
    # Imported where needed: a worker process imports this module's package, and must stay small.
    if settings.isolation == "process":
        from pyinfer.backends.python.process import ProcessBackend

        return ProcessBackend
    from pyinfer.backends.python.backend import InProcessBackend

    return InProcessBackend
