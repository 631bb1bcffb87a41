# SPDX-License-Identifier: Apache-2.0
"""Where candidates are served: a server of our own, started anew for each, or one that runs already.

Both are given a configuration as a load request has it, so the model's files are never touched.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfer.children import wait_for_end
from pyinfer.config.messages import message, pool
from pyinfer.errors import ConfigError, ModelError, NotFound, PyinferError, Unavailable
from pyinfer.perf.signals import held_back
from pyinfer.perf.target import GrpcTarget, HttpTarget, open_target
from pyinfer.testing.server import run_server

__all__ = ["Host", "HostLost", "OwnServers", "Place", "RunningServer", "Served", "locate", "model_name"]

_END_S = 10.0  # that a server may take that does not answer any more


class HostLost(Unavailable):
    """There is no server to try anything on, which is no candidate's fault."""


@dataclass(frozen=True)
class Served:
    """A server with the candidate loaded. ``pid`` 0: not a process that can be looked at."""

    url: str
    pid: int


class Host(ABC):
    """Serves one model in one configuration after the other. ``base`` is the model's own, a message ModelConfig."""

    base: Any
    #: completed by the server, in JSON form
    completed: Mapping[str, Any]

    @abstractmethod
    def serving(self, config: Any | None) -> AbstractContextManager[Served]:
        """The model as ``config`` says; None: as it is. Raises ModelError with the server's words if that fails."""

    @abstractmethod
    def close(self) -> None:
        """Leave everything as it was found."""


@dataclass(frozen=True)
class Place:
    """A model on disk. ``made``: the repository is a temporary one, around a bare file."""

    repository: Path
    name: str
    made: bool = False

    def config(self) -> Any:
        """The message that its ``config.pbtxt`` holds; only a name where there is none. Raises ConfigError."""
        from google.protobuf import text_format

        found: Any = message("ModelConfig")()
        file = self.repository / self.name / "config.pbtxt"
        if file.is_file():
            try:
                text_format.Parse(file.read_bytes().decode(), found, descriptor_pool=pool())
            except (text_format.ParseError, ValueError) as error:
                raise ConfigError(f"{error}; 'pyinfer config check' tells more", file=str(file)) from None
        found.name = found.name or self.name
        return found

    def files(self) -> dict[str, list[int]]:
        """Name -> size and time of change (ns; 0 for a bare file, which is copied) of what the model is made of."""
        root = self.repository / self.name
        found = {str(one.relative_to(root)): one.stat() for one in sorted(root.rglob("*")) if one.is_file()}
        return {
            name: [stat.st_size, 0 if self.made else stat.st_mtime_ns]
            for name, stat in found.items()
            if "__pycache__" not in name
        }

    def close(self) -> None:
        """Remove what was made."""
        if self.made:
            shutil.rmtree(self.repository, ignore_errors=True)


def model_name(model: str) -> str:
    """What the model is called that the command line names by its name or path."""
    path = Path(model).resolve()
    return re.sub(r"[^\w.-]", "_", path.stem if path.is_file() else path.name)


def locate(model: str, repository: str) -> Place:
    """The model that the command line names: of a repository, by the path of its directory, or a bare file.

    Raises NotFound.
    """
    if repository:
        if not Path(repository, model).is_dir() or Path(model).name != model:
            raise NotFound(f"there is no model '{model}' in {repository}")
        return Place(Path(repository).resolve(), model)
    path = Path(model)
    if path.is_dir():
        directory = path.resolve()
        return Place(directory.parent, directory.name)
    if not path.is_file():
        raise NotFound(f"there is no model at {model}: give its directory, its file, or --model-repository")
    if path.suffix not in (".onnx", ".py"):
        raise NotFound(f"{model} is neither a model directory nor a file that ends in .onnx or .py")
    made = Path(tempfile.mkdtemp(prefix="pyinfer-tune-"))
    name = model_name(model)
    version = made / name / "1"
    version.mkdir(parents=True)
    shutil.copy(path, version / f"model{path.suffix}")
    return Place(made, name, made=True)


class OwnServers(Host):
    """A process for each candidate: memory is its own, and whatever it does to its server, the next one has another."""

    def __init__(self, place: Place, protocol: str, flags: Sequence[str]) -> None:
        self._place, self._protocol = place, protocol
        self._flags = ["--model-control-mode=explicit", *flags]
        self.base = place.config()
        with self.serving(None) as served:
            self.completed = open_target(protocol, served.url, place.name, "").config()

    @contextmanager
    def serving(self, config: Any | None) -> Iterator[Served]:
        with ExitStack() as stack:
            try:
                with held_back():
                    server = stack.enter_context(run_server(self._place.repository, *self._flags))
            except RuntimeError as error:
                last = str(error).strip().splitlines()[-1]
                raise HostLost(f"the server can not be started: {last}") from None
            url = server.grpc if self._protocol == "grpc" else server.http
            target = open_target(self._protocol, url, self._place.name, "")
            try:
                target.load_model(_json(config))
                yield Served(url, server.pid)
            except PyinferError as error:
                if target.live():
                    raise
                if not wait_for_end(server.process, _END_S):  # it hangs
                    raise
                raise ModelError(f"the server has ended with status {server.process.wait()}: {error}") from None

    def close(self) -> None:
        self._place.close()


def _json(config: Any | None) -> str:
    """The message as a load request has it; empty for none."""
    from google.protobuf.json_format import MessageToJson

    return MessageToJson(config, preserving_proto_field_name=True, indent=None) if config is not None else ""


class RunningServer(Host):
    """One that runs already, in mode explicit. At the end it has the model from its repository again."""

    def __init__(self, target: GrpcTarget | HttpTarget, url: str, pid: int) -> None:
        from google.protobuf.json_format import ParseDict

        self._target, self._url, self._pid = target, url, pid
        try:
            self.completed = target.config()
        except PyinferError:  # it is not loaded, which has to be so again
            self._was_loaded = False
            target.load_model()
            self.completed = target.config()
        else:
            self._was_loaded = True
        self.base = ParseDict(dict(self.completed), message("ModelConfig")(), ignore_unknown_fields=True)

    @contextmanager
    def serving(self, config: Any | None) -> Iterator[Served]:
        try:
            self._target.load_model(_json(config))
            yield Served(self._url, self._pid)
        except PyinferError as error:
            # Asked, not connected to: one that is dying may still accept connections.
            if not self._target.live():
                raise HostLost(str(error)) from None
            raise

    def close(self) -> None:
        with suppress(PyinferError):
            if self._was_loaded:
                self._target.load_model()
            else:
                self._target.unload_model()
