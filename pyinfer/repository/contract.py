# SPDX-License-Identifier: Apache-2.0
"""What the repository manager is handed: how to load a model version, and where to publish the loaded ones.

Types only. :class:`pyinfer.loader.Loader` is a :class:`ModelLoader`, the core's ``Engine`` is a :class:`Publisher`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

__all__ = ["LoadedVersion", "ModelLoader", "ModelSource", "Publisher"]


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


class LoadedVersion(Protocol):
    """One model version that is loaded and can execute. Methods may be called from any thread."""

    @property
    def core(self) -> Any:
        """What is published: the core's ``Model``."""

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

    def load(self, source: ModelSource, config: Mapping[str, Any], version: int) -> LoadedVersion:
        """Build one version with all its instances; leave nothing behind where it fails. Raises as ``configure``."""


class Publisher(Protocol):
    """Makes model versions reachable by requests; see ``pyinfer._core.Engine``."""

    def publish(self, name: str, models: Sequence[Any], not_ready: Sequence[int] = ()) -> None: ...

    def withdraw(self, name: str) -> None: ...
