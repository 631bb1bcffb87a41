# SPDX-License-Identifier: Apache-2.0
"""Repositories -> immutable snapshot: which models and versions they hold, and whether their files have changed.

:class:`LocalRepository` is one on disk; :mod:`pyinfer.repository.storage` has those on object stores. Reads names,
sizes and modification times, never contents, and decides nothing. A repository is shared with people and
tools that change it at any moment: whatever vanishes, loops or can not be read is left out, never an exception.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pyinfer.repository.contract import ModelId
from pyinfer.repository.overrides import Lease

__all__ = [
    "CONFIG_NAMES",
    "Listing",
    "LocalRepository",
    "ModelEntry",
    "Repository",
    "RepositoryUnreadable",
    "Snapshot",
    "list_models",
    "parse_version_directory",
    "scan",
    "scan_model",
]

_MAX_VERSION = 2**63 - 1
#: what a model is configured by
CONFIG_NAMES = ("config.pbtxt", "configs")
#: directories below one another that are looked at; a chain of links can pretend to be deeper than any file system
_MAX_DEPTH = 64
#: what Python writes beside a ``model.py`` while it is loaded is no change of the model
_WRITTEN_BY_LOADING = ("__pycache__",)


@dataclass(frozen=True)
class ModelEntry:
    """One model directory."""

    name: str
    directory: Path
    #: numbers of the version directories, ascending
    versions: tuple[int, ...]
    #: changes when a configuration file (``config.pbtxt``, ``configs/``) is touched
    config_fingerprint: str
    #: changes when any other file outside the version directories changes (labels, files of ``model.py``)
    common_fingerprint: str
    #: version -> changes when a file of that version directory changes
    version_fingerprints: Mapping[int, str]

    @property
    def fingerprint(self) -> str:
        """Changes when any file of the model, or its set of versions, changes."""
        versions = ",".join(f"{version}={mark}" for version, mark in sorted(self.version_fingerprints.items()))
        return f"{self.directory}|{self.config_fingerprint}|{self.common_fingerprint}|{versions}"

    def localize(self) -> tuple[Path, Lease]:
        """The directory that the model's files can be read from, and the hold on it.

        Raises ModelError where they can not be brought there.
        """
        return self.directory, Lease(None)


class RepositoryUnreadable(Exception):
    """A whole repository can not be looked at. The text says why."""


class Repository(Protocol):
    """Where models are found. Any thread."""

    @property
    def label(self) -> str:
        """The repository as the operator named it; the namespace of its models."""

    @property
    def directory(self) -> Path:
        """The entries' directories are directly below it; no other repository has the same."""

    def names(self) -> Mapping[str, bool]:
        """Name -> True of the models, and name -> False of what may be one but can not be looked at.

        Raises RepositoryUnreadable.
        """

    def entries(self, only: Collection[str] | None = None) -> Mapping[str, ModelEntry | None]:
        """The models (named in ``only``) by name; None stands for what can not be looked at.

        Raises RepositoryUnreadable.
        """


class LocalRepository:
    """A directory of model directories."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @property
    def label(self) -> str:
        return str(self._directory)

    @property
    def directory(self) -> Path:
        return self._directory

    def names(self) -> Mapping[str, bool]:
        try:
            return _directories(self._directory)
        except OSError as error:
            raise RepositoryUnreadable(error.strerror or type(error).__name__) from error

    def entries(self, only: Collection[str] | None = None) -> Mapping[str, ModelEntry | None]:
        try:
            found = _directories(self._directory) if only is None else _named_directories(self._directory, only)
        except OSError as error:
            raise RepositoryUnreadable(error.strerror or type(error).__name__) from error
        return {
            name: scan_model(name, self._directory / name) if readable else None for name, readable in found.items()
        }


@dataclass(frozen=True)
class Snapshot:
    """What the repositories held at one moment."""

    models: Mapping[ModelId, ModelEntry] = field(default_factory=dict)
    #: found in two or more repositories, where names are not told apart by them; they are not in ``models``
    duplicates: frozenset[ModelId] = frozenset()
    #: there, but it can not be told what: a link that leads nowhere or round in a circle; they are not in ``models``
    blocked: frozenset[ModelId] = frozenset()
    #: directories of the repositories that could not be looked at at all, and a text that says so
    unreadable: Mapping[Path, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listing:
    """The models that the repositories hold, by their directories' names alone."""

    models: frozenset[ModelId]
    #: those of ``models`` that are in two or more repositories, where names are not told apart by them
    duplicates: frozenset[ModelId]


def scan(
    repositories: Iterable[Repository], only: Collection[str] | None = None, *, namespacing: bool = False
) -> Snapshot:
    """The snapshot of ``repositories``, of the models named in ``only`` where it is given.

    With ``namespacing`` the label of a repository is the namespace of its models.
    """
    found: dict[ModelId, list[ModelEntry]] = {}
    blocked: set[ModelId] = set()
    unreadable: dict[Path, str] = {}
    for repository in _distinct(repositories):
        try:
            entries = repository.entries(only)
        except RepositoryUnreadable as error:
            unreadable[repository.directory] = f"can not read the model repository '{repository.label}': {error}"
            continue
        for name, entry in entries.items():
            model = ModelId(repository.label if namespacing else "", name)
            if entry is None:
                blocked.add(model)
            else:
                found.setdefault(model, []).append(entry)
    return Snapshot(
        models={model: places[0] for model, places in sorted(found.items()) if len(places) == 1},
        duplicates=frozenset(model for model, places in found.items() if len(places) > 1),
        blocked=frozenset(blocked - set(found)),
        unreadable=unreadable,
    )


def list_models(repositories: Iterable[Repository], *, namespacing: bool = False) -> Listing:
    """The names of the models. Repositories that can not be read count as empty."""
    models: set[ModelId] = set()
    duplicates: set[ModelId] = set()
    for repository in _distinct(repositories):
        try:
            names = repository.names()
        except RepositoryUnreadable:
            continue
        here = {ModelId(repository.label if namespacing else "", name) for name, readable in names.items() if readable}
        duplicates |= models & here
        models |= here
    return Listing(frozenset(models), frozenset(duplicates))


def scan_model(name: str, directory: Path) -> ModelEntry:
    """The entry of one model directory; without versions where it can not be read."""
    versions: dict[int, str] = {}
    config, common = _new_mark(), _new_mark()
    for child in _entries(directory):
        if child.name in _WRITTEN_BY_LOADING:
            continue
        version = parse_version_directory(child.name)
        if version is not None and _is_directory(child):
            mark = _new_mark()
            _digest(Path(child.path), "", mark, frozenset())
            versions[version] = mark.hexdigest()
        else:
            _digest_entry(child, "", config if child.name in CONFIG_NAMES else common, frozenset())
    return ModelEntry(name, directory, tuple(sorted(versions)), config.hexdigest(), common.hexdigest(), versions)


def parse_version_directory(name: str) -> int | None:
    """The version that a directory name stands for; None where it is not one (``01``, ``v1``, ``1abc``)."""
    if not (name.isascii() and name.isdigit()) or (len(name) > 1 and name[0] == "0") or len(name) > 19:
        return None
    version = int(name)
    return version if version <= _MAX_VERSION else None


def _new_mark() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _distinct(repositories: Iterable[Repository]) -> list[Repository]:
    """One of each, so that a repository named twice does not duplicate its models."""
    seen: dict[str, Repository] = {}
    for repository in repositories:
        seen.setdefault(os.path.realpath(repository.directory), repository)
    return list(seen.values())


def _directories(path: Path) -> dict[str, bool]:
    """Name -> True of the directories in ``path``, sorted, and name -> False of what may be one but can not be asked.

    Left out are hidden ones (``.git``) and names that no request can say: with control characters, or no UTF-8. Raises
    OSError where ``path`` itself can not be read.
    """
    found: dict[str, bool] = {}
    with os.scandir(path) as entries:
        for entry in entries:
            if not _is_sayable(entry.name):
                continue
            try:
                mode = entry.stat().st_mode
            except OSError:
                found[entry.name] = False
                continue
            if stat.S_ISDIR(mode):
                found[entry.name] = True
    return dict(sorted(found.items()))


def _named_directories(path: Path, names: Collection[str]) -> dict[str, bool]:
    """Those of :func:`_directories` that are among ``names``, without a look at the others."""
    found: dict[str, bool] = {}
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)  # fails where listing it would
    try:
        for name in sorted(names):
            if not _is_sayable(name) or "/" in name:  # which is no entry of this directory, wherever it leads
                continue
            try:
                mode = os.stat(name, dir_fd=folder).st_mode
            except OSError:
                with os.scandir(folder) as entries:
                    if any(entry.name == name for entry in entries):
                        found[name] = False
                continue
            if stat.S_ISDIR(mode):
                found[name] = True
    finally:
        os.close(folder)
    return found


def _is_sayable(name: str) -> bool:
    return not name.startswith(".") and name.isprintable()


def _entries(path: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return []


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _digest(directory: Path, prefix: str, mark: hashlib.blake2b, above: frozenset[tuple[int, int]]) -> None:
    """Add names, sizes and modification times of everything below ``directory`` to ``mark``.

    ``above`` are the directories that lead here: a symbolic link back to one of them is not followed again.
    """
    try:
        status = directory.stat()
    except OSError:
        return
    key = (status.st_dev, status.st_ino)
    if key in above or len(above) > _MAX_DEPTH:
        return
    for child in _entries(directory):
        if child.name not in _WRITTEN_BY_LOADING:
            _digest_entry(child, prefix, mark, above | {key})


def _digest_entry(
    entry: os.DirEntry[str], prefix: str, mark: hashlib.blake2b, above: frozenset[tuple[int, int]]
) -> None:
    path = f"{prefix}{entry.name}"
    try:
        status = entry.stat()
    except OSError:
        mark.update(f"{path}?\0".encode(errors="surrogateescape"))
        return
    if _is_directory(entry):
        mark.update(f"{path}/\0".encode(errors="surrogateescape"))
        _digest(Path(entry.path), f"{path}/", mark, above)
    else:
        mark.update(f"{path}:{status.st_size}:{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
