# SPDX-License-Identifier: Apache-2.0
"""The fork server: a process of one thread that has imported what every worker needs, and forks workers on request.

A worker is there in milliseconds and shares the memory of what was imported; a fresh interpreter takes a hundred times
as long. The server's own process is no place to fork from: its threads hold locks that no thread of the child would
release.

A request is an object on the socket that the process was started with (``channel``), and two descriptors: the worker's
end of its channel, and a socket for what becomes of it. There the worker says its number once it leads a group of its
own, and the fork server how it ended. Until the other side closes that socket, the number stays the worker's. The
system ends the workers with the fork server, and that with the process that has started it.
"""

from __future__ import annotations

import gc
import importlib
import os
import select
import signal
import socket
import struct
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pyinfer.backends.python.channel import Channel, close_all

__all__ = ["BEGUN", "ENDED", "main"]

#: a worker's number; below 0: the negative ``errno`` of why there is none
BEGUN = struct.Struct("<i")
#: ``si_code`` and ``si_status`` of its end
ENDED = struct.Struct("<ii")

#: what a worker imports before it imports its model
_IMPORTED = (
    "numpy",
    "triton_python_backend_utils",
    "pyinfer.backends.python.backend",
    "pyinfer.backends.python.calls",
    "pyinfer.backends.python.metrics",
    "pyinfer.backends.python.server_link",
    "pyinfer.backends.python.worker",
)


def main(descriptor: int, parent: int) -> None:
    """Serve the process ``parent`` until it closes its end of ``descriptor``. Returns in workers, at their end."""
    from pyinfer._core import end_with_parent

    end_with_parent(parent)
    _import_all()
    server = os.getpid()
    order = _Server(Channel(socket.socket(fileno=descriptor))).serve()
    if order is None:
        os._exit(0)  # nothing here needs an end
    from pyinfer.backends.python import worker

    _rename(order.name)
    worker.main(order.descriptor, server)


def _import_all() -> None:
    for name in _IMPORTED:
        importlib.import_module(name)
    # Collections in workers would write to every page on which an object is, and so copy it.
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class _Order:
    """In a new process: which worker it is to be."""

    name: str
    descriptor: int


@dataclass
class _Worker:
    pid: int
    report: socket.socket
    is_told: bool = False


class _Server:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        #: by the descriptor of the socket that tells of it
        self._workers: dict[int, _Worker] = {}
        #: killed, since nobody wants to know of them any more, and to be waited for
        self._forgotten: set[int] = set()
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._poll = select.poll()
        for fd in (self._woken, channel.fileno()):
            self._poll.register(fd, select.POLLIN)

    def serve(self) -> _Order | None:
        """None at the end; in a worker what it is to do."""
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._woken:
                    with suppress(BlockingIOError):
                        os.read(fd, 4096)
                elif fd in self._workers:
                    self._forget(fd)
                elif fd == self._channel.fileno():
                    message, fds = self._channel.receive(2)
                    if message is None:
                        return None
                    order = self._fork(str(message["name"]), *fds)
                    if order is not None:
                        return order
            self._look_for_ends()

    def _fork(self, name: str, descriptor: int, told: int) -> _Order | None:
        report = socket.socket(fileno=told)
        try:
            pid = os.fork()
        except OSError as error:
            report.send(BEGUN.pack(-(error.errno or 1)))
            report.close()
            os.close(descriptor)
            return None
        if pid:
            os.close(descriptor)
            self._workers[told] = _Worker(pid, report)
            self._poll.register(told, select.POLLIN)
            return None
        os.setsid()
        report.send(BEGUN.pack(os.getpid()))
        report.close()
        self._leave()
        return _Order(name, descriptor)

    def _leave(self) -> None:
        """Let go of what is the fork server's, in a worker."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._channel.close()
        for worker in self._workers.values():
            worker.report.close()
        close_all((self._woken, self._wake))
        # of the interpreter's own thread, which keeps that of the fork server before Python 3.13
        getattr(threading.current_thread(), "_set_native_id", lambda: None)()
        generator = sys.modules.get("numpy.random")
        if generator is not None:  # as that of the module random, which sees to it by itself
            generator.seed()

    def _forget(self, fd: int) -> None:
        worker = self._workers.pop(fd)
        self._poll.unregister(fd)
        worker.report.close()
        with suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        self._forgotten.add(worker.pid)

    def _look_for_ends(self) -> None:
        for worker in self._workers.values():
            if worker.is_told:
                continue
            ended = os.waitid(os.P_PID, worker.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                worker.is_told = True
                with suppress(OSError):  # nobody wants to know; seen in the next turn
                    worker.report.send(ENDED.pack(ended.si_code, ended.si_status))
        self._forgotten -= {pid for pid in self._forgotten if os.waitpid(pid, os.WNOHANG)[0]}


def _rename(name: str) -> None:
    """Show the worker's name where the system lists processes: its arguments are written over."""
    title = f"pyinfer-worker:{name}"
    sys.argv[1:] = [title]
    with suppress(OSError, IndexError, ValueError):
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
        text = f"{sys.executable}\0{title}".encode()
        with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            memory.write(text[: end - begin - 1].ljust(end - begin, b"\0"))
