# SPDX-License-Identifier: Apache-2.0
"""A repository of small models, and one server that serves it to all contract tests that change nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyinfer.testing import RunningServer, run_server

GATE = '''
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Says that it began, then answers with its input once the gate is open."""

    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        (self.folder / "began").touch()
        while not (self.folder / "open").exists():
            time.sleep(0.005)
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests
        ]
'''


def add_model(repository: Path, name: str, config: str, files: dict[str, str] | None = None) -> Path:
    """A model directory with version 1."""
    directory = repository / name
    (directory / "1").mkdir(parents=True)
    (directory / "config.pbtxt").write_text(config)
    for file, text in (files or {}).items():
        (directory / "1" / file).write_text(text)
    return directory


def identity(datatype: str, dims: str, *, batch: int = 8) -> str:
    """The configuration of an identity model."""
    return (
        f'backend: "identity" max_batch_size: {batch} '
        f'input [ {{ name: "INPUT0" data_type: {datatype} dims: [ {dims} ] }} ] '
        f'output [ {{ name: "OUTPUT0" data_type: {datatype} dims: [ {dims} ] }} ] '
        "instance_group [ { count: 1 kind: KIND_CPU } ] dynamic_batching { }"
    )


def gate_config() -> str:
    """The configuration of a model whose answers wait for a file."""
    return identity("TYPE_FP32", "-1").replace('"identity"', '"python"')


def isolated(how: str) -> str:
    """The flag that makes the instances of Python models threads or processes."""
    return f"--backend-config=python,isolation={how}"


@pytest.fixture(scope="module", params=["thread", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Where the instances of Python models run; for servers that are started with the flag of :func:`isolated`."""
    how: str = request.param
    return how


def tls_flags(folder: Path, *more: str) -> tuple[str, ...]:
    """The flags that name the server's certificate and key."""
    return (f"--grpc-server-cert={folder / 'server.crt'}", f"--grpc-server-key={folder / 'server.key'}", *more)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``fp32`` [-1], ``text`` (BYTES) [-1], and ``large`` without batching."""
    repository = tmp_path_factory.mktemp("models")
    add_model(repository, "fp32", identity("TYPE_FP32", "-1"))
    add_model(repository, "text", identity("TYPE_STRING", "-1"))
    add_model(repository, "large", identity("TYPE_FP32", "-1", batch=0))
    return repository


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running
        assert running.process.poll() is None, running.log
        assert running.stop() == 0, running.log


def fake_driver(folder: Path) -> Path:
    """The log of a CUDA driver that is made in ``folder``.

    LD_LIBRARY_PATH has to name the folder, and FAKE_CUDA_LOG the log.
    """
    library, log = folder / "libcuda.so.1", folder / "calls"
    source = Path(__file__).with_name("fake_cuda.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)], check=True)
    log.touch()
    return log
