# SPDX-License-Identifier: Apache-2.0
"""Model directory -> configuration -> backend -> running instances: how one model version comes to life and ends.

:class:`Loader` is what the repository manager is handed. It publishes nothing, keeps no list of models and knows no
client; every failure leaves nothing running and has a text that may be shown in the repository index.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pyinfer.backends.base import Backend, ModelContext, ModelControl
from pyinfer.backends.find import find_backend
from pyinfer.config.complete import complete, version_files
from pyinfer.config.metrics import MetricsConfig, foreign_families, metrics_config
from pyinfer.config.normalize import device_ids, instances, normalize
from pyinfer.config.pbtxt import canonical, from_json, parse, to_json
from pyinfer.config.source import Source
from pyinfer.config.validate import require_supported, validate
from pyinfer.devices import Devices
from pyinfer.errors import ConfigError, ModelError, PyinferError, Unavailable, Unsupported
from pyinfer.instance_plan import Wanted
from pyinfer.instances import (
    ComposedInstances,
    InstanceChange,
    Instances,
    NativeInstances,
    Probed,
    PythonInstances,
)
from pyinfer.model_files import model_digest
from pyinfer.readiness import ReadinessProbe
from pyinfer.spec import model_spec
from pyinfer.warmup import Warmup

if TYPE_CHECKING:
    from pyinfer._core import Engine, Model
    from pyinfer.config.options import Options

__all__ = ["LoadedModel", "Loader", "LoaderOptions"]

_log = logging.getLogger(__name__)

#: PRIORITY_MIN in ``optimization``
_LEAST_PRIORITY = 19
#: a library with the functions ``TRITONBACKEND_ModelBatch*``, beside the model
_BATCH_STRATEGY = "batchstrategy.so"


class _Step(Probed, Protocol):
    """A version that a step of an ensemble calls; another :class:`LoadedModel`."""

    @property
    def core(self) -> Model: ...


class _Source(Protocol):
    """Where a model is loaded from; :class:`pyinfer.repository.contract.ModelSource` has this shape."""

    @property
    def name(self) -> str: ...
    @property
    def directory(self) -> Path: ...
    @property
    def config_override(self) -> str | None: ...


@dataclass(frozen=True)
class LoaderOptions:
    """What the command line says about loading."""

    #: use ``configs/<this>.pbtxt`` of a model where there is one
    model_config_name: str = ""
    auto_complete: bool = True
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    #: backend name ("" for all backends) -> key -> value
    backend_config: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    devices: Devices = field(default_factory=Devices)

    @classmethod
    def of(cls, options: Options) -> LoaderOptions:
        settings: dict[str, dict[str, str]] = {}
        for scope, key, value in options.backend_config:
            settings.setdefault(scope, {})[key] = value
        return cls(
            model_config_name=options.model_config_name,
            auto_complete=not options.disable_auto_complete_config,
            metrics=metrics_config(options.metrics_config),
            backend_config=settings,
            devices=Devices(
                minimum_capability=options.min_supported_compute_capability,
                load_limits=dict(options.model_load_gpu_limit),
            ),
        )


class Loader:
    """Builds model versions into an engine. Any thread; the same model never on two threads at once."""

    def __init__(self, engine: Engine, options: LoaderOptions | None = None) -> None:
        self._engine = engine
        self._options = options or LoaderOptions()
        #: what models may ask for; set before the first one is loaded
        self.control: ModelControl | None = None

    def configure(self, source: _Source) -> dict[str, Any]:
        """The complete, normalized and valid configuration of ``source`` in Triton's JSON form.

        Raises ConfigError (with file, line and field where they are known), Unsupported or ModelError.
        """
        with _presentable_errors(source, "configuring the model failed"):
            return self._configure(source)

    def load(
        self, source: _Source, config: Mapping[str, Any], version: int, steps: Sequence[_Step] = ()
    ) -> LoadedModel:
        """Build one version with all its instances, which then wait for requests.

        ``steps`` are the versions that the steps of an ensemble call. Raises a PyinferError after freeing everything
        where the backend or any instance fails.
        """
        with _presentable_errors(source, "loading the model failed"):
            return self._load(source, config, version, steps)

    def _configure(self, source: _Source) -> dict[str, Any]:
        given, places = self._read(source)
        files = version_files(source.directory)

        def backend_complete(config: dict[str, Any]) -> dict[str, Any]:
            name = config["backend"]
            if not name:
                return config
            return find_backend(name).auto_complete(source.directory, config, self._backend_options(name))

        filled = complete(source.name, files, given, backend_complete if self._options.auto_complete else None)
        backend = find_backend(filled["backend"]) if filled["backend"] else None
        gpus = self._usable_devices(backend, filled)
        cpu_instances = backend.default_cpu_instances if backend else 1
        config = normalize(filled, cpu_instances=cpu_instances, gpus=gpus or ())
        validate(config, directory_name=source.name, gpus=gpus, source=places)
        require_supported(config)
        for family in foreign_families(config):
            _log.warning("'%s': metric family '%s' is not one whose buckets can be chosen", source.name, family)
        return config

    def _usable_devices(self, backend: type[Backend] | None, config: Mapping[str, Any]) -> list[int] | None:
        """Those that instances may be on; None where the backend uses none. Looked for only where any may be."""
        if backend is None or not backend.uses_devices:
            return None
        groups = config.get("instance_group", ())
        chosen = {group.get("kind", "KIND_AUTO") for group in groups} or {"KIND_AUTO"}
        return self._options.devices.usable() if chosen & {"KIND_AUTO", "KIND_GPU"} else []

    def _cache_origin(self, source: _Source, config: Mapping[str, Any], version: int) -> str:
        """What a remote cache tells the answers of this model by; to know it, all files of the model are read."""
        if not (self._engine.has_remote_cache and config.get("response_cache", {}).get("enable")):
            return ""
        return model_digest(source.directory, version, config)

    def _read(self, source: _Source) -> tuple[dict[str, Any], Source | None]:
        """What the user gave, with every primitive field present, and where each field stands, if in a file."""
        if source.config_override is not None:
            try:
                return to_json(from_json(source.config_override)), None
            except ConfigError as error:
                raise ConfigError(f"Invalid config override: {error}") from error
        chosen = self._options.model_config_name
        candidates = [f"configs/{chosen}.pbtxt"] if chosen else []
        for inner in [*candidates, "config.pbtxt"]:
            try:
                text = (source.directory / inner).read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                continue
            shown = f"{source.name}/{inner}"
            message = parse(text, shown)  # also says so where the text is not UTF-8
            return to_json(message), Source(shown, text.decode("utf-8-sig"))
        return canonical({}), None

    def _load(self, source: _Source, config: Mapping[str, Any], version: int, steps: Sequence[_Step]) -> LoadedModel:
        if "ensemble_scheduling" in config:
            spec = model_spec(config, version, source.directory, self._options.metrics)
            core = self._engine.create(spec, [step.core for step in steps])
            return LoadedModel(core, None, ComposedInstances(steps))
        _refuse_batch_strategy(source, version, config)
        self._options.devices.check_room(device_ids(config), source.name)
        name = config["backend"]
        context = ModelContext(
            source.name, version, source.directory, config, self._backend_options(name), self._engine, self.control
        )
        backend = find_backend(name)(context)
        try:
            spec = model_spec(config, version, source.directory, self._options.metrics, backend.device_inputs())
            model = self._engine.create(spec, cache_origin=self._cache_origin(source, config, version))
        except BaseException:
            backend.close()
            raise
        try:
            warmup = Warmup(config, source.directory)
        except BaseException:
            model.stop()
            backend.close()
            raise
        native = backend.native()
        made: Instances = (
            PythonInstances(model, backend, warmup, _nice(config))
            if native is None
            else NativeInstances(model, native, warmup)
        )
        loaded = LoadedModel(model, backend, made)
        try:
            loaded.prepare_instances(config).commit()
        except BaseException:
            loaded.close()
            raise
        return loaded

    def _backend_options(self, backend: str) -> dict[str, str]:
        settings = self._options.backend_config
        return {**settings.get("", {}), **settings.get(backend, {})}


class LoadedModel:
    """One model version with its backend and instances. Methods may be called from any thread."""

    def __init__(self, core: Model, backend: Backend | None, instances: Instances) -> None:
        """``backend`` is None for an ensemble."""
        self._core = core
        self._backend = backend
        self._instances = instances
        self._lock = threading.Lock()
        self._closed = False

    @property
    def core(self) -> Model:
        """The core's model, to be published."""
        return self._core

    def prepare_instances(self, config: Mapping[str, Any]) -> InstanceChange:
        """Make the instances that ``config`` asks for beyond those that run; a commit of the result exchanges them.

        ``config`` may differ from the one that the model was built with in ``instance_group`` only. Raises what the
        first instance that fails raised; nothing has changed then.
        """
        with self._lock:
            if self._closed:
                raise Unavailable(f"the model '{self._core.name}' is being unloaded")
            return self._instances.prepare([Wanted(*one) for one in instances(config)])

    def probes(self) -> list[ReadinessProbe]:
        """How to ask the model's own code whether it is ready; empty where it has no such code."""
        return self._instances.probes()

    def watch(self, broken: Callable[[str], object]) -> None:
        """Have ``broken`` called, on any thread, with the reason where the version can not execute any more."""
        self._instances.watch(broken)

    def drain(self, timeout_s: float) -> bool:
        """Accept nothing more; wait until what was accepted is answered. False when the time is up."""
        return self._core.drain(timeout_s)

    def close(self) -> None:
        """Answer what is still queued with UNAVAILABLE, end the instances, free the backend. Idempotent.

        Blocks until the batches that are executing have ended.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._core.stop()
        self._instances.join()
        try:
            if self._backend is not None:
                self._backend.close()
        except Exception:
            _log.exception("closing the backend of '%s' failed", self._core.name)


def _refuse_batch_strategy(source: _Source, version: int, config: Mapping[str, Any]) -> None:
    """Raise Unsupported where Triton would load a library that decides what joins a batch."""
    folders = () if "sequence_batching" in config else (source.directory / str(version), source.directory)
    if any((folder / _BATCH_STRATEGY).exists() for folder in folders):
        raise Unsupported(
            f"model '{source.name}' has a custom batching strategy, the file '{_BATCH_STRATEGY}', which this version "
            "can not load; remove it to have the model batched by its configuration alone"
        )


def _nice(config: Mapping[str, Any]) -> int:
    """What the threads of the instances yield to others, as ``nice`` has it."""
    priority = config.get("optimization", {}).get("priority", "PRIORITY_DEFAULT")
    return _LEAST_PRIORITY if priority == "PRIORITY_MIN" else 0


@contextmanager
def _presentable_errors(source: _Source, what: str) -> Iterator[None]:
    """Errors become ours, with a text that holds no path outside the repository. The log keeps the original."""
    try:
        yield
    except PyinferError as error:
        text = _without_directories(str(error), source.directory)
        if text == str(error):
            raise
        raise ModelError(text) from error
    except (Exception, SystemExit) as error:  # a model's SystemExit must not end the server
        _log.error("%s: '%s'", what, source.name, exc_info=error)
        raise ModelError(f"{what}: {_first_line(error, source.directory)}") from error


def _first_line(error: BaseException, directory: Path) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    text = _without_directories(str(error), directory).strip().partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _without_directories(text: str, directory: Path) -> str:
    """``text`` with paths below the model repository made relative to it."""
    repository = directory.parent
    for place in {str(repository.resolve()), str(repository.absolute()), str(repository)} - {"/", "."}:
        text = text.replace(f"{place}/", "")
    return text
