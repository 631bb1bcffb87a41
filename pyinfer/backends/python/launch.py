# SPDX-License-Identifier: Apache-2.0
"""Starts worker processes, with one end of a socket pair and nothing else of the server.

A worker that needs no environment of its own is forked by the fork server. One that does is a fresh interpreter of that
environment, by exec. It need not have pyinfer: it is told where the few modules are that a worker needs, and has all
others from its environment.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

from pyinfer.backends.python.channel import Channel
from pyinfer.backends.python.forking import ForkServer
from pyinfer.backends.python.processes import ExecutedProcess, WorkerProcess
from pyinfer.errors import ModelError

__all__ = ["fork_server", "launch"]

#: what a worker imports of the server's installation
_MODULES = (
    "pyinfer",
    "pyinfer._core",
    "pyinfer.errors",
    "pyinfer.backends",
    "pyinfer.backends.base",
    "pyinfer.backends.paths",
    "pyinfer.backends.python",
    "pyinfer.backends.python._objects",
    "pyinfer.backends.python.autocomplete",
    "pyinfer.backends.python.backend",
    "pyinfer.backends.python.calls",
    "pyinfer.backends.python.channel",
    "pyinfer.backends.python.coroutines",
    "pyinfer.backends.python.fork_server",
    "pyinfer.backends.python.imports",
    "pyinfer.backends.python.metric_registry",
    "pyinfer.backends.python.metrics",
    "pyinfer.backends.python.selection",
    "pyinfer.backends.python.server_link",
    "pyinfer.backends.python.settings",
    "pyinfer.backends.python.utils",
    "pyinfer.backends.python.worker",
    "triton_python_backend_utils",
)

#: how long a worker may not read what it is sent; the messages are few and small
_SEND_LIMIT_S = 5

#: run by the new interpreter, with (files, cache tag, entry, descriptor, process of the server) in front
_BOOT = """
import importlib, json, os, struct, sys
if sys.implementation.cache_tag != tag:
    text = f"the environment's Python is {sys.implementation.cache_tag}, the server needs {tag}"
    text = json.dumps({"event": "failed", "error": text}).encode()
    os.write(descriptor, struct.pack("<I", len(text)) + text)
    sys.exit(1)
from importlib.util import spec_from_file_location
class Found:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in files:
            file = files[name]
            return spec_from_file_location(name, file)
sys.path[:] = [entry for entry in sys.path if entry]
sys.meta_path.insert(0, Found)
importlib.import_module(f"pyinfer.backends.python.{entry}").main(descriptor, parent)
"""


def launch(environment: Path | None, name: str, limit_s: float) -> tuple[WorkerProcess, Channel]:
    """A new process, the leader of a process group and session of its own, and the channel to it.

    ``environment`` is the directory of the environment whose interpreter is to be used; None for a worker that is
    forked, for which :data:`fork_server` must be acquired, within ``limit_s`` seconds. ``name`` says whose process it
    is, to people who list processes. Raises ModelError where none can be started.
    """
    if environment is None:
        return fork_server.fork(name, limit_s)
    ours, theirs = socket.socketpair()
    try:
        process = _start(environment, "worker", f"pyinfer-worker:{name}", theirs.fileno())
    except OSError as error:
        ours.close()
        raise ModelError(f"the worker process of '{name}' can not be started: {error.strerror}") from error
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return ExecutedProcess(process), Channel(ours, send_limit_s=_SEND_LIMIT_S)


def _start(environment: Path | None, entry: str, title: str, descriptor: int) -> subprocess.Popen[bytes]:
    """A new interpreter that calls ``main`` of the module ``entry``. Raises OSError, and ModelError without one."""
    names = (
        f"files = {json.dumps(_files())}\ntag = {sys.implementation.cache_tag!r}\nentry = {entry!r}\n"
        f"descriptor = {descriptor}\nparent = {os.getpid()}\n"
    )
    return subprocess.Popen(  # noqa: S603 - no shell, and no text of a client
        [str(_interpreter(environment)), "-c", names + _BOOT, title],
        stdin=subprocess.DEVNULL,
        pass_fds=(descriptor,),
        start_new_session=True,
        env=_variables(environment),
    )


@cache
def _files() -> dict[str, str]:
    found = {name: importlib.util.find_spec(name) for name in _MODULES}
    return {name: spec.origin for name, spec in found.items() if spec is not None and spec.origin is not None}


def _interpreter(environment: Path | None) -> Path:
    if environment is None:
        return Path(sys.executable)
    for name in ("python3", "python"):
        if (file := environment / "bin" / name).is_file():
            return file
    raise ModelError("the environment of EXECUTION_ENV_PATH has no bin/python3")


def _variables(environment: Path | None) -> dict[str, str]:
    variables = dict(os.environ)
    if environment is not None:
        for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "CONDA_PREFIX"):
            variables.pop(name, None)
        is_venv = (environment / "pyvenv.cfg").is_file()
        variables["VIRTUAL_ENV" if is_venv else "CONDA_PREFIX"] = str(environment)
        variables["PATH"] = f"{environment / 'bin'}{os.pathsep}{variables.get('PATH', os.defpath)}"
    return variables


#: of this process, for all of its models
fork_server = ForkServer(lambda descriptor: _start(None, "fork_server", "pyinfer-fork-server", descriptor))
