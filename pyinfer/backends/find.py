# SPDX-License-Identifier: Apache-2.0
"""Resolves the name of a backend to its class; imports that one module and no other.

A backend of pyinfer is found in a table. Any other name is looked up among the entry points of all installed packages,
which costs milliseconds and is therefore done only then. It makes no instances and knows no models.
"""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from pyinfer.backends.base import Backend, MetricFamily
from pyinfer.errors import ConfigError, ModelError

__all__ = [
    "ENTRY_POINT_GROUP",
    "backend_fault",
    "end_backends",
    "find_backend",
    "installed_backends",
    "log_level_changed",
    "may_auto_complete",
    "may_use_devices",
    "metric_families",
]

ENTRY_POINT_GROUP = "pyinfer.backends"


class _Builtin(NamedTuple):
    module: str
    attribute: str
    #: the package that the module needs beyond those of pyinfer, and the extra that brings it
    needs: str = ""
    extra: str = ""
    #: the ``uses_devices`` of its class
    uses_devices: bool = False
    #: a model whose file does not hold this text is not auto-completed; None: no model is
    hook: bytes | None = b""


_BUILTIN = {
    "identity": _Builtin("pyinfer.backends.identity", "IdentityBackend", hook=None),
    "onnxruntime": _Builtin("pyinfer.backends.onnxruntime", "OnnxRuntimeBackend", "onnxruntime", "onnx"),
    "python": _Builtin("pyinfer.backends.python", "PythonBackend", uses_devices=True, hook=b"auto_complete_config"),
}


_found: set[type[Backend]] = set()


def find_backend(name: str) -> type[Backend]:
    """The class of the backend ``name``. A name of pyinfer's own can not be taken over by another package.

    Raises ConfigError where there is none, and ModelError where there is one that can not be imported or is no Backend.
    """
    builtin = _BUILTIN.get(name)
    if builtin is not None:
        return _load_builtin(name, builtin)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name == name:
            return _load_entry(entry)
    raise ConfigError(_unknown(name))


def metric_families() -> list[MetricFamily]:
    """Metrics that the models of all backends have made which were found by now."""
    return [family for backend in list(_found) for family in backend.metric_families()]


def log_level_changed(level: int) -> None:
    """Tell the backends that were found by now which lines of the log are wanted; see ``Backend.log_level_changed``."""
    for backend in list(_found):
        backend.log_level_changed(level)


def end_backends() -> None:
    """Tell the backends that were found by now that the server is about to end; see ``Backend.end``."""
    for backend in list(_found):
        backend.end()


def backend_fault(name: str) -> str:
    """Why :func:`find_backend` would fail, or "" where it would not, as far as that shows without any import."""
    builtin = _BUILTIN.get(name)
    if builtin is not None:
        return _lacking(name, builtin) if _is_lacking(builtin) else ""
    return "" if any(entry.name == name for entry in entry_points(group=ENTRY_POINT_GROUP)) else _unknown(name)


def may_auto_complete(name: str, file: Path | None) -> bool:
    """Whether the backend may add to the configuration of the model in ``file`` (None: there is no such file).

    Imports no backend, and says yes where only the backend itself could tell.
    """
    hook = _BUILTIN[name].hook if name in _BUILTIN else b""
    if hook is None or (hook and file is None):
        return False
    try:
        return not hook or file is None or hook in file.read_bytes()
    except OSError:
        return True


def may_use_devices(name: str) -> bool:
    """Whether instances of the backend can be of KIND_GPU. Imports none: yes where only the backend could tell."""
    builtin = _BUILTIN.get(name)
    return builtin is None or builtin.uses_devices


def _unknown(name: str) -> str:
    return (
        f"unable to find backend '{name}': installed are {', '.join(installed_backends())}; install a package that "
        f"has the entry point '{name}' in the group '{ENTRY_POINT_GROUP}', or correct 'backend' in the model "
        "configuration"
    )


def _is_lacking(builtin: _Builtin) -> bool:
    return bool(builtin.needs) and importlib.util.find_spec(builtin.needs) is None


def _lacking(name: str, builtin: _Builtin) -> str:
    return (
        f"backend '{name}' needs the package '{builtin.needs}', which is not installed: "
        f"pip install 'pyinfer[{builtin.extra}]'"
    )


def installed_backends() -> list[str]:
    """The names that :func:`find_backend` would find, sorted; one that lacks its package comes with the remedy."""
    names = set()
    for name, builtin in _BUILTIN.items():
        names.add(f"{name} (needs pip install 'pyinfer[{builtin.extra}]')" if _is_lacking(builtin) else name)
    names.update(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP) if entry.name not in _BUILTIN)
    return sorted(names)


def _load_builtin(name: str, builtin: _Builtin) -> type[Backend]:
    try:
        module = importlib.import_module(builtin.module)
    except ModuleNotFoundError as error:
        if not builtin.needs or (error.name or "").partition(".")[0] != builtin.needs:
            raise
        raise ModelError(_lacking(name, builtin)) from error
    return _checked(name, getattr(module, builtin.attribute))


def _load_entry(entry: EntryPoint) -> type[Backend]:
    try:
        loaded = entry.load()
    except Exception as error:
        # The text of an import error may hold paths of the machine, so only what can not is told.
        name = getattr(error, "name", None)
        detail = f"{type(error).__name__}{f' ({name})' if name else ''}"
        raise ModelError(f"backend '{entry.name}' could not be imported from '{entry.value}': {detail}") from error
    return _checked(entry.name, loaded)


def _checked(name: str, loaded: object) -> type[Backend]:
    if isinstance(loaded, type) and issubclass(loaded, Backend):
        _found.add(loaded)
        return loaded
    raise ModelError(f"backend '{name}' names an object that is not a subclass of pyinfer.backends.base.Backend")
