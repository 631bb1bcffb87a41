# SPDX-License-Identifier: Apache-2.0
"""The contract between pyinfer and a backend.

A backend turns a model directory into something that executes batches. It is a class named by an entry point of the
group ``pyinfer.backends`` (``[project.entry-points."pyinfer.backends"] name = "package.module:Class"``), and the
``backend`` field of a model's configuration names it.

One object of the class is made for each loaded model version. It makes one *instance* for each entry of the
``instance_group`` that is to run; an instance executes one batch at a time, on one thread of its own, which is also the
thread that made it. Nothing here knows sockets, queues or the batcher: a backend is handed batches that are ready.

There are two kinds of backend:

* **Python executors** return an object with ``execute(batch)`` from :meth:`Backend.make_instance`. They are run by
  Python threads; the core forms the batch with the GIL released and takes the GIL once for each batch.
* **Native executors** are part of the core. :meth:`Backend.native` names one and no Python code runs per request.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from pyinfer._core import Batch, Engine, WorkerCalls

__all__ = ["Backend", "Instance", "InstanceContext", "MetricFamily", "ModelContext", "ModelControl", "NativeExecutor"]


#: type, name, help text, and samples: a suffix of the name, label pairs and a value
MetricFamily: TypeAlias = tuple[
    Literal["counter", "gauge", "histogram"], str, str, Sequence[tuple[str, Sequence[tuple[str, str]], float]]
]


@dataclass(frozen=True)
class ModelContext:
    """What a backend knows of the model version that it is asked to load."""

    name: str
    version: int
    #: the model's directory (it holds ``config.pbtxt`` and the version directories)
    directory: Path
    #: the complete, normalized configuration in Triton's JSON form (snake_case names, integers as numbers)
    config: Mapping[str, Any]
    #: ``--backend-config=<backend>,<key>=<value>`` of this backend, over those given for all backends
    options: Mapping[str, str] = field(default_factory=dict)
    #: what serves the model, for backends whose models call other models; None outside the server
    engine: Engine | WorkerCalls | None = None
    #: loads and unloads models, for backends whose models ask for it; None outside the server
    control: ModelControl | None = None

    @property
    def version_directory(self) -> Path:
        return self.directory / str(self.version)

    def parameter(self, key: str, default: str = "") -> str:
        """The ``string_value`` of the model parameter ``key``."""
        entry = self.config.get("parameters", {}).get(key)
        return default if entry is None else str(entry.get("string_value", default))


@dataclass(frozen=True)
class InstanceContext:
    """Which instance of the model is to be made."""

    name: str
    #: ``CPU``, ``GPU`` or ``MODEL``
    kind: str = "CPU"
    device_id: int = 0
    #: what the instance yields to others, as ``nice`` has it. Its thread does once it is made; what else works for the
    #: instance, threads and processes that it starts, is the backend's to see to
    nice: int = 0
    #: to be called, from any thread, with the reason once the instance can not execute anything any more
    give_up: Callable[[str], object] = field(default=lambda reason: None, compare=False)


@dataclass(frozen=True)
class NativeExecutor:
    """An executor of the core: ``kind`` names it (``identity``), ``parameters`` configure it."""

    kind: str
    parameters: Mapping[str, str] = field(default_factory=dict)


class ModelControl(Protocol):
    """What a model may ask of the server beside inference. Any thread; calls may take as long as loading does.

    ``asking``: the model whose own load or unload waits for the call, so that none waits for ever; "" where none does.
    """

    def load_model(self, name: str, parameters: Mapping[str, Any] | None = None, *, asking: str = "") -> None:
        """Load or reload a model, as a client does. Raises PyinferError."""

    def unload_model(self, name: str, unload_dependents: bool = False, *, asking: str = "") -> None:
        """Unload a model, as a client does. Raises PyinferError."""

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether it answers requests. Raises PyinferError for a model that there is not."""


class Instance(Protocol):
    """Executes one batch at a time."""

    def execute(self, batch: Batch) -> None:
        """Answer every request of ``batch``, by ``batch.respond_packed`` or by ``batch.respond``/``batch.fail`` each.

        Called with the GIL held, on the thread that made the instance unless that says otherwise. A request left
        unanswered, and every unanswered request after an exception, is answered with an error of code INTERNAL by the
        core.
        """

    def close(self) -> None:
        """Free what the instance holds. Called once, on its thread, after its last batch."""

    # An instance that has its batches executed elsewhere may also have ``run(core)``: it is called instead of
    # ``core.run(execute)`` and returns as that does; ``execute`` is then called for warm-up only. ``interrupt()`` is
    # called, from any thread, where no batches will come any more: ``run`` waits for nothing but the batch that it has.
    #
    # An instance whose attribute ``any_thread`` is true may have ``execute`` called on any thread, still one batch at a
    # time: while its own thread waits for a batch, that of another model's instance that calls this one may run it.
    #
    # An instance may also have ``is_ready() -> bool``. Health requests then call it, on a thread other than the
    # instance's, also while a batch is executed; never twice at a time, and not after ``close``. An instance that does
    # not answer within 5 s, or raises, is not ready.


class Backend(ABC):
    """One loaded model version."""

    #: whether instances can be on a CUDA device (KIND_GPU); of those that can not, KIND_AUTO is KIND_CPU
    uses_devices: bool = False
    #: instances made for KIND_CPU where the configuration names no count (reference: config normalization)
    default_cpu_instances: int = 1

    def __init__(self, model: ModelContext) -> None:
        """Load what all instances share. Raise ModelError, with a text for the index, where that fails."""
        self.model = model

    @classmethod
    def auto_complete(cls, directory: Path, config: dict[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
        """Return ``config`` (Triton's JSON form) with what the model file itself tells filled in.

        ``directory`` is the model's directory. ``config`` itself is not changed: where there is nothing to add, it is
        what is returned. Called before normalization and validation, once for the lowest version.
        What the user has written is never changed: a contradiction raises :class:`pyinfer.errors.ConfigError`.
        """
        return config

    @classmethod
    def metric_families(cls) -> Sequence[MetricFamily]:
        """Metrics of the backend's own, of all its models together, for each page of metrics. Any thread."""
        return ()

    @classmethod  # noqa: B027 - most log where the server does
    def log_level_changed(cls, level: int) -> None:
        """Lines of the log below ``level`` (of ``logging``) are not wanted from now on, others are. Any thread."""

    @classmethod  # noqa: B027 - most keep nothing
    def end(cls) -> None:
        """End what is kept beyond the models: the server is about to end."""

    def native(self) -> NativeExecutor | None:
        """The core's executor to use, or None for a Python executor."""
        return None

    def device_inputs(self) -> bool:
        """Whether instances take inputs that are on a CUDA device; otherwise they find all of them on the host.

        Only ``batch.input`` hands such an input out, as :class:`pyinfer._core.DeviceArray`.
        """
        return False

    @abstractmethod
    def make_instance(self, instance: InstanceContext) -> Instance:
        """Make one instance. Called on the thread that will run it."""

    def close(self) -> None:  # noqa: B027 - most backends share nothing
        """Free what the instances shared. Called once, after the last instance is closed."""
