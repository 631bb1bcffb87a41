# SPDX-License-Identifier: Apache-2.0
"""The fork server of this process, as long as somebody uses it: what starts workers that need no environment.

One for all models. It is started when the first one is loaded, and ends some time after the last one is not used any
more: a model that is loaded again is not to wait for it. One that has died takes its workers with it, and the next
worker has another one started.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from subprocess import Popen

from pyinfer.backends.python.channel import Channel
from pyinfer.backends.python.fork_server import BEGUN, ENDED
from pyinfer.backends.python.processes import ForkedProcess
from pyinfer.errors import ModelError

__all__ = ["THREAD_NAME", "ForkServer"]

#: of the threads that look after it
THREAD_NAME = "fork-server"
#: how long an order may not be read
_SEND_LIMIT_S = 5
#: how long a fork server is kept that nobody uses
_LINGER_S = 5.0
#: how long a fork server may take to end that has nothing more to do
_END_S = 5.0


class ForkServer:
    """See the module. Any thread."""

    def __init__(self, start: Callable[[int], Popen[bytes]]) -> None:
        """``start`` starts the process with one end of a socket pair, whose descriptor it is given. Raises OSError."""
        self._start = start
        self._lock = threading.Lock()
        self._users = 0
        self._lingering: threading.Timer | None = None
        self._is_over = False
        self._keeper: _Keeper | None = None

    def acquire(self) -> None:
        """Keep the process, which is started if it is not there, until :meth:`release`. Does not wait for it."""
        with self._lock:
            self._users += 1
            with suppress(OSError, RuntimeError):  # whoever forks is told
                self._kept()

    def release(self) -> None:
        """Let the process end in a while if nobody else uses it; its workers must have ended."""
        with self._lock:
            self._users -= 1
            if self._users or (self._lingering is not None and self._lingering.is_alive()):
                return
            self._lingering = threading.Timer(_LINGER_S, self._end_unused)
            self._lingering.daemon = True
            self._lingering.name = THREAD_NAME
            with suppress(RuntimeError):  # no thread can be had: it is kept, and ends with this process at the latest
                self._lingering.start()

    def end(self) -> None:
        """End the process, with all of its workers, for good."""
        with self._lock:
            self._is_over = True
            keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.end()

    def _end_unused(self) -> None:
        with self._lock:
            if self._users:
                return
            keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.end()

    def fork(self, name: str, limit_s: float) -> tuple[ForkedProcess, Channel]:
        """A new worker and the channel to it. Raises ModelError where there is none within ``limit_s`` seconds."""
        try:
            with suppress(ConnectionError):  # it has died; once more, with another one
                return self._current().fork(name, limit_s)
            return self._current().fork(name, limit_s)
        except OSError as error:
            text = error.strerror or str(error) or type(error).__name__
            raise ModelError(f"the worker process of '{name}' can not be started: {text}") from error

    def _current(self) -> _Keeper:
        with self._lock:
            return self._kept()

    def _kept(self) -> _Keeper:
        if self._is_over:
            raise OSError("the server is about to end")
        if self._keeper is None or self._keeper.is_lost or not self._keeper.is_alive():
            self._keeper = _Keeper(self._start)
        return self._keeper


class _Keeper(threading.Thread):
    """Starts a fork server and waits for its end; there as long as it, for the system ends it with this thread."""

    def __init__(self, start: Callable[[int], Popen[bytes]]) -> None:
        super().__init__(name=THREAD_NAME, daemon=True)
        self._run = start
        ours, self._theirs = socket.socketpair()
        self._channel = Channel(ours, send_limit_s=_SEND_LIMIT_S)
        self._process: Future[Popen[bytes]] = Future()
        #: it has been seen to answer no more
        self.is_lost = False
        try:
            self.start()
        except BaseException:
            self._channel.close()
            self._theirs.close()
            raise

    def run(self) -> None:
        try:
            process = self._run(self._theirs.fileno())
        except BaseException as error:
            self._process.set_exception(error)
            return
        finally:
            self._theirs.close()
        self._process.set_result(process)
        process.wait()

    def fork(self, name: str, limit_s: float) -> tuple[ForkedProcess, Channel]:
        """As that of :class:`ForkServer`. Raises ConnectionError where the process has ended, and other OSErrors."""
        self._process.result()
        ours, theirs = socket.socketpair()
        told, tells = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs, tells:
                self._channel.send({"name": name}, [theirs.fileno(), tells.fileno()])
            told.settimeout(limit_s)
            text = told.recv(ENDED.size)
            told.settimeout(None)
            if not text:
                raise ConnectionError
            if len(text) == ENDED.size:
                raise OSError("it has ended at once")
            (pid,) = BEGUN.unpack(text)
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
        except BaseException as error:
            ours.close()
            told.close()
            if isinstance(error, ConnectionError | TimeoutError):
                self.is_lost = True
                self._kill()
                raise ConnectionError("the fork server does not answer") from error
            raise
        return ForkedProcess(pid, told), Channel(ours, send_limit_s=_SEND_LIMIT_S)

    def end(self) -> None:
        """Let the process end, and wait for it."""
        self._channel.close()
        self.join(_END_S)
        if self.is_alive():
            self._kill()
            self.join()

    def _kill(self) -> None:
        with suppress(OSError):
            self._process.result().send_signal(signal.SIGKILL)
