# SPDX-License-Identifier: Apache-2.0
"""Python models whose instances are processes: each instance has a worker, which is replaced when it dies.

The server never imports the model. A worker that dies takes the batch with it that it was executing; the next one
starts at once, then ever later while none of them executes anything, and at last the model is given up. One that has
grown too large is replaced while it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinfer._core import Engine, PlacedInputs, WorkerHost
from pyinfer.backends.base import Backend, Instance, InstanceContext, ModelContext
from pyinfer.backends.paths import lowest_version, model_file, without_paths
from pyinfer.backends.python.environment import find_environment
from pyinfer.backends.python.launch import fork_server
from pyinfer.backends.python.questions import ModelServices
from pyinfer.backends.python.running import Plan, ask_once
from pyinfer.backends.python.settings import Settings
from pyinfer.backends.python.supervisor import Supervisor
from pyinfer.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pyinfer._core import Batch
    from pyinfer._core import Instance as CoreInstance

__all__ = ["ProcessBackend"]

_HOOK = b"auto_complete_config"
_FILE = "model.py"


class ProcessBackend(Backend):
    """One loaded version of a Python model; see the module."""

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        self._settings = Settings.of(model.config, model.options)
        file = model_file(model.directory, model.version, model.config, _FILE)
        if not file.is_file():
            where = f"{model.directory.name}/{file.parent.name}/{file.name}"
            raise ModelError(f"model '{model.name}' has no file {where}")
        self._environment = find_environment(self._settings.environment, model.directory)
        self._services = ModelServices(model.name, model.control)
        self._inputs = PlacedInputs()
        if self._environment is None:
            fork_server.acquire()

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        version = lowest_version(directory)
        if version is None:
            return config
        file = model_file(directory, version, config, _FILE)
        if not file.is_file() or _HOOK not in file.read_bytes():
            return config
        name = str(config.get("name") or directory.name)
        settings = Settings.of(config, options)
        plan = Plan(
            name,
            {"do": "complete", "directory": str(directory.absolute()), "config": config},
            find_environment(settings.environment, directory),
            settings.start_limit_s,
            settings.initialization_limit_s,
        )
        fork_server.acquire()
        try:
            answer = ask_once(plan)
        finally:
            fork_server.release()
        completed = answer.get("config")
        if answer.get("event") == "completed" and isinstance(completed, dict):
            return completed
        text = without_paths(str(answer.get("error", "it said nothing")), directory)
        raise (ConfigError if answer.get("fault") == "config" else ModelError)(text)

    def make_instance(self, instance: InstanceContext) -> Instance:
        model = self.model
        wanted = {
            "do": "execute",
            "model": {
                "name": model.name,
                "version": model.version,
                "directory": str(model.directory.absolute()),
                "config": dict(model.config),
            },
            "instance": {"name": instance.name, "kind": instance.kind, "device_id": instance.device_id},
            "nice": instance.nice,
        }
        settings = self._settings
        plan = Plan(
            instance.name,
            wanted,
            self._environment,
            settings.start_limit_s,
            settings.initialization_limit_s,
            settings.finalization_limit_s,
            settings.memory_limit_bytes,
        )
        engine = model.engine if isinstance(model.engine, Engine) else None
        host = WorkerHost(settings.execution_limit_s, engine, self._inputs)
        made = _ProcessInstance(plan, host, self._services, model.directory, instance)
        made.start()
        return made

    def close(self) -> None:
        if self._environment is None:
            fork_server.release()


class _ProcessInstance:
    """Batches go from its thread to a worker without the interpreter's lock."""

    def __init__(
        self, plan: Plan, host: WorkerHost, services: ModelServices, directory: Path, instance: InstanceContext
    ) -> None:
        self._host = host
        self._supervisor = Supervisor(
            plan, host, services, lambda text: without_paths(text, directory), instance.give_up
        )

    def start(self) -> None:
        """Wait for the first worker. Raises ModelError where it can not start."""
        self._supervisor.start()
        self._supervisor.wait_first()

    def execute(self, batch: Batch) -> None:
        self._host.execute(batch)

    def run(self, core: CoreInstance) -> None:
        """See :class:`pyinfer.backends.base.Instance`."""
        self._host.run(core)

    def interrupt(self) -> None:
        """No worker that dies from now on is replaced."""
        self._supervisor.start_no_more()

    def is_ready(self) -> bool:
        """Whether there is a worker and, where the model has a say in that, what it says."""
        return self._supervisor.is_ready()

    def close(self) -> None:
        self._supervisor.end()
        self._host.stop()
        self._supervisor.join()
