# SPDX-License-Identifier: Apache-2.0
"""A server in a process of its own. It does NOT share anything with the test but sockets and a log file."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyinfer.children import has_ended, wait_for_end

__all__ = ["RunningServer", "run_server"]

#: ``python -m pyinfer`` that ends, as by SIGTERM, when the process of its first argument does, however that came about
_PROGRAM = """
import os, select, signal, sys, threading
from pyinfer.cli import main

def follow(parent):
    select.select([parent], [], [])
    os.kill(os.getpid(), signal.SIGTERM)

parent = int(sys.argv.pop(1))
try:
    threading.Thread(target=follow, args=(os.pidfd_open(parent),), daemon=True).start()
except OSError:
    if os.getppid() != parent:
        sys.exit("the process that has started this server has ended")
    # a kernel before 5.3 does not tell
sys.exit(main())
"""
_STARTED = re.compile(r"Started (GRPCInferenceService|HTTPService|Metrics Service) at \S+:(\d+)")
_NAMES = {"GRPCInferenceService": "grpc", "HTTPService": "http", "Metrics Service": "metrics"}


class RunningServer:
    """A server process. Ports are 0 for what it does not serve."""

    def __init__(self, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.process = process
        self.http_port = self.grpc_port = self.metrics_port = 0
        self._log_file = log_file

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def http(self) -> str:
        """``host:port``, as tritonclient takes it."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def grpc(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def metrics(self) -> str:
        return f"127.0.0.1:{self.metrics_port}"

    @property
    def log(self) -> str:
        """All that the process has written so far."""
        return self._log_file.read_text(errors="replace") if self._log_file.exists() else ""

    def is_ready(self) -> bool:
        """Whether the server says over HTTP that it is ready."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=60)
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def wait_started(self, timeout_s: float) -> None:
        """Wait until all ports are served. Raises RuntimeError, with the log, if the process ends or the time is up."""
        until = time.monotonic() + timeout_s
        while "All services are started." not in self.log:
            if has_ended(self.process):
                raise RuntimeError(f"the server ended with status {self.process.wait()}:\n{self.log}")
            if time.monotonic() > until:
                raise RuntimeError(f"the server did not start within {timeout_s} s:\n{self.log}")
            time.sleep(0.01)
        for name, port in _STARTED.findall(self.log):
            setattr(self, f"{_NAMES[name]}_port", int(port))

    def stop(self, timeout_s: float = 35.0) -> int:
        """SIGTERM, then wait for the end; SIGKILL when the time is up. The exit status (negative: of a signal)."""
        if not has_ended(self.process):
            os.kill(self.pid, signal.SIGTERM)
            if not wait_for_end(self.process, timeout_s):
                os.kill(self.pid, signal.SIGKILL)
        return self.process.wait()


@contextmanager
def run_server(repository: str | Path | None, *flags: str, timeout_s: float = 60.0) -> Iterator[RunningServer]:
    """Serve ``repository`` (None: what ``flags`` name) with ``flags`` of ``pyinfer serve``, on free ports of loopback.

    The server is started, but ready only if all its models are. Its process is gone when the block is left, and ends
    when this process does before that, also by SIGKILL. Raises RuntimeError, with the log, where the server does not
    start. ``--log-file=FILE`` among the flags is followed.
    """
    command = [sys.executable, "-c", _PROGRAM, str(os.getpid()), "serve"]
    command += ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    if repository is not None:
        command.append(f"--model-repository={repository}")
    with tempfile.TemporaryDirectory(prefix="pyinfer-test-") as folder:
        output_file = Path(folder, "log")
        log_files = [Path(flag.partition("=")[2]) for flag in flags if flag.startswith("--log-file=")]
        log_file = log_files[-1] if log_files else output_file
        with output_file.open("wb") as output:
            process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=output, stderr=output)  # noqa: S603
        server = RunningServer(process, log_file)
        try:
            server.wait_started(timeout_s)
            yield server
        finally:
            server.stop()
