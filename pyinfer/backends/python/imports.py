# SPDX-License-Identifier: Apache-2.0
"""Lets each Python model import the modules that lie beside it, as if it had the interpreter for itself.

Models may bring helpers of the same name (``preprocess.py``), and a reloaded model brings newer ones. Python keeps one
table of modules, so while a model loads or initializes it claims the names of its helpers: those of other models are
put aside, and models that bring the same names wait. A helper that is first imported inside ``execute`` is found as
well, but there names must be unique among the loaded models.

Loading code of models is run one after the other, unless all that are concerned allow otherwise: libraries have
settings that belong to the process (the default data type of torch, what transformers replaces while it loads weights),
and what one model sets for a moment must not reach another.
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

__all__ = ["ModelImports", "giving_way", "loaded_directories"]

#: held while the loading code of a model runs that wants to be alone
_alone = threading.RLock()
# sys.path and sys.modules belong to the process, and so does what guards the changes to them, and the three below.
_tables = threading.Condition(threading.RLock())
_live: list[ModelImports] = []
_claims: dict[str, ModelImports] = {}
_serial = itertools.count(1)


class _Thread(threading.local):
    """What the current thread has entered, the innermost last."""

    def __init__(self) -> None:
        self.entered: list[ModelImports] = []


_thread = _Thread()


def loaded_directories() -> list[str]:
    """Where the code of the models is that are loaded now."""
    with _tables:
        return [model._directory for model in _live]


@contextmanager
def giving_way() -> Iterator[None]:
    """While loading code of a model waits for that of others: it is not alone then, and claims nothing."""
    entered = _thread.entered
    for imports in reversed(entered):
        imports._exit()
    _thread.entered = []
    try:
        yield
    finally:
        for imports in entered:
            imports._enter()
        _thread.entered = entered


class _FreshLoader(SourceFileLoader):
    """Reads the source and never cached bytecode: a file replaced within a second must not be taken for the old one."""

    def path_stats(self, path: object) -> NoReturn:
        raise OSError


class ModelImports:
    """The modules of one loaded model version. Any thread."""

    def __init__(self, directory: Path, *, alone: bool = True) -> None:
        """``alone`` False lets its loading code run at the same time as that of others with the same setting."""
        self._directory = str(directory.resolve())
        self._alone = alone
        self._modules: dict[str, ModuleType] = {}
        #: how many threads are inside :meth:`active`, and the names that are claimed meanwhile
        self._inside = 0
        self._claimed: set[str] = set()

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
        self._enter()
        _thread.entered.append(self)
        try:
            yield
        finally:
            _thread.entered.pop()
            self._exit()

    def close(self) -> None:
        """Forget the modules. What still refers to them keeps them alive."""
        with _tables:
            if self not in _live:
                return
            _live.remove(self)
            for name, module in self._modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
            if all(other._directory != self._directory for other in _live) and self._directory in sys.path:
                sys.path.remove(self._directory)

    def _enter(self) -> None:
        if self._alone:
            _alone.acquire()
        try:
            self._claim()
        except BaseException:
            if self._alone:
                _alone.release()
            raise

    def _exit(self) -> None:
        try:
            self._leave()
        finally:
            if self._alone:
                _alone.release()

    def _claim(self) -> None:
        own = {entry.name.partition(".")[0] for entry in Path(self._directory).iterdir()}
        # Every model has a model.py, which is not imported by that name.
        wanted = own - {"model", "__pycache__"}
        with _tables:
            _tables.wait_for(lambda: all(_claims.get(name, self) is self for name in wanted))
            self._inside += 1
            self._claimed |= wanted
            _claims.update(dict.fromkeys(wanted, self))
            if self not in _live:
                _live.append(self)
            self._put_others_aside(own)
            sys.modules.update(self._modules)
            self._come_first_in_path()
            importlib.invalidate_caches()

    def _leave(self) -> None:
        with _tables:
            self._modules = {name: module for name, module in list(sys.modules.items()) if self._owns(module)}
            self._inside -= 1
            if self._inside == 0:
                for name in self._claimed:
                    del _claims[name]
                self._claimed.clear()
                _tables.notify_all()

    def _put_others_aside(self, own: set[str]) -> None:
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
