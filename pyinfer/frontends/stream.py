# SPDX-License-Identifier: Apache-2.0
"""What all connections of an event loop share: the mailbox, the order of work in an iteration, writes and time limits.

A connection tells :meth:`Stream.touch` that bytes came in; once per loop iteration the mailbox is flushed, and what it
hands out is written to the connections. It does NOT know any protocol. Loop thread only, except where told.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import socket
import sys
import termios
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Protocol, cast

from pyinfer._core import Engine, GrpcConnection, HttpConnection, Mailbox

__all__ = ["STALL_TICKS", "ByteTransport", "Connection", "Payload", "Stream"]

_log = logging.getLogger(__name__)

#: one tick of the sweep, in seconds; all time limits count whole ticks
_TICK_SECONDS = 1.0
#: ticks that a peer may leave our answer unread without any progress
STALL_TICKS = 30
_WORKERS = 2
#: calls that wait at a time, for models to load or to say whether they are ready; a thread each
_CALLS = 64
#: what a connection may want after its data is written
_CLOSE, _HAS_EVENTS = 1, 2

Payload = bytes | list[bytes | memoryview]


class ByteTransport(Protocol):
    """What a connection uses of an asyncio transport."""

    def write(self, data: bytes | memoryview) -> None: ...
    def writelines(self, list_of_data: list[bytes | memoryview]) -> None: ...
    def write_eof(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str) -> socket.socket | None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...


class Stream:
    """One event loop's connections and their mailbox."""

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: Engine, *, max_connections: int) -> None:
        """``max_connections`` counts all listeners of the loop together."""
        self.mailbox = Mailbox(engine)
        #: what sockets are read into, one after the other: each read is understood before the next
        self.read_buffer = self.mailbox.read_buffer()
        #: seconds since the start, counted by the sweep
        self.tick = 0
        #: True once the server stops: no connection takes a further request
        self.draining = False
        #: set when the stream drains and its last connection is gone
        self.empty = asyncio.Event()
        self._loop = loop
        self._max_connections = max_connections
        self._connections: dict[int, Connection] = {}
        self._last_id = 0
        self._flush_due = False
        self._doorbell = -1  # until the stream is started
        self._deadline: asyncio.TimerHandle | None = None
        self._deadline_at = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._calls = 0
        self._waiting_calls: deque[tuple[Callable[[], object], Callable[[], None]]] = deque()

    def start(self) -> None:
        self._loop.add_reader(self.mailbox.fileno(), self._flush)
        self._doorbell = self.mailbox.attend_doorbell()
        self._loop.add_reader(self._doorbell, self._flush, True)
        self._sweeper = self._loop.call_later(_TICK_SECONDS, self._sweep)

    def close(self) -> None:
        """Abort what is left and release the mailbox."""
        for connection in list(self._connections.values()):
            connection.abort()
        for timer in (self._sweeper, self._deadline):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self.mailbox.fileno())
        if self._doorbell >= 0:
            self._loop.remove_reader(self._doorbell)
        self.mailbox.close()
        self._waiting_calls.clear()
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def has_room(self) -> bool:
        return len(self._connections) < self._max_connections and not self.draining

    def new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def attach(self, connection: Connection) -> None:
        self._connections[connection.id] = connection

    def detach(self, connection: Connection) -> None:
        self._connections.pop(connection.id, None)
        if self.draining and not self._connections:
            self.empty.set()

    def touch(self) -> None:
        """Bytes were received or a place was filled: flush the mailbox in this iteration of the loop."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def after_flush(self, callback: Callable[[], None]) -> None:
        """Call back once what is answered by now has been written."""
        self.touch()
        self._loop.call_soon(callback)

    def offload(self, work: Callable[[], object]) -> None:
        """Run ``work``, which only computes, on another thread, then flush on the loop thread."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "frontend")
        self._pool.submit(self._run, work, None)

    def offload_call(self, work: Callable[[], object], done: Callable[[], None]) -> None:
        """Run ``work``, which may wait for long, on a thread of its own, then ``done`` and a flush on the loop thread.

        The thread is a daemon: a model that never finishes loading must not keep the process from ending.
        """
        if self._calls == _CALLS:
            self._waiting_calls.append((work, done))
            return
        self._calls += 1
        threading.Thread(
            target=self._run, args=(work, partial(self._call_done, done)), name="control", daemon=True
        ).start()

    def _call_done(self, done: Callable[[], None]) -> None:
        self._calls -= 1
        if self._waiting_calls:
            self.offload_call(*self._waiting_calls.popleft())
        done()

    def _run(self, work: Callable[[], object], done: Callable[[], None] | None) -> None:
        try:
            work()
        except Exception:
            _log.exception("work of a connection failed")
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._done, done)

    def _done(self, done: Callable[[], None] | None) -> None:
        if done is not None:
            done()
        self.touch()

    def drain(self) -> None:
        """Take no further request; every connection closes as soon as it is owed nothing."""
        self.draining = True
        for connection in list(self._connections.values()):
            connection.drain()
        if not self._connections:
            self.empty.set()
        self.touch()

    def _flush(self, rung: bool = False) -> None:
        self._flush_due = False
        connections = self._connections
        written, deadline = self.mailbox.flush(rung)
        for number, data, then in written:
            connection = connections.get(number)
            if connection is not None:
                connection.send(data, (then & _CLOSE) != 0)
                if then & _HAS_EVENTS:
                    connection.take_events()
        if deadline is not None:
            self._look_ahead(deadline)

    def _look_ahead(self, wait: float) -> None:
        """Have the mailbox flushed within ``wait`` seconds."""
        if wait <= 0.0:
            self.touch()  # there is more to write than one flush hands out
            return
        due = self._loop.time() + wait
        if self._deadline is not None:
            if self._deadline_at <= due:
                return
            self._deadline.cancel()
        self._deadline_at = due
        self._deadline = self._loop.call_at(due, self._on_deadline)

    def _on_deadline(self) -> None:
        self._deadline = None
        self._flush()

    def _sweep(self) -> None:
        self.tick += 1
        for connection in list(self._connections.values()):
            connection.sweep(self.tick)
        deadline = self.mailbox.next_deadline()
        if deadline is not None:
            self._look_ahead(deadline)
        self._sweeper = self._loop.call_later(_TICK_SECONDS, self._sweep)


class Connection(asyncio.BufferedProtocol):
    """One accepted socket: what both protocols do alike. The subclass makes :attr:`core`."""

    __slots__ = ("_stalled_bytes", "_stalled_since", "core", "id", "stream", "transport")

    core: HttpConnection | GrpcConnection
    transport: ByteTransport

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.id = stream.new_id()
        self._stalled_since = -1  # the tick of the last progress of a write that waits; -1: none waits
        self._stalled_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(ByteTransport, transport)
        if self.stream.has_room():
            self.stream.attach(self)
            self.accept()
        else:
            self.refuse_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stream.detach(self)
        self.core.close()
        self.stream.touch()  # what was cancelled is dispatched

    def accept(self) -> None:
        """The connection is one of ours now."""

    @abstractmethod
    def refuse_connection(self) -> None:
        """There are too many connections."""

    @abstractmethod
    def drain(self) -> None:
        """The server stops: close when nothing is owed any more."""

    def sweep(self, tick: int) -> None:
        """Once a second: enforce time limits."""
        if self._stalled_since < 0 and not self.transport.is_closing():
            return
        waiting = self.transport.get_write_buffer_size() + self._unread_by_peer()
        if waiting != self._stalled_bytes or self._stalled_since < 0:
            self._stalled_bytes, self._stalled_since = waiting, tick
        elif tick - self._stalled_since > STALL_TICKS:
            self.abort()

    def _unread_by_peer(self) -> int:
        """Bytes that the system still has to deliver: a peer that reads a little at a time moves nothing else."""
        sock = self.transport.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return 0
        count = bytearray(4)
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
        return int.from_bytes(count, sys.byteorder)

    def write(self, data: Payload) -> None:
        if data:
            if type(data) is bytes:
                self.transport.write(data)
            else:
                self.transport.writelines(cast("list[bytes | memoryview]", data))

    def send(self, data: Payload, close: bool) -> None:
        """Write what the mailbox handed out."""
        self.write(data)
        if close:
            self.transport.close()

    def take_events(self) -> None:
        """The core has news for us."""

    def abort(self) -> None:
        self.transport.abort()

    def pause_writing(self) -> None:
        self._stalled_since = self.stream.tick
        self._stalled_bytes = self.transport.get_write_buffer_size()
        self.core.pause()

    def resume_writing(self) -> None:
        self._stalled_since = -1
        self.core.resume()
        self.stream.touch()
