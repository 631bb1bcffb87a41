# SPDX-License-Identifier: Apache-2.0
"""The invariants of every row: other clients are served right, and what was taken is given back."""

from __future__ import annotations

import os
import re
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np

from contract.http.raw import Raw, post
from faults.client import Grpc, document, message, tensor
from pyinfer.testing import RunningServer
from waiting import eventually

__all__ = ["Control", "Guard", "counter", "peak_growth"]

_MIB = 1 << 20
#: threads of the bounded pools for control calls and for loading, which are started when they are needed first
_POOLED = 12


def counter(server: RunningServer, name: str, model: str, **labels: str) -> int:
    """The sum of a metric over all series that match."""
    with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=60) as page:
        lines = page.read().decode().split("\n")
    wanted = [f'{key}="{value}"' for key, value in {"model": model, **labels}.items()]
    found = [line for line in lines if line.startswith(name + "{") and all(label in line for label in wanted)]
    assert found, f"no metric {name} of {wanted}"
    return sum(int(float(line.rpartition(" ")[2])) for line in found)


class Control:
    """A client of another model, in a thread: one request at a time, by turns over HTTP and gRPC, for ever."""

    def __init__(self, server: RunningServer) -> None:
        self.answers = 0
        self.errors: list[str] = []
        self._server = server
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="control")
        self._thread.start()

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        raw, channel = Raw(self._server.http_port, timeout_s=60), Grpc(self._server)
        try:
            while not self._ending.wait(0.01):
                self._ask(raw, channel, self.answers)
                self.answers += 1
        except Exception as error:
            self.errors.append(repr(error))
        finally:
            raw.socket.close()
            channel.close()

    def _ask(self, raw: Raw, channel: Grpc, number: int) -> None:
        values = [number % 1000 + i / 4 for i in range(4)]
        if number % 2:
            body = document(tensor((1, 4), values), id=str(number))
            answer = raw.send(post("/v2/models/control/infer", body)).receive().document
            assert (answer["id"], answer["outputs"][0]["data"]) == (str(number), values)
        else:
            data = np.array(values, "<f4").tobytes()
            request = message("control", ("INPUT0", "FP32", (1, 4)), raw=[data], request_id=str(number))
            response = channel.infer(request)
            assert (response.id, response.raw_output_contents[0]) == (str(number), data)


class Guard:
    """What one server must keep to while a module of tests runs against it: a context that ends with :meth:`finish`."""

    def __init__(self, server: RunningServer, *, rss_growth: int = 256 * _MIB) -> None:
        self.server = server
        self._rss_growth = rss_growth
        self._warm_up()
        self._fds, self._threads, self._rss = self._taken()
        self._answered = counter(server, "nv_inference_request_success", "control")
        self.control = Control(server)

    def __enter__(self) -> Guard:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.control.stop()
        if kind is None:
            self.finish()

    def check(self) -> None:
        """After each test: alive, ready, and the control client gets answers."""
        assert self.server.process.poll() is None, self.server.log[-4000:]
        assert self.server.is_ready()
        before = self.control.answers
        eventually(lambda: self.control.answers > before or bool(self.control.errors), "no answers for others")
        assert not self.control.errors, self.control.errors

    def finish(self) -> None:
        """After the last test: all is given back, and every request of the control client is accounted for."""
        self.control.stop()
        assert not self.control.errors, self.control.errors
        answered = counter(self.server, "nv_inference_request_success", "control") - self._answered
        assert answered == self.control.answers
        assert counter(self.server, "nv_inference_request_failure", "control") == 0
        eventually(lambda: self._pending() == 0, "requests are left in a queue")
        fds = self._fds + ("PYINFER_SANITIZER" in os.environ)  # whose log is opened with its first warning
        eventually(lambda: self._taken()[0] <= fds, f"descriptors: {self._fds} before")
        eventually(lambda: self._taken()[1] <= self._threads + _POOLED, f"threads: {self._threads} before")
        if "PYINFER_SANITIZER" not in os.environ:
            assert self._taken()[2] - self._rss < self._rss_growth

    def _pending(self) -> int:
        with urllib.request.urlopen(f"http://{self.server.metrics}/metrics", timeout=60) as page:
            found = re.findall(r"nv_inference_pending_request_count\{.*\} (\S+)", page.read().decode())
        return int(sum(map(float, found)))

    def _taken(self) -> tuple[int, int, int]:
        """Descriptors, threads, resident bytes."""
        process = Path("/proc", str(self.server.pid))
        resident = int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), resident

    def _warm_up(self) -> None:
        """Start the threads that parse large bodies, which are made when they are needed first."""
        large = post("/v2/models/flat/infer", document(tensor([200_000], [0.5] * 200_000)))
        clients = [Raw(self.server.http_port, timeout_s=60) for _ in range(4)]
        for client in clients:
            client.send(large)
        for client in clients:
            assert client.receive().status in (200, 400)  # 400: beyond the limit of a strict server
            client.socket.close()
        # the descriptors of these connections are closed a little later
        time.sleep(0.3)


def peak_growth(server: RunningServer, attack: Callable[[], object]) -> int:
    """By how many bytes the resident set of the server grew, at its highest, during ``attack``.

    0 under a sanitizer, which keeps freed memory on purpose.
    """
    process = Path("/proc", str(server.pid))
    (process / "clear_refs").write_text("5")  # the peak starts again from here
    before = _status(process, "VmRSS")
    attack()
    return 0 if "PYINFER_SANITIZER" in os.environ else _status(process, "VmHWM") - before


def _status(process: Path, field: str) -> int:
    found = re.search(rf"^{field}:\s+(\d+) kB$", (process / "status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024
