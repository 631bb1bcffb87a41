# SPDX-License-Identifier: Apache-2.0
"""Optional peers: what else one installs with pip to serve an ONNX model, each with one session on one thread.

Each lives in a virtual environment of its own, ``.venv-NAME``, and is skipped where there is none.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
import venv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.bodies import Body, make_body
from perf.peers import PeerError
from perf.procs import Child
from perf.servers import Server, free_ports

__all__ = ["PEERS", "PythonPeer", "find_peer", "install_peer", "peer_body", "read_answer", "start_peer"]

_ROOT = Path(__file__).resolve().parents[1]
_APPS = Path(__file__).with_name("peer_apps")
#: in an environment that holds all that it should
_STAMP = "installed"
_ONNX = ("onnxruntime>=1.19", "numpy>=1.26")


@dataclass(frozen=True)
class PythonPeer:
    """``packages`` are installed, ``app`` is run. ``path`` takes JSON: that of KServe v2, or else ``{"x": rows}``."""

    packages: tuple[str, ...]
    app: str
    ready: str
    path: str
    speaks_v2: bool = False


PEERS: Mapping[str, PythonPeer] = {
    "fastapi": PythonPeer(("fastapi>=0.115", "uvicorn[standard]>=0.32"), "fastapi_app.py", "/ready", "/infer"),
    "litserve": PythonPeer(("litserve>=0.2.5",), "litserve_app.py", "/health", "/predict"),
    # it does not start with later ones
    "mlserver": PythonPeer(
        ("mlserver>=1.6", "uvloop<0.22"), "mlserver_app.py", "/v2/models/peer/ready", "/v2/models/peer/infer", True
    ),
}


def _environment(name: str) -> Path:
    return _ROOT / f".venv-{name}"


def find_peer(name: str) -> Path | None:
    """The interpreter of the peer's environment, None where it is not installed, or not all of it."""
    environment = _environment(name)
    return environment / "bin" / "python" if (environment / _STAMP).exists() else None


def install_peer(name: str) -> Path:
    """Make the peer's environment; return its interpreter. Idempotent. Raises PeerError where pip fails."""
    if name not in PEERS:
        raise PeerError(f"no peer {name!r}; there are: {', '.join(PEERS)}")
    environment, peer = _environment(name), PEERS[name]
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *_ONNX, *peer.packages]
    if subprocess.run(command, check=False).returncode != 0:
        raise PeerError(f"pip could not install {', '.join(peer.packages)} into {environment.name}")
    (environment / _STAMP).touch()
    return python


def start_peer(name: str, model: Path) -> Server:
    """Serve the ONNX file ``model`` by the peer, and wait until it is ready. Raises StartError, PeerError."""
    python, peer, port = find_peer(name), PEERS[name], free_ports()
    if python is None:
        raise PeerError(f"{name} is not installed; run `python -m perf install-peers {name}`")
    environment = {
        "PEER_MODEL": str(model.resolve()),
        "PEER_PORT": str(port),
        "PYTHONPATH": str(_APPS),
        "VIRTUAL_ENV": str(python.parent.parent),
        "PATH": f"{python.parent}:/usr/bin:/bin",
    }
    child = Child([str(python), str(_APPS / peer.app)], environment, directory=_APPS)
    http, grpc = f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
    return Server(name, child, http, grpc, child.wait_ready(f"http://{http}{peer.ready}"), has_statistics=False)


def peer_body(name: str, model: str, tensor: NDArray[np.float32], *, input_name: str, output: str) -> Body:
    """The JSON request that sends ``tensor`` to the server ``name``, in the form that it has for it."""
    peer = PEERS.get(name)
    if peer is None:
        return make_body("http_json", model, tensor, name=input_name, output=output)
    if peer.speaks_v2:
        content = make_body("http_json", model, tensor, name=input_name, output=output).content
    else:
        content = json.dumps({"x": [[round(float(value), 5) for value in row] for row in tensor]}).encode()
    return Body(content, "http_json", model, path=peer.path)


def read_answer(server: Server, body: Body) -> NDArray[Any]:
    """The rows that ``server`` answers to ``body``, which is JSON."""
    request = urllib.request.Request(
        f"http://{server.http}{body.url_path}", body.content, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        said = json.load(answer)
    if "outputs" not in said:
        return np.array(said["y"], np.float32)
    tensor = said["outputs"][0]
    rows: NDArray[Any] = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    return rows
