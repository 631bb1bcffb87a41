# SPDX-License-Identifier: Apache-2.0
"""The servers that are measured, all started the same way: a child process that serves a repository on loopback."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from perf.peers import start_triton
from perf.procs import Child

__all__ = ["Counts", "Server", "build_repository", "command_of_pyinfer", "free_ports", "start_echo", "start_server"]

_ROOT = Path(__file__).resolve().parents[1]
_REPOSITORIES = (_ROOT / "model_repository", _ROOT / "perf" / "repository")
_PORTS_OF_A_SERVER = 3  # HTTP; gRPC and metrics are the next two


@dataclass(frozen=True)
class Counts:
    """A model's statistics that the benches need."""

    executions: int = 0
    inferences: int = 0


@dataclass(frozen=True)
class Server:
    """A running server. ``ready_s``: seconds from the start of its process to its first 200 on the ready endpoint."""

    name: str
    child: Child
    http: str
    grpc: str
    ready_s: float
    has_statistics: bool = True
    #: speaks no gRPC: gRPC bodies reach it over HTTP/1.1
    http1_only: bool = False

    @property
    def pid(self) -> int:
        return self.child.pid

    def counts(self, model: str) -> Counts:
        """The statistics of ``model`` so far; zeros for a server that keeps none."""
        if not self.has_statistics:
            return Counts()
        with urllib.request.urlopen(f"http://{self.http}/v2/models/{model}/stats", timeout=10) as answer:
            stats = json.load(answer)["model_stats"][0]
        return Counts(int(stats.get("execution_count", 0)), int(stats.get("inference_count", 0)))

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.child.stop()


def build_repository(directory: Path, models: Sequence[str]) -> Path:
    """Copy ``models`` from the example and bench repositories into ``directory``, so that nothing else is served.

    Fetches what is not there yet of ``simple_mlp`` and ``magika``. Raises FileNotFoundError for an unknown model.
    """
    fetched = [model for model in models if model in ("magika", "simple_mlp")]
    if fetched:
        subprocess.run([sys.executable, str(_ROOT / "model_repository" / "fetch.py"), *fetched], check=True)
    for model in models:
        source = next((folder / model for folder in _REPOSITORIES if (folder / model).is_dir()), None)
        if source is None:
            raise FileNotFoundError(f"no model {model!r} in {' or '.join(str(folder) for folder in _REPOSITORIES)}")
        shutil.copytree(source, directory / model, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    return directory


def command_of_pyinfer(repository: Path, port: int) -> list[str]:
    """The command line that serves ``repository`` with HTTP on ``port``, gRPC and metrics on the next two."""
    ports = [f"--http-port={port}", f"--grpc-port={port + 1}", f"--metrics-port={port + 2}"]
    flags = ["--allow-client-shm=true"]
    return [sys.executable, "-m", "pyinfer", "serve", f"--model-repository={repository}", *ports, *flags]


def free_ports() -> int:
    """The first of three ports in a row that were free a moment ago."""
    while True:
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            try:
                for port in range(first + 1, first + _PORTS_OF_A_SERVER):
                    stack.enter_context(socket.create_server(("127.0.0.1", port)))
            except (OSError, OverflowError):
                continue
        return int(first)


def start_server(name: str, repository: Path) -> Server:
    """Start ``pyinfer`` or ``triton`` on ``repository`` and wait until it is ready. Raises StartError, PeerError."""
    port = free_ports()
    http, grpc = f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
    if name == "triton":
        triton = start_triton(repository, http_port=port, grpc_port=port + 1, metrics_port=port + 2)
        return Server(name, triton.child, http, grpc, triton.ready_s)
    child = Child(command_of_pyinfer(repository, port))
    return Server(name, child, http, grpc, child.wait_ready(f"http://{http}/v2/health/ready"))


def start_echo() -> Server:
    """Start ``perf.echo``: what sockets and bytes alone cost under uvloop."""
    port = free_ports()
    address = f"127.0.0.1:{port}"
    child = Child([sys.executable, "-m", "perf.echo", str(port)], {"PYTHONPATH": str(_ROOT)})
    ready_s = child.wait_ready(f"http://{address}/ready")
    return Server("echo", child, address, address, ready_s, has_statistics=False, http1_only=True)
