# SPDX-License-Identifier: Apache-2.0
"""Fills in what the files of a model tell: backend, platform, file name; the backend itself may then add the rest.

Works on Triton's JSON form and never changes what the user wrote. Looks only at the names in the lowest version
directory; what is inside a model file is the backend's to read (``Backend.auto_complete``, handed in by the caller).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pyinfer.config.pbtxt import canonical
from pyinfer.errors import ConfigError

__all__ = ["BackendComplete", "backend_of_file", "complete", "fill_backend", "version_files"]

#: Is handed the configuration with ``backend`` filled in and returns it with more filled in.
BackendComplete = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class _Kind:
    """One kind of model that is known by its file."""

    filename: str
    backend: str
    platform: str = ""
    alias: str = ""
    #: whether the entry must be a directory; None where it may be either
    is_directory: bool | None = None


# Order is precedence: the first file found wins, and the first row of a backend is its default platform.
_KINDS = (
    _Kind("model.savedmodel", "tensorflow", "tensorflow_savedmodel", is_directory=True),
    _Kind("model.graphdef", "tensorflow", "tensorflow_graphdef", is_directory=False),
    _Kind("model.plan", "tensorrt", "tensorrt_plan", is_directory=False),
    _Kind("model.onnx", "onnxruntime", "onnxruntime_onnx"),
    _Kind("model.xml", "openvino"),
    _Kind("model.pt", "pytorch", "pytorch_libtorch", alias="libtorch", is_directory=False),
    _Kind("model.pt2", "pytorch", "torch_aoti", is_directory=False),
    _Kind("model.py", "python"),
)


def complete(
    name: str,
    files: Mapping[str, bool],
    config: Mapping[str, Any],
    backend_complete: BackendComplete | None = None,
) -> dict[str, Any]:
    """The completed configuration of model ``name``, with every primitive field present.

    ``files`` are the entries of the lowest version directory (:func:`version_files`), ``config`` what the user gave,
    with every primitive field present. ``backend_complete`` None stands for ``--disable-auto-complete-config``.
    Raises ConfigError where no backend can be found, and what ``backend_complete`` raises.
    """
    filled = fill_backend(name, files, config)
    completed = filled if backend_complete is None else backend_complete(filled)
    return filled if completed is filled else canonical(completed)


def fill_backend(name: str, files: Mapping[str, bool], config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with name, backend, platform and default_model_filename where they are missing and known. Pure."""
    filled = dict(config)
    filled["name"] = config.get("name") or name
    backend = config.get("backend", "")
    platform = config.get("platform", "")
    filename = config.get("default_model_filename", "")
    kind = _find_kind(backend, platform, filename, files)
    if kind is not None:
        filled["backend"] = backend or kind.backend
        filled["platform"] = platform or kind.platform
        filled["default_model_filename"] = filename or kind.filename
    elif not backend and not platform and not filename:
        _, dot, after = name.partition(".")
        if not dot:
            raise ConfigError(
                f"Invalid model name: Could not determine backend for model '{name}' with no backend in model "
                "configuration. Expected model name of the form 'model.<backend_name>'."
            )
        filled["backend"] = after
        filled["default_model_filename"] = f"model.{after}"
    return filled


def version_files(directory: Path) -> dict[str, bool]:
    """Entry name -> is a directory, of the lowest version below ``directory``; {} where there is no version."""
    versions = [
        entry.name
        for entry in directory.iterdir()
        # int() would also take other scripts' digits
        if entry.name.isascii() and entry.name.isdigit() and entry.name == str(int(entry.name)) and entry.is_dir()
    ]
    if not versions:
        return {}
    return {entry.name: entry.is_dir() for entry in (directory / min(versions, key=int)).iterdir()}


def backend_of_file(filename: str) -> str | None:
    """The backend that serves a bare model file, by its suffix (``.onnx``); None where it is not known."""
    suffix = PurePath(filename).suffix
    return next((kind.backend for kind in _KINDS if suffix and kind.filename == f"model{suffix}"), None)


def _find_kind(backend: str, platform: str, filename: str, files: Mapping[str, bool]) -> _Kind | None:
    kinds = [kind for kind in _KINDS if not backend or kind.backend == backend]
    if platform:
        named = [kind for kind in kinds if platform in (kind.platform, kind.alias)]
        # a backend without platforms (python) keeps its file name whatever the platform says
        return next(iter(named or (kinds if backend else [])), None)
    if filename:
        named = [kind for kind in kinds if kind.filename == filename]
        return next(iter(named or (_default_kind(kinds) if backend else [])), None)
    if backend and backend != "tensorflow":
        return next(iter(kinds), None)
    return next((kind for kind in kinds if _is_found(kind, files)), None)


def _default_kind(kinds: list[_Kind]) -> list[_Kind]:
    # the two formats of tensorflow have no default between them
    return [] if kinds and kinds[0].backend == "tensorflow" else kinds


def _is_found(kind: _Kind, files: Mapping[str, bool]) -> bool:
    is_directory = files.get(kind.filename)
    return is_directory is not None and kind.is_directory in (None, is_directory)
