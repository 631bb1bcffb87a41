# SPDX-License-Identifier: Apache-2.0
"""Lets each Python model import the modules that lie beside it, as if it had the interpreter for itself.

Models may bring helpers of the same name (``preprocess.py``), and a reloaded model brings newer ones. Python keeps one
table of modules, so while a model loads or initializes, the helpers of other models that would shadow its own are put
aside. A helper that is first imported inside ``execute`` is found as well, but there names must be unique among the
loaded models.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import NoReturn

__all__ = ["ModelImports"]

# sys.path and sys.modules belong to the process, and so does this lock: models load and initialize one after the other.
_process = threading.RLock()
_live: list[ModelImports] = []
_serial = itertools.count(1)


class _FreshLoader(SourceFileLoader):
    """Reads the source and never cached bytecode: a file replaced within a second must not be taken for the old one."""

    def path_stats(self, path: object) -> NoReturn:
        raise OSError


class ModelImports:
    """The modules of one loaded model version. Any thread."""

    def __init__(self, directory: Path) -> None:
        self._directory = str(directory.resolve())
        self._modules: dict[str, ModuleType] = {}

    def load(self, file: Path, label: str) -> ModuleType:
        """Execute ``file`` as a new module whose name is unique and contains ``label``. Raises what the file raises."""
        name = f"pyinfer_model_{label}_{next(_serial)}"
        spec = importlib.util.spec_from_file_location(name, file, loader=_FreshLoader(name, str(file)))
        if spec is None or spec.loader is None:
            raise ImportError(f"{file.name} is not Python source")
        module = importlib.util.module_from_spec(spec)
        with self.active():
            sys.modules[name] = module
            try:
                spec.loader.exec_module(module)
            except BaseException:
                del sys.modules[name]
                raise
        return module

    @contextmanager
    def active(self) -> Iterator[None]:
        """While this is entered, imports find this model's files before other models', and after installed packages."""
        with _process:
            if self not in _live:
                _live.append(self)
            self._put_others_aside()
            sys.modules.update(self._modules)
            self._come_first_in_path()
            importlib.invalidate_caches()
            try:
                yield
            finally:
                self._modules = {name: module for name, module in list(sys.modules.items()) if self._owns(module)}

    def close(self) -> None:
        """Forget the modules. What still refers to them keeps them alive."""
        with _process:
            if self not in _live:
                return
            _live.remove(self)
            for name, module in self._modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            if all(other._directory != self._directory for other in _live) and self._directory in sys.path:
                sys.path.remove(self._directory)

    def _put_others_aside(self) -> None:
        own = {entry.name.partition(".")[0] for entry in Path(self._directory).iterdir()}
        for other in _live:
            if other is self:
                continue
            for name, module in other._modules.items():
                if name.partition(".")[0] in own and sys.modules.get(name) is module:
                    del sys.modules[name]

    def _come_first_in_path(self) -> None:
        if self._directory in sys.path:
            sys.path.remove(self._directory)
        others = {other._directory for other in _live}
        place = next((index for index, entry in enumerate(sys.path) if entry in others), len(sys.path))
        sys.path.insert(place, self._directory)

    def _owns(self, module: ModuleType | None) -> bool:
        # not by getattr: some modules import others when they are asked for a name
        names = getattr(module, "__dict__", {})
        file = names.get("__file__")
        places = [file] if isinstance(file, str) else list(names.get("__path__") or ())
        return any(str(place).startswith(f"{self._directory}/") for place in places)
