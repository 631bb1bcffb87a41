# SPDX-License-Identifier: Apache-2.0
"""The peer: the real tritonserver that the PyPI package ``nvidia-pytriton`` carries (with the Python backend only).

It lives in a virtual environment of its own, because its dependencies are not ours. ``start_triton`` is used by the
benches and by ``tests/differential``. The wheel lacks Triton's C++ ``identity`` backend, so the least one that can be
is compiled here from ``triton_identity.c``: Triton can also be measured without the process hop of its Python backend.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from perf.procs import Child, children_ended

__all__ = ["PeerError", "Triton", "TritonInstall", "find_triton", "install_triton", "start_triton"]

#: the environment that ``install_triton`` makes; PERF_TRITON_VENV names another one
_DEFAULT_VENV = Path(__file__).resolve().parents[1] / ".venv-triton"
_PACKAGE = "nvidia-pytriton==0.7.0"
_IDENTITY_SOURCE = Path(__file__).with_name("triton_identity.c")


class PeerError(RuntimeError):
    """The peer is not installed or its wheel does not look as expected; the text says what to do."""


@dataclass(frozen=True)
class TritonInstall:
    """Where the parts of the peer are."""

    server: Path
    backends: Path
    python: Path
    #: folder with the libpython that the Python backend's stub is linked to
    libpython: Path

    def environment(self) -> dict[str, str]:
        """Variables to lay over the caller's: the stub must find libpython and this environment's numpy."""
        old = os.environ.get("LD_LIBRARY_PATH")
        return {
            "LD_LIBRARY_PATH": f"{self.libpython}:{old}" if old else str(self.libpython),
            "PATH": f"{self.python.parent}:{os.environ.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": str(self.python.parent.parent),
            "PYTHONPATH": "",
        }


@dataclass(frozen=True)
class Triton:
    """A running tritonserver. Close it, or use it as a context manager."""

    child: Child
    http: str
    grpc: str
    metrics: str
    #: seconds from the start of the process to its first 200 on the ready endpoint
    ready_s: float

    @property
    def pid(self) -> int:
        return self.child.pid

    def close(self) -> None:
        self.child.stop()

    def __enter__(self) -> Triton:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def install_triton(directory: Path | None = None) -> TritonInstall:
    """Make the virtual environment and install the peer into it (about 100 MB are downloaded). Idempotent.

    ``directory`` as for :func:`find_triton`. Raises PeerError where pip fails.
    """
    directory = directory or _directory()
    python = directory / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", _PACKAGE]
    if subprocess.run(command, check=False).returncode != 0:
        raise PeerError(f"pip could not install {_PACKAGE} into {directory}; is there a network?")
    return find_triton(directory)


def find_triton(directory: Path | None = None) -> TritonInstall:
    """The peer in the virtual environment ``directory`` (default: PERF_TRITON_VENV, else ``.venv-triton``).

    Puts the stub of the environment's Python version beside the Python backend and the compiled ``identity`` backend
    into the backend directory, inside that environment. Raises PeerError where the peer is not installed.
    """
    directory = directory or _directory()
    python = directory / "bin" / "python"
    if not python.exists():
        raise PeerError(f"no tritonserver in {directory}; run `python -m perf install-triton`")
    asked = "import sys, sysconfig; print(sysconfig.get_path('purelib'), sysconfig.get_config_var('LIBDIR'), "
    asked += "'%d.%d' % sys.version_info[:2], sep='\\n')"
    answer = subprocess.run([str(python), "-c", asked], check=True, capture_output=True, text=True)
    packages, libdir, version = answer.stdout.split("\n")[:3]
    root = Path(packages) / "pytriton" / "tritonserver"
    server, backends = root / "bin" / "tritonserver", root / "backends"
    if not server.exists():
        raise PeerError(f"no tritonserver in {directory}; run `python -m perf install-triton`")
    stub = root / "python_backend_stubs" / version / "triton_python_backend_stub"
    if not stub.exists():
        raise PeerError(f"{_PACKAGE} has no Python backend for Python {version}; make {directory} with another one")
    beside = backends / "python" / stub.name
    if not beside.exists():
        shutil.copy2(stub, beside)
    server.chmod(0o755)
    beside.chmod(0o755)
    _build_identity(backends / "identity" / "libtriton_identity.so")
    return TritonInstall(server, backends, python, Path(libdir))


def _directory() -> Path:
    return Path(os.environ.get("PERF_TRITON_VENV", _DEFAULT_VENV))


def _build_identity(library: Path) -> None:
    if library.exists() and library.stat().st_mtime >= _IDENTITY_SOURCE.stat().st_mtime:
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise PeerError("no C compiler for Triton's identity backend; install gcc")
    library.parent.mkdir(exist_ok=True)
    subprocess.run(
        [compiler, "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(_IDENTITY_SOURCE)], check=True
    )


def start_triton(
    repository: Path,
    *,
    http_port: int = 18100,
    grpc_port: int = 18101,
    metrics_port: int = 18102,
    flags: tuple[str, ...] = (),
    install: TritonInstall | None = None,
    seconds: float = 60.0,
) -> Triton:
    """Start tritonserver on loopback serving ``repository`` and wait until it is ready.

    ``flags`` are further tritonserver flags (they come last, so they win). Raises PeerError if it is not installed and
    StartError, with the end of its log, if it does not become ready.
    """
    install, repository = install or find_triton(), repository.resolve()
    # The stub imports from its working directory first, and this project has a triton_python_backend_utils of its own.
    child = Child(
        [
            str(install.server),
            f"--model-repository={repository}",
            f"--backend-directory={install.backends}",
            "--http-address=127.0.0.1",
            "--grpc-address=127.0.0.1",
            "--metrics-address=127.0.0.1",
            f"--http-port={http_port}",
            f"--grpc-port={grpc_port}",
            f"--metrics-port={metrics_port}",
            *flags,
        ],
        install.environment(),
        directory=repository,
    )
    ready_s = child.wait_ready(f"http://127.0.0.1:{http_port}/v2/health/ready", seconds)
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in (http_port, grpc_port, metrics_port))
    return Triton(child, http, grpc, metrics, ready_s)


if __name__ == "__main__":  # a repository to look at: python -m perf.peers DIR
    with children_ended(), start_triton(Path(sys.argv[1])) as triton:
        print(f"tritonserver: http {triton.http}, grpc {triton.grpc}; press Enter to stop")
        sys.stdin.readline()
