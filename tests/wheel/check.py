# SPDX-License-Identifier: Apache-2.0
"""Checks a repaired wheel as its user gets it: in an empty environment, with the libraries that it brings.

``python tests/wheel/check.py dist/pyinfer-*.whl``. The wheel is installed into a new environment; its server is started
on a repository of one identity model; this environment's tritonclient asks it over HTTP and gRPC; SIGTERM ends it.
It is no pytest suite, because it installs packages: the suites need no network.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

#: what auditwheel must have put into the wheel; all else comes with every Linux
BUNDLED = ("libnghttp2", "libsimdjson", "libre2")
CONFIG = """
backend: "identity"
max_batch_size: 8
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 16 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 16 ] } ]
"""
START_SECONDS = 60
STOP_SECONDS = 30
#: the interpreter must find nothing of this environment or of the source tree
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if name not in {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
}


class Server:
    """A running ``pyinfer serve`` out of the wheel's environment."""

    def __init__(self, bin_directory: Path, repository: Path, log: Path) -> None:
        self.http, self.grpc, self.metrics = free_ports(3)
        flags = [f"--{name}-port={port}" for name, port in vars(self).items()]
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [bin_directory / "pyinfer", "serve", f"--model-repository={repository}", *flags],
                cwd=repository,
                env=CLEAN,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def wait_until_ready(self) -> None:
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)
        raise AssertionError(f"not ready within {START_SECONDS} s; exit status {self.process.poll()} (None: it runs)")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, env=CLEAN, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def served(wheel: Path, folder: Path) -> Iterator[Server]:
    """An environment that holds the wheel and what it depends on, and a server in it."""
    environment = folder / "venv"
    venv.create(environment, with_pip=True)
    run(environment / "bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel, cwd=folder)
    model = folder / "repository/identity"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    server = Server(environment / "bin", model.parent, folder / "server.log")
    try:
        server.wait_until_ready()
        yield server
    except BaseException:
        print(server.log.read_text(errors="replace"))
        raise
    finally:
        server.process.kill()
        server.process.wait()


def check_content(wheel: Path) -> None:
    """What must be in the wheel, and nothing of the sources of its compiled parts."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "manylinux" in wheel.name, f"{wheel.name} was not repaired"
    for needed in (r"pyinfer/_core\..*\.so", r"pyinfer/backends/python/_objects\..*\.so", r"pyinfer/protos\.binpb"):
        assert any(re.fullmatch(needed, name) for name in names), f"no {needed} in the wheel"
    typed = ("pyinfer/_core.pyi", "pyinfer/py.typed", "pyinfer/backends/python/_objects.pyi")
    for needed in (*typed, "triton_python_backend_utils/__init__.py", "triton_python_backend_utils/py.typed"):
        assert needed in names, f"no {needed} in the wheel"
    for library in BUNDLED:
        assert any(name.startswith(f"pyinfer.libs/{library}") for name in names), f"{library} is not bundled"
    strays = [name for name in names if name.endswith((".cc", ".h", ".pyx")) or name.startswith(("tests/", "csrc/"))]
    assert not strays, f"{strays} do not belong into a wheel"


def check_libraries(server: Server) -> None:
    """The process has mapped the libraries of the wheel, not the system's."""
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    for library in BUNDLED:
        mapped = set(re.findall(rf"/\S*/{library}\S*", maps))
        assert mapped, f"{library} is not loaded"
        assert all("/pyinfer.libs/" in path for path in mapped), f"{library} comes from {mapped}"


def check_http(server: Server) -> None:
    """Right answers over HTTP, as JSON and as binary data."""
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.http}") as client:
        for binary in (False, True):
            check_answer(client, triton_http, {"binary_data": binary})


def check_grpc(server: Server) -> None:
    """Right answers over gRPC."""
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        check_answer(client, triton_grpc, {})


def check_answer(client: object, module: object, options: dict[str, bool]) -> None:
    data = np.arange(32, dtype=np.float32).reshape(2, 16)
    tensor = module.InferInput("INPUT0", [2, 16], "FP32")  # type: ignore[attr-defined]
    tensor.set_data_from_numpy(data, **options)
    output = module.InferRequestedOutput("OUTPUT0", **options)  # type: ignore[attr-defined]
    answer = client.infer("identity", [tensor], outputs=[output])  # type: ignore[attr-defined]
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), data)


def check_metrics(server: Server) -> None:
    """The requests above are counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.metrics}/metrics", timeout=5) as page:
        text = page.read().decode()
    found = re.search(r'nv_inference_request_success\{[^}]*model="identity"[^}]*\} (\S+)', text)
    assert found, "no nv_inference_request_success for identity"
    assert float(found[1]) == 3


def check_stop(server: Server) -> None:
    """SIGTERM ends the server with status 0."""
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(STOP_SECONDS) == 0


def passes(check: Callable[..., None], *arguments: object) -> bool:
    purpose = (check.__doc__ or "").splitlines()[0]
    try:
        check(*arguments)
    except Exception:
        traceback.print_exc()
        print(f"FAILED  {purpose}", flush=True)
        return False
    print(f"ok      {purpose}", flush=True)
    return True


def main() -> int:
    (wheel,) = (Path(name).resolve() for name in sys.argv[1:])
    results = [passes(check_content, wheel)]
    with tempfile.TemporaryDirectory(prefix="pyinfer-wheel-") as folder, served(wheel, Path(folder)) as server:
        checks = (check_libraries, check_http, check_grpc, check_metrics, check_stop)
        results += [passes(check, server) for check in checks]
    print(f"wheel: {sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
