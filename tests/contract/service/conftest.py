# SPDX-License-Identifier: Apache-2.0
"""A service with the real loader, backends and core, without any socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyinfer._core import Engine, HttpConnection, InferHead, Mailbox
from pyinfer.backends.python import forking
from pyinfer.loader import Loader, LoaderOptions
from pyinfer.repository.manager import ControlMode, ManagerOptions, ModelManager
from pyinfer.repository.scan import LocalRepository
from pyinfer.service import Service
from waiting import eventually

IDENTITY = (
    'backend: "identity" max_batch_size: 8 '
    'input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ] '
    'output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ -1 ] } ] '
    "instance_group [ { count: 2 kind: KIND_CPU } ] dynamic_batching { }"
)

PYTHON_MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


def told(service: Service, name: str = "", version: str = "") -> list[dict[str, Any]]:
    """The statistics, one dict for each version."""
    return list(json.loads(service.statistics(name, version).json())["model_stats"])


class Bench:
    """A repository and the service over it."""

    def __init__(self, root: Path) -> None:
        self.repository = root / "models"
        self.repository.mkdir()
        self.engine = Engine()
        self.services: list[Service] = []

    def write(self, name: str, config: str | None = IDENTITY, versions: tuple[int, ...] = (1,), **files: str) -> Path:
        """A model; ``files`` (name without suffix -> text) are written as ``<name>.py`` into every version."""
        directory = self.repository / name
        directory.mkdir(exist_ok=True)
        for version in versions:
            (directory / str(version)).mkdir(parents=True, exist_ok=True)
            for stem, text in files.items():
                (directory / str(version) / f"{stem}.py").write_text(text)
        if config is not None:
            (directory / "config.pbtxt").write_text(config)
        return directory

    def make(self, mode: str = "explicit", **options: Any) -> Service:
        """A service that is not started. ``managing`` and ``loading`` are options of the manager and the loader."""
        loading = LoaderOptions(**options.pop("loading", {}))
        given = {"repositories": (self.repository,), "startup_models": ("*",), **options.pop("managing", {})}
        given["repositories"] = tuple(map(LocalRepository, given["repositories"]))
        settings = ManagerOptions(mode=ControlMode(mode), **given)
        service = Service(self.engine, ModelManager(settings, Loader(self.engine, loading), self.engine), **options)
        self.services.append(service)
        return service

    def start(self, mode: str = "explicit", **options: Any) -> Service:
        """A service whose models have all loaded."""
        service = self.make(mode, **options)
        assert service.start() == []
        return service

    def close(self) -> None:
        for service in self.services:
            assert service.stop(60)


class Client:
    """Sends inferences to the engine as one HTTP connection would."""

    def __init__(self, engine: Engine) -> None:
        self._mailbox = Mailbox(engine)
        self._connection = HttpConnection(self._mailbox, 1)
        self._received = b""

    def infer(self, model: str, values: list[float], version: str = "") -> tuple[int, dict[str, Any]]:
        """The status and the JSON body of the answer."""
        self.send(model, values, version)
        return self.receive()

    def send(self, model: str, values: list[float], version: str = "") -> None:
        """Hand one request to the engine; it is accepted or refused when this returns."""
        tensor = {"name": "INPUT0", "datatype": "FP32", "shape": [1, len(values)], "data": values}
        self._connection.append(json.dumps({"inputs": [tensor]}).encode())
        job = self._connection.infer(InferHead(model, version))
        if job is not None:
            job()
        self._flush()

    def receive(self) -> tuple[int, dict[str, Any]]:
        """The next answer."""
        while b"\r\n\r\n" not in self._received:
            self._flush()
            threading.Event().wait(0.0005)
        head, _, body = self._received.partition(b"\r\n\r\n")
        self._received = b""
        return int(head.split()[1]), json.loads(body)

    def _flush(self) -> None:
        for _, data, _ in self._mailbox.flush()[0]:
            self._received += data if isinstance(data, bytes) else b"".join(bytes(part) for part in data)

    def close(self) -> None:
        self._connection.close()
        self._mailbox.close()


class Askers:
    """Threads that ask model ``m``, one request after the other, while they are entered."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]
        #: the status of each answer
        self.answers: list[int] = []

    def __enter__(self) -> Askers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int) -> None:
        """Until there are so many more answers, or one of them has failed."""
        until = len(self.answers) + more
        eventually(
            lambda: len(self.answers) >= until or not all(thread.is_alive() for thread in self._threads),
            "requests are answered",
        )

    def _ask(self) -> None:
        client = Client(self._engine)
        while not self._done.is_set():
            self.answers.append(client.infer("m", [1.0])[0])
        client.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    before = {thread.ident for thread in threading.enumerate()}
    made = Bench(tmp_path)
    yield made
    made.close()
    # The fork server outlives the last model on purpose.
    others = ("model-", forking.THREAD_NAME)
    left = [
        thread for thread in threading.enumerate() if thread.ident not in before and not thread.name.startswith(others)
    ]
    for thread in left:
        thread.join(20)  # one that has done its work may still be on its way out
    assert [thread.name for thread in left if thread.is_alive()] == [], "threads outlive the service"


@pytest.fixture
def client(bench: Bench) -> Iterator[Client]:
    made = Client(bench.engine)
    yield made
    made.close()
