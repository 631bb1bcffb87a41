# SPDX-License-Identifier: Apache-2.0
"""What both protocols ask of the server, apart from inference: health, metadata, configuration, statistics, repository.

One meaning for two dialects: a frontend turns its bytes into these calls and the returned dicts (Triton's JSON form,
snake_case, integers as ints) into its bytes. Nothing here knows a socket, a verb or a status number; failures are
exceptions of :mod:`pyinfer.errors`, whose ``code`` the frontends map. Inference does not pass here: the core does that.
"""

from __future__ import annotations

import base64
import binascii
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pyinfer import __version__
from pyinfer._core import MetricModel
from pyinfer.config.normalize import only_device
from pyinfer.devices import Devices
from pyinfer.errors import InvalidArgument, NotFound, Unavailable
from pyinfer.model_files import wire_type
from pyinfer.readiness import all_ready
from pyinfer.repository.manager import ModelManager
from pyinfer.repository.states import Served
from pyinfer.shared_memory import SharedMemory
from pyinfer.telemetry.families import Family
from pyinfer.telemetry.logging import LogSettings
from pyinfer.telemetry.metrics import Metrics
from pyinfer.telemetry.statistics import Statistics
from pyinfer.telemetry.tracing import TraceSettings

if TYPE_CHECKING:
    from pyinfer._core import Engine, Model

__all__ = ["EXTENSIONS", "Service", "parse_version"]

#: in Triton's order; only what this version has: a client that asks before it uses an extension is told the truth
EXTENSIONS = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
)

_FILE_PREFIX = "file:"
_MAX_VERSION = 2**63 - 1
_ECHO_LIMIT = 64
#: models of which all can be told while others wait
_MANY = 64
#: how long models may take to free themselves although the deadline of the stop has passed
_CLOSE_S = 1.0


class _Phase(Enum):
    """Where the server is in its life; it only moves forward."""

    STARTING = 0
    SERVING = 1
    STOPPING = 2
    STOPPED = 3


def parse_version(text: str) -> int | None:
    """The model version that a client named: None for the latest one (empty text).

    Raises InvalidArgument where the text is no non-negative decimal integer, NotFound where it is one beyond 64 bits.
    """
    if text == "":
        return None
    if text.isascii() and text.isdigit():
        # The length is looked at first: Python refuses to convert very long digit strings, with a text of its own.
        if len(text) <= _ECHO_LIMIT and int(text) <= _MAX_VERSION:
            return int(text)
        raise NotFound(f"Request for unknown model: version {text[:_ECHO_LIMIT]} is not found")
    raise InvalidArgument(
        f"failed to get model version from specified version string '{text[:_ECHO_LIMIT]}' "
        "(version must be a non-negative integer)"
    )


class Service:
    """The control plane of one server.

    Thread rule: every method may be called from any thread. Only ``start``, ``load_model``, ``unload_model`` and
    ``stop`` block for long (a frontend calls them off its event loop); the others take microseconds,
    ``repository_index`` reads directories.
    """

    def __init__(
        self,
        engine: Engine,
        manager: ModelManager,
        *,
        server_id: str = "triton",
        strict_readiness: bool = True,
        metrics: Sequence[Callable[[], list[Family]]] = (),
        latency_counters: bool = True,
        log: LogSettings | None = None,
        trace: TraceSettings | None = None,
        extensions: tuple[str, ...] = EXTENSIONS,
        devices: Devices | None = None,
    ) -> None:
        """``metrics`` are read for each page, after what belongs to models; without ``latency_counters`` the cumulative
        durations of models are left out. ``log`` and ``trace`` are what the extensions of these
        names show and change. ``devices`` are those that instances may be on."""
        self._engine = engine
        self._manager = manager
        self._log = log or LogSettings()
        self._trace = trace or TraceSettings(engine.tracer)
        self._server_id = server_id
        self._strict_readiness = strict_readiness
        self._extensions = extensions
        self._devices = devices or Devices()
        #: regions that clients have registered
        self.shared_memory = SharedMemory(engine.shared_memory)
        self._phase = _Phase.STARTING
        self._lock = threading.Lock()
        #: see :meth:`_turn`
        self._telling = threading.Lock()
        self._metrics = Metrics(self._metric_models, metrics, latency_counters=latency_counters)
        self._metric_model: WeakKeyDictionary[Model, MetricModel] = WeakKeyDictionary()

    # Lifecycle

    def start(self) -> list[str]:
        """Load the models that the control mode names, then be ready. Blocks until each is loaded or has failed.

        Returns one text for each model that failed, for the caller to log and, with ``--exit-on-error``, to exit on.
        Raises InvalidArgument where a model repository can not be read at all.
        """
        failures = self._manager.start()
        with self._lock:
            if self._phase is _Phase.STARTING:
                self._phase = _Phase.SERVING
        return failures

    def begin_stop(self) -> None:
        """Be not ready from now on and refuse new requests; accepted ones go on. Does not block. Idempotent."""
        with self._lock:
            if self._phase.value >= _Phase.STOPPING.value:
                return
            self._phase = _Phase.STOPPING
        self._engine.stop_accepting()

    def stop(self, deadline_s: float = 30.0) -> bool:
        """Answer what was accepted, then unload all models. Blocks for at most about ``deadline_s`` seconds.

        Returns True where every accepted request was answered by its model, False where the time was up and the rest
        was answered UNAVAILABLE.
        """
        self.begin_stop()
        until = time.monotonic() + deadline_s
        drained = self._manager.drain(max(0.0, until - time.monotonic()))
        self._manager.close(max(_CLOSE_S, until - time.monotonic()))
        with self._lock:
            self._phase = _Phase.STOPPED
        return drained

    # Health

    def live(self) -> bool:
        """True from construction on. Raises Unavailable while the server stops."""
        self._refuse_while_stopping()
        return True

    def ready(self) -> bool:
        """True when started and, with strict readiness, all models that should be served are and say so.

        Raises Unavailable while the server stops. Blocks for at most 5 s, and only where :meth:`asks_models`.
        """
        self._refuse_while_stopping()
        if self._phase is not _Phase.SERVING or not self._strict_readiness:
            return self._phase is _Phase.SERVING
        return self._manager.healthy() and all_ready(self._manager.probes())

    def asks_models(self) -> bool:
        """Whether readiness depends on code of a model, so that asking for it may block. Does not block."""
        return bool(self._manager.probes())

    def model_ready(self, name: str, version: str = "") -> bool:
        """True where the version (the latest one for "") answers requests, False where it is known but does not.

        Raises NotFound for an unknown model or version, InvalidArgument for a malformed version. Blocks as
        :meth:`ready` does.
        """
        self._refuse_while_stopping()
        wanted = parse_version(version)
        try:
            served = self._manager.find(name, wanted)
        except (Unavailable, InvalidArgument):  # the latter: several models have that name
            return False
        except NotFound:
            if wanted is None and self._manager.known(name):
                return False
            raise
        return all_ready(served.handle.probes())

    # Metadata

    def server_metadata(self) -> dict[str, Any]:
        """``name``, ``version``, ``extensions``."""
        return {"name": self._server_id, "version": __version__, "extensions": list(self._extensions)}

    def model_metadata(self, name: str, version: str = "") -> dict[str, Any]:
        """``name``, ``versions`` (strings), ``platform``; ``inputs``, ``outputs`` of ``name``, ``datatype``, ``shape``.

        ``versions`` are the ready ones, or only the one asked for. Shapes start with -1 where the model batches.
        Raises NotFound, Unavailable (known but not ready) or InvalidArgument (malformed version).
        """
        wanted = parse_version(version)
        served = self._manager.find(name, wanted)
        config = served.config
        versions = [entry.version for entry in self._manager.served(name)] if wanted is None else [wanted]
        batched = int(config.get("max_batch_size", 0)) >= 1
        return {
            "name": name,
            "versions": [str(number) for number in versions],
            "platform": config.get("platform") or config.get("backend", ""),
            "inputs": [_tensor_metadata(tensor, batched) for tensor in config.get("input", ())],
            "outputs": [_tensor_metadata(tensor, batched) for tensor in config.get("output", ())],
        }

    def model_config(self, name: str, version: str = "") -> dict[str, Any]:
        """The complete, normalized configuration. Raises as :meth:`model_metadata`. The result is the caller's."""
        return dict(self._manager.find(name, parse_version(version)).config)

    def statistics(self, name: str = "", version: str = "") -> Statistics:
        """Of all ready versions, of those of one model, or of one version.

        Raises InvalidArgument where the model or version that is named is not ready, known or not.
        """
        wanted = parse_version(version)
        served = self._manager.served(name or None)
        if name and len({entry.model for entry in served}) != 1:
            raise InvalidArgument(f"requested model '{name}' is not available")
        if name and wanted is not None:
            served = tuple(entry for entry in served if entry.version == wanted)
            if not served:
                raise InvalidArgument(f"requested model version is not available for model '{name}'")
        return Statistics([entry.core for entry in served], nullcontext() if name else self._turn())

    def has_many_models(self) -> bool:
        """Whether what is told of all models takes so long that it must not be on an event loop. Does not block."""
        return self._manager.count() > _MANY

    # Repository

    def repository_index(self, ready_only: bool = False, repository_name: str = "") -> list[dict[str, Any]]:
        """One dict for each known version: ``name`` and, where known, ``version`` (a string), ``state``, ``reason``."""
        self._refuse_while_stopping()
        with self._turn():
            return self._manager.index(ready_only)

    def load_model(self, name: str, parameters: Mapping[str, Any] | None = None, *, asking: str = "") -> None:
        """Load or reload a model; returns when it serves, the old version serving until then.

        ``parameters``: ``config`` (text of a configuration in JSON form) and ``file:<version>/<path>`` (bytes, or text
        in base64). ``asking``: the model whose own load or unload waits for this call. Raises Unavailable where the
        control mode does not allow it, InvalidArgument, or ModelError.
        """
        self._refuse_while_stopping()
        self._manager.require_explicit()
        config, files = _load_parameters(parameters or {})
        self._manager.load(name, config=config, files=files, asking=asking)

    def unload_model(self, name: str, unload_dependents: bool = False, *, asking: str = "") -> None:
        """Unload all versions of a model; requests in flight are answered first. An unknown model is no error.

        With ``unload_dependents`` the models go too that were loaded only because this one, an ensemble, needs them.
        ``asking`` as for :meth:`load_model`.
        """
        self._refuse_while_stopping()
        self._manager.require_explicit()
        if not isinstance(unload_dependents, bool):
            raise InvalidArgument("invalid value type for 'unload_dependents' parameter, expected bool_param.")
        self._manager.unload(name, unload_dependents=unload_dependents, asking=asking)

    # Telemetry

    def log_settings(self) -> dict[str, bool | int | str]:
        """The settings of the log, by the names of the logging extension."""
        self._refuse_while_stopping()
        return self._log.describe()

    def update_log_settings(self, changes: Mapping[str, Any]) -> None:
        """Change settings of the log, all of ``changes`` or none; unknown names are ignored, and so are None values.

        Raises Unsupported for ``log_file``, InvalidArgument for a value of another type or out of range.
        """
        self._refuse_while_stopping()
        self._log.update(changes)

    def trace_settings(self, name: str = "") -> dict[str, list[str]]:
        """The settings of tracing that hold for a model ("": for all that have none of their own), by name.

        Raises InvalidArgument where the model is not ready, known or not.
        """
        self._require_traceable(name)
        return self._trace.describe(name)

    def update_trace_settings(self, name: str, changes: Mapping[str, Any]) -> None:
        """Change settings of tracing for a model ("": for all), all of ``changes`` or none; None takes one back.

        Raises Unsupported for ``trace_file``, InvalidArgument for a wrong value and where the model is not ready.
        """
        self._require_traceable(name)
        self._trace.update(name, changes)

    def _require_traceable(self, name: str) -> None:
        self._refuse_while_stopping()
        if not name:
            return
        try:
            self._manager.find(name, None)
        except (NotFound, Unavailable):
            raise InvalidArgument(f"Request for unknown model : {name}") from None

    def metrics_take_long(self) -> bool:
        """Whether the next page may take so long that it must not be written on an event loop. Does not block."""
        return self.has_many_models() or self._metrics.may_wait()

    def metrics(self) -> bytes:
        """All metrics in Prometheus' text format (UTF-8)."""
        return self._metrics.render()

    def model_table(self) -> list[tuple[str, str, str]]:
        """(model, version, status) of each version that is or was to be served, for the table at start-up."""
        return self._manager.table()

    def _turn(self) -> AbstractContextManager[object]:
        """For what is told of all models: where these are many, one thread at a time, whoever asks."""
        return self._telling if self.has_many_models() else nullcontext()

    def _refuse_while_stopping(self) -> None:
        if self._phase.value >= _Phase.STOPPING.value:
            raise Unavailable("Server exiting")

    def _metric_models(self) -> list[MetricModel]:
        return [self._metric_model.get(served.core) or self._label(served) for served in self._manager.served()]

    def _label(self, served: Served) -> MetricModel:
        """What labels a version does not change while it is served, and pages are asked for often."""
        tags = served.config.get("metric_tags", {})
        labelled = MetricModel(
            served.core,
            namespace=served.namespace,
            tags=tags,
            gpu_uuid=self._devices.uuid(only_device(served.config)),
            load_seconds=served.load_seconds,
        )
        return self._metric_model.setdefault(served.core, labelled)


def _tensor_metadata(tensor: Mapping[str, Any], batched: bool) -> dict[str, Any]:
    shape = [int(dim) for dim in tensor.get("dims", ())]
    return {
        "name": tensor.get("name", ""),
        "datatype": wire_type(str(tensor.get("data_type", "TYPE_INVALID"))),
        "shape": [-1, *shape] if batched else shape,
    }


def _load_parameters(parameters: Mapping[str, Any]) -> tuple[str | None, dict[str, bytes]]:
    """The configuration text and the files (by path below the model's directory) of a load request."""
    config: str | None = None
    files: dict[str, bytes] = {}
    for key, value in parameters.items():
        if key == "config":
            if not isinstance(value, str):
                raise InvalidArgument("invalid value type for load parameter 'config', expected string_param.")
            config = value
        elif key.startswith(_FILE_PREFIX):
            files[key[len(_FILE_PREFIX) :]] = _file_bytes(key, value)
        else:
            raise InvalidArgument(f"unrecognized load parameter '{key[:_ECHO_LIMIT]}'.")
    return config, files


def _file_bytes(key: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidArgument(f"invalid value type for load parameter '{key[:_ECHO_LIMIT]}', expected bytes_param.")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"load parameter '{key[:_ECHO_LIMIT]}' is not valid base64: {error}") from error
