# SPDX-License-Identifier: Apache-2.0
"""What the repository manager is handed: how to load a model version, and where to publish the loaded ones.

Types only. :class:`pyinfer.loader.Loader` is a :class:`ModelLoader`, the core's ``Engine`` is a :class:`Publisher`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pyinfer.readiness import ReadinessProbe

__all__ = ["InstanceChange", "LoadedVersion", "ModelId", "ModelLoader", "ModelSource", "Publisher"]


class ModelId(NamedTuple):
    """Which model is meant. Ordered by namespace, then name, as the repository index is."""

    #: the repository that the model comes from, with ``--model-namespacing``; otherwise empty
    namespace: str
    name: str


@dataclass(frozen=True)
class ModelSource:
    """Where a model is to be loaded from."""

    name: str
    #: the model's directory: the repository's own, or a temporary one made of the files of a load request
    directory: Path
    #: numbers of the version directories, ascending
    versions: tuple[int, ...]
    #: text of a configuration in JSON form that replaces the configuration file; None to read the file
    config_override: str | None = None


class InstanceChange(Protocol):
    """Another set of instances, made but not yet running. Exactly one of the two is to be called, once."""

    def commit(self) -> None:
        """Exchange the instances. The queue stays, and a batch that is being executed is finished. Does not fail."""

    def discard(self) -> None:
        """End what was made; the version runs on as before."""


class LoadedVersion(Protocol):
    """One model version that is loaded and can execute. Methods may be called from any thread."""

    @property
    def core(self) -> Any:
        """What is published: the core's ``Model``."""

    def prepare_instances(self, config: Mapping[str, Any]) -> InstanceChange:
        """Make the instances that ``config``, which differs in ``instance_group`` only, asks for.

        Raises a :class:`pyinfer.errors.PyinferError` where one fails, and leaves nothing behind then.
        """

    def probes(self) -> Sequence[ReadinessProbe]:
        """One for each instance whose own code has a say in whether it is ready."""

    def watch(self, broken: Callable[[str], object]) -> None:
        """Have ``broken`` called, on any thread, with the reason where the version can not execute any more."""

    def drain(self, timeout_s: float) -> bool:
        """Accept nothing more; wait until what was accepted is answered. False when the time is up."""

    def close(self) -> None:
        """Answer what is still queued with an error, end the instances, free everything. Idempotent."""


class ModelLoader(Protocol):
    """Builds model versions. Methods may be called from several threads at once, for the same model never."""

    def configure(self, source: ModelSource) -> dict[str, Any]:
        """The complete, normalized and valid configuration, in Triton's JSON form.

        Raises a :class:`pyinfer.errors.PyinferError` with a text fit for the index.
        """

    def load(
        self, source: ModelSource, config: Mapping[str, Any], version: int, steps: Sequence[LoadedVersion] = ()
    ) -> LoadedVersion:
        """Build one version with all its instances; leave nothing behind where it fails. Raises as ``configure``.

        ``steps`` are the versions that the steps of an ensemble call.
        """


class Publisher(Protocol):
    """Makes model versions reachable by requests; see ``pyinfer._core.Engine``."""

    def publish(self, name: str, models: Sequence[Any], not_ready: Sequence[int] = (), refusal: str = "") -> None: ...

    def withdraw(self, name: str) -> None: ...
