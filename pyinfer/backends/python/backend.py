# SPDX-License-Identifier: Apache-2.0
"""Loads ``model.py`` and runs its ``TritonPythonModel``, one object for each instance, on threads of this process.

A batch costs one GIL region. Instances of one model share its module, hence its globals. Not here: what a model does
to call another one (``calls``), and the event loops of ``async def execute`` (``coroutines``).
"""

from __future__ import annotations

import contextvars
import inspect
import json
import logging
import os
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinfer.backends.base import Backend, Instance, InstanceContext, ModelContext
from pyinfer.backends.paths import lowest_version, model_file, without_paths
from pyinfer.backends.python._objects import CallScope, decoupled_fault, execute_batch, fail_all, requests_of
from pyinfer.backends.python.affinity import minds_its_thread
from pyinfer.backends.python.autocomplete import COMPLETED_FIELDS, ModelConfig
from pyinfer.backends.python.calls import making, serve
from pyinfer.backends.python.imports import ModelImports
from pyinfer.backends.python.settings import Settings
from pyinfer.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pyinfer._core import Batch
    from pyinfer.backends.python.coroutines import LoopThread

__all__ = ["InProcessBackend"]

_CLASS = "TritonPythonModel"
_FILE = "model.py"
#: a parameter of the model
_ANY_THREAD = "EXECUTE_ON_ANY_THREAD"

_log = logging.getLogger("pyinfer.backends.python")


class InProcessBackend(Backend):
    """One loaded version of a Python model. Raises ModelError with the text of what the model's code raised."""

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        if model.engine is not None:
            serve(model.engine, model.control)
        self._loop_lock = threading.Lock()
        #: of decoupled models with ``async def execute``: all their instances share one
        self._loop: LoopThread | None = None
        self._settings = Settings.of(model.config, model.options)
        file = model_file(model.directory, model.version, model.config, _FILE)
        self._any_thread = _any_thread(model, file)
        self._imports = ModelImports(model.version_directory, alone=not self._settings.initialize_in_parallel)
        try:
            self._class = _load_class(self._imports, file, model.name, model.directory)
        except BaseException:
            self._imports.close()
            raise

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        version = lowest_version(directory)
        if version is None:
            return config
        file = model_file(directory, version, config, _FILE)
        # Most models have no such hook, and running one means to import the model an extra time.
        if not file.is_file() or b"auto_complete_config" not in file.read_bytes():
            return config
        name = str(config.get("name") or directory.name)
        imports = ModelImports(file.parent, alone=not Settings.of(config, options).initialize_in_parallel)
        try:
            hook = getattr(_load_class(imports, file, name, directory), "auto_complete_config", None)
            if hook is None:
                return config
            with imports.active():
                return _completed(hook, name, config, directory)
        finally:
            imports.close()

    def device_inputs(self) -> bool:
        return self._settings.device_inputs

    def make_instance(self, instance: InstanceContext) -> Instance:
        model = self.model
        arguments = {
            "model_config": json.dumps(dict(model.config)),
            "model_instance_kind": instance.kind,
            "model_instance_name": instance.name,
            "model_instance_device_id": str(instance.device_id),
            "model_repository": str(model.directory),
            "model_version": str(model.version),
            "model_name": model.name,
        }
        if instance.nice:
            # before the model's own code, so that the threads that it starts inherit it
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), instance.nice)
        try:
            with self._imports.active(), making(model.name):
                made = self._class()
                if hasattr(made, "initialize"):
                    made.initialize(arguments)
        except BaseException as error:
            _log.error("model instance '%s' failed to initialize", instance.name, exc_info=error)
            raise ModelError(f"model instance '{instance.name}': {_told(error, model.directory)}") from error
        decoupled = bool(model.config.get("model_transaction_policy", {}).get("decoupled"))
        if not inspect.iscoroutinefunction(made.execute):
            any_thread = self._any_thread and instance.nice == 0
            return _PythonInstance(made, made.execute, instance.name, model, decoupled=decoupled, any_thread=any_thread)
        if decoupled:
            return _ConcurrentInstance(made, instance.name, model, self._shared_loop())
        # few models need asyncio, and a worker process starts faster without
        from pyinfer.backends.python.coroutines import OwnLoop

        loop = OwnLoop(made.execute)
        return _PythonInstance(made, loop.run, instance.name, model, decoupled=False, close=loop.close)

    def close(self) -> None:
        if self._loop is not None:
            self._loop.close()
        self._imports.close()

    def _shared_loop(self) -> LoopThread:
        from pyinfer.backends.python.coroutines import LoopThread

        with self._loop_lock:
            if self._loop is None:
                self._loop = LoopThread(self.model.name)
            return self._loop


class _PythonInstance:
    """Runs one ``TritonPythonModel`` object, whose ``execute`` has done its work when it returns."""

    def __init__(
        self,
        made: Any,
        execute: Callable[[list[Any]], object],
        name: str,
        model: ModelContext,
        *,
        decoupled: bool,
        any_thread: bool = False,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._model = made
        self._execute = execute
        self._close = close
        self._scope = None if model.engine is None else CallScope(model.engine)
        if self._scope is not None:
            self._scope.enter()
            self._scope.runs_callees = close is None  # code of other models would find a loop on its thread
        #: see ``pyinfer.backends.base.Instance``
        self.any_thread = any_thread
        #: what the code finds in context variables, on whichever thread
        self._context = contextvars.copy_context() if any_thread else None
        self._name = name
        self._model_name = model.name
        self._directory = model.directory
        self._decoupled = decoupled
        #: the model's own hook, where it has one; see ``pyinfer.backends.base.Instance``
        self.is_ready = partial(_is_ready, made) if hasattr(made, "is_ready") else None

    def execute(self, batch: Batch) -> None:
        if self._context is None:
            self._execute_batch(batch)
        else:
            self._context.run(self._execute_batch, batch)

    def _execute_batch(self, batch: Batch) -> None:
        execute_batch(batch, self._scope, self._execute, self._decoupled, self._model_name, self._told, self._fail)

    def _told(self, error: BaseException) -> str:
        return _execution_fault(error, self._name, self._directory)

    def _fail(self, batch: Batch, requests: list[Any], fault: str) -> None:
        _fail_requests(batch, requests, self._name, fault)

    def close(self) -> None:
        _finalize(self._model, self._name, self._model_name)
        if self._close is not None:
            self._close()
        del self._model, self._execute, self._close


class _ConcurrentInstance:
    """Runs one object of a decoupled model with ``async def execute``: batches are begun, and end when they end."""

    def __init__(self, made: Any, name: str, model: ModelContext, loop: LoopThread) -> None:
        self._model = made
        self._name = name
        self._model_name = model.name
        self._directory = model.directory
        self._engine = model.engine
        self._loop = loop
        self.is_ready = partial(_is_ready, made) if hasattr(made, "is_ready") else None

    def execute(self, batch: Batch) -> None:
        requests = requests_of(batch)
        for request in requests:
            request.get_response_sender()  # the batch ends before they are answered
        self._loop.start(self._run(requests))

    async def _run(self, requests: list[Any]) -> None:
        if self._engine is not None:
            CallScope(self._engine, requests).enter()
        try:
            fault = decoupled_fault(self._model_name, await self._model.execute(requests.copy()))
        except BaseException as error:
            fault = _execution_fault(error, self._name, self._directory)
        if fault is not None:
            _fail_requests(None, requests, self._name, fault)

    def close(self) -> None:
        self._loop.wait_idle()
        _finalize(self._model, self._name, self._model_name)
        del self._model


def _execution_fault(error: BaseException, instance: str, directory: Path) -> str:
    """What clients are told of what ``execute`` raised; the log gets all of it."""
    _log.error("model instance '%s' failed to execute", instance, exc_info=error)
    return _told(error, directory)


def _fail_requests(batch: Batch | None, requests: list[Any], instance: str, fault: str) -> None:
    fail_all(batch, requests, "INTERNAL", f"Failed to process the request(s) for model '{instance}', message: {fault}")


def _finalize(made: Any, name: str, model: str) -> None:
    if hasattr(made, "finalize"):
        try:
            with making(model):
                made.finalize()
        except BaseException as error:  # sys.exit() as well; and there is nobody left to tell
            _log.error("model instance '%s' failed to finalize", name, exc_info=error)


def _any_thread(model: ModelContext, file: Path) -> bool:
    """Whether the model does not mind which thread executes, by its own word or else by its text.

    Raises ConfigError for a word that is no answer.
    """
    setting = model.parameter(_ANY_THREAD, "").lower()
    if setting not in ("yes", "no", ""):
        raise ConfigError(f"model parameter {_ANY_THREAD} must be yes or no, got '{setting}'")
    if setting or model.engine is None:
        return setting == "yes"
    return file.is_file() and not minds_its_thread(file.read_bytes())


def _is_ready(made: Any) -> bool:
    answer = made.is_ready()
    if inspect.isawaitable(answer):
        import asyncio

        answer = asyncio.run(_awaited(answer))
    if not isinstance(answer, bool):
        raise TypeError(f"is_ready must return a bool, found type '{type(answer).__name__}'")
    return answer


async def _awaited(answer: Awaitable[Any]) -> Any:
    return await answer


def _load_class(imports: ModelImports, file: Path, model: str, directory: Path) -> type[Any]:
    where = f"{directory.name}/{file.parent.name}/{file.name}"
    if not file.is_file():
        raise ModelError(f"model '{model}' has no file {where}")
    try:
        module = imports.load(file, f"{re.sub(r'[^0-9A-Za-z_]', '_', model)}_{file.parent.name}")
    except BaseException as error:
        _log.error("model '%s' failed to load", model, exc_info=error)
        raise ModelError(f"{where} can not be imported: {_told(error, directory)}") from error
    loaded = getattr(module, _CLASS, None)
    if not isinstance(loaded, type):
        raise ModelError(f"{where} has no class '{_CLASS}'")
    execute = getattr(loaded, "execute", None)
    if not callable(execute):
        raise ModelError(f"{where}: class '{_CLASS}' has no method 'execute'")
    return loaded


def _completed(
    hook: Callable[[ModelConfig], object], name: str, config: dict[str, Any], directory: Path
) -> dict[str, Any]:
    try:
        result = hook(ModelConfig(json.dumps({**config, "name": name})))
    except ValueError as error:
        raise ConfigError(without_paths(str(error), directory)) from error
    except BaseException as error:
        _log.error("auto_complete_config of model '%s' failed", name, exc_info=error)
        raise ModelError(f"auto_complete_config of model '{name}' failed: {_told(error, directory)}") from error
    if not isinstance(result, ModelConfig):
        raise ModelError(
            f"auto_complete_config of model '{name}' must return the ModelConfig object, found type "
            f"'{type(result).__name__}'"
        )
    completed = result.as_dict()
    return {**config, **{field: completed[field] for field in COMPLETED_FIELDS if field in completed}}


def _told(error: BaseException, directory: Path) -> str:
    """``error`` as a client may read it: type and text, without traceback and paths."""
    try:
        text = without_paths(str(error), directory)
    except Exception:  # a class of the model, whose own methods may fail as well
        text = "its text can not be shown"
    return f"{type(error).__name__}: {text}"
