# SPDX-License-Identifier: Apache-2.0
"""A model repository on an object store: its listing as model entries, and local copies of its models on demand.

The listing alone (keys, sizes, entity tags, times) tells whether a model changed; nothing is read for that. A model is
copied into a directory of its own when it is to be loaded, objects that were read before out of the cache. Keys are
made by whoever may write to the bucket: one that can be no file spoils its model, and no other.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.repository.cloud.cache import ObjectCache
from pyinfer.repository.cloud.location import parse_location
from pyinfer.repository.cloud.store import Failure, ObjectInfo, ObjectStore, StoreError
from pyinfer.repository.overrides import Lease
from pyinfer.repository.scan import CONFIG_NAMES, ModelEntry, RepositoryUnreadable, parse_version_directory

__all__ = ["RemoteEntry", "RemoteRepository", "Workspace"]

_log = logging.getLogger(__name__)

#: of Triton: where the copies of models are made
_MOUNT = {
    "s3": "TRITON_AWS_MOUNT_DIRECTORY",
    "gs": "TRITON_GCS_MOUNT_DIRECTORY",
    "as": "TRITON_AZURE_MOUNT_DIRECTORY",
}
_READERS = 8
_MOST_OBJECTS = 100_000
_LONGEST_NAME = 255


@dataclass(frozen=True)
class RemoteEntry(ModelEntry):
    """A model as the listing of an object store shows it. ``directory`` is where it would be, and does not exist."""

    #: path below the model's directory -> object
    files: Mapping[str, ObjectInfo] = field(default_factory=dict)
    #: paths of directories that hold no file
    folders: Collection[str] = ()
    #: why the model can not be copied; "" where it can
    fault: str = ""
    #: brings the model here
    copy: Callable[[RemoteEntry], tuple[Path, Lease]] | None = field(default=None, repr=False, compare=False)

    def localize(self) -> tuple[Path, Lease]:
        """A local copy of the model: its directory, and the lease that removes it.

        Raises ModelError, and leaves nothing behind, where an object is gone, was written anew since the listing, can
        not be a file, or does not fit on the disk.
        """
        if self.fault or self.copy is None:
            raise ModelError(self.fault)
        return self.copy(self)


class Workspace:
    """A directory of this process for copies of models; what processes that are gone have left there is removed."""

    def __init__(self, base: Path) -> None:
        """Raises InvalidArgument where ``base`` is no directory or can not be written."""
        try:
            self._sweep(base)
            fresh = Path(tempfile.mkdtemp(prefix=".pyinfer-", dir=base))
            self._lock: BinaryIO = (fresh / ".lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            # by this name it is known to be locked, as long as its owner lives
            self.directory = fresh.with_name(f"pyinfer-models-{fresh.name.removeprefix('.pyinfer-')}")
            fresh.rename(self.directory)
        except OSError as error:
            raise InvalidArgument(f"can not copy models to '{base}': {error.strerror}") from error

    def close(self) -> None:
        """Remove the directory with all that is in it. Idempotent."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self._lock.close()

    @staticmethod
    def _sweep(base: Path) -> None:
        for path in base.glob("pyinfer-models-*"):
            with suppress(OSError), (path / ".lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)


class RemoteRepository:
    """One model repository on an object store. Any thread."""

    def __init__(self, url: str, cache: ObjectCache) -> None:
        """Opens no connection.

        Raises InvalidArgument where the URL, the credentials or the mount directory can not be used, or ``obstore`` is
        not installed.
        """
        location = parse_location(url)
        self._label = url
        self._store = ObjectStore(location)
        self._cache = cache
        mount = os.environ.get(_MOUNT[location.scheme], "")
        self._workspace = Workspace(Path(mount or tempfile.gettempdir()))

    @property
    def label(self) -> str:
        """The URL."""
        return self._label

    @property
    def directory(self) -> Path:
        """Below it the copies of models are made; stands for the repository where a path has to."""
        return self._workspace.directory

    def names(self) -> Mapping[str, bool]:
        """The names of all models, each with True. Raises RepositoryUnreadable."""
        try:
            return {name: True for name in self._store.names() if name and not name.startswith(".")}
        except StoreError as error:
            raise RepositoryUnreadable(str(error)) from error

    def entries(self, only: Collection[str] | None = None) -> Mapping[str, RemoteEntry]:
        """The models, or those named in ``only``, as they are now, by name. Raises RepositoryUnreadable."""
        try:
            return self._listed(only)
        except StoreError as error:
            raise RepositoryUnreadable(str(error)) from error

    def close(self) -> None:
        """Remove all copies. Idempotent."""
        self._workspace.close()

    # Implementation details follow.

    def _listed(self, only: Collection[str] | None) -> dict[str, RemoteEntry]:
        if only is None:
            try:
                return self._entries(self._store.objects())
            except StoreError as error:
                if error.kind is not Failure.BAD_KEY:
                    raise
            only = [name for name in self._store.names() if name and not name.startswith(".")]
        found: dict[str, RemoteEntry] = {}
        for name in sorted(set(only)):
            found |= self._entries_of(name)
        return found

    def _copy(self, entry: RemoteEntry) -> tuple[Path, Lease]:
        root = self.directory / uuid.uuid4().hex
        directory = root / entry.name
        try:
            for folder in ("", *entry.folders, *{path.rpartition("/")[0] for path in entry.files}):
                (directory / folder).mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(_READERS, thread_name_prefix="model-fetch") as readers:
                hits = list(readers.map(lambda path: self._fetch(entry, directory, path), entry.files))
        except BaseException as error:
            shutil.rmtree(root, ignore_errors=True)
            if isinstance(error, OSError):
                raise ModelError(f"the model could not be written to disk: {error.strerror}") from error
            raise
        self._cache.trim()
        size = sum(info.size for info in entry.files.values())
        _log.info(
            "fetched model '%s' from '%s': %d objects, %d bytes; %d objects were in the cache",
            *(entry.name, self._label, len(hits), size, sum(hits)),
        )
        return directory, Lease(root)

    def _entries_of(self, name: str) -> dict[str, RemoteEntry]:
        """The entry of one model; {} where there is no such model."""
        try:
            return self._entries(self._store.objects(name))
        except StoreError as error:
            if error.kind is not Failure.BAD_KEY:
                raise
            return {name: _spoiled(name, self.directory / name, str(error))}

    def _fetch(self, entry: RemoteEntry, directory: Path, path: str) -> bool:
        info = entry.files[path]
        target = directory / path
        hit = self._cache.copy(self._store.identity(info), info.size, target, lambda: self._store.read(info))
        seconds = info.modified.timestamp()
        os.utime(target, (seconds, seconds))
        return hit

    def _entries(self, objects: Iterable[ObjectInfo]) -> dict[str, RemoteEntry]:
        by_model: dict[str, list[ObjectInfo]] = {}
        for info in objects:
            name, slash, _ = info.key.partition("/")
            # without a slash it is a file beside the models, or what a tool made to show an empty directory
            if name and not name.startswith(".") and (slash or info.size == 0):
                by_model.setdefault(name, []).append(info)
        entries = {name: _entry(name, self.directory / name, infos) for name, infos in by_model.items()}
        return {name: replace(entry, copy=self._copy) for name, entry in entries.items()}


def _entry(name: str, directory: Path, objects: Iterable[ObjectInfo]) -> RemoteEntry:
    """The entry of one model, of all objects whose keys begin with its name."""
    files = {info.key.partition("/")[2]: info for info in objects}
    files.pop("", None)  # stands for the model's directory
    above = {path[:end] for path in files for end in range(len(path)) if path[end] == "/"}
    # an object store has no directories; some tools make an empty object for each
    folders = {path for path, info in files.items() if info.size == 0 and (path in above or _is_version(path))}
    files = {path: info for path, info in files.items() if path not in folders}
    fault = _fault(name, files, above)
    if fault:
        return _spoiled(name, directory, fault, files)
    marks: dict[str, list[str]] = {}
    versions = {int(path) for path in folders if _is_version(path)}
    for path, info in sorted(files.items()):
        first, slash, _ = path.partition("/")
        if slash and _is_version(first):
            versions.add(int(first))
            marks.setdefault(first, []).append(f"{path}:{info.mark}")
        else:
            marks.setdefault("config" if first in CONFIG_NAMES else "common", []).append(f"{path}:{info.mark}")
    return RemoteEntry(
        name,
        directory,
        tuple(sorted(versions)),
        _digest(marks.get("config", ())),
        _digest(marks.get("common", ())),
        {version: _digest(marks.get(str(version), ())) for version in versions},
        files=files,
        folders=folders,
    )


def _spoiled(name: str, directory: Path, fault: str, files: Mapping[str, ObjectInfo] | None = None) -> RemoteEntry:
    """The entry of a model that can not be copied; it changes when any of its objects does."""
    mark = _digest([fault, *(f"{path}:{info.mark}" for path, info in sorted((files or {}).items()))])
    return RemoteEntry(name, directory, (), "", mark, {}, fault=fault)


def _fault(name: str, files: Collection[str], above: Collection[str]) -> str:
    """Why objects with these keys can not be files; "" where they can."""
    if len(files) > _MOST_OBJECTS:
        return f"'{name}' of the model repository has {len(files)} objects, more than {_MOST_OBJECTS}"
    for path in files:
        names = path.split("/")
        if path in above:
            return f"'{name}/{path}' of the model repository is both a file and a directory"
        if not all(part.isprintable() and 0 < len(part.encode()) <= _LONGEST_NAME for part in names) or (
            {".", ".."} & set(names)
        ):
            return f"the model repository has an object in '{name}' that can be no file: {path!a:.300}"
    return ""


def _is_version(name: str) -> bool:
    return parse_version_directory(name) is not None


def _digest(marks: Iterable[str]) -> str:
    return hashlib.blake2b("\0".join(marks).encode(), digest_size=16).hexdigest()
