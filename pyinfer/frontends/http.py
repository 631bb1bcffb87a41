# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 connections: framing of requests, limits and time-outs; every listener that speaks HTTP uses this class.

The place of each answer, and everything about inference, is the core's (``HttpConnection``). What a request means is
its listener's :class:`~pyinfer.frontends.head.Site`.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyinfer._core import HttpConnection
from pyinfer.frontends.chunked import ChunkedBody, ChunkError
from pyinfer.frontends.control import FixedAction, error_result
from pyinfer.frontends.forwarding import HttpForwarding
from pyinfer.frontends.head import CHUNKED, Action, Head, HeadError, Heads, Result, Site, check_partial
from pyinfer.frontends.stream import Connection, Payload, Stream

__all__ = ["HttpLimits", "HttpListener", "HttpProtocol"]

#: a body must bring this much in each ``body_seconds``, or end
_BODY_PROGRESS = 4096
#: seconds to read what the peer still sends after it was refused, so that it can read our answer
_LINGER_TICKS = 2
#: unanswered requests of a connection at which we stop reading from it
_MAX_IN_FLIGHT = 1024
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_HEAD_BUFFER_BYTES = 65536


@dataclass(frozen=True)
class HttpLimits:
    """What a client may cost. Sizes in bytes, times in seconds."""

    #: Triton's ``--http-max-input-size``
    max_input_size: int = 67108864
    #: of every body, inference or not
    max_body_size: int = 2147483647
    #: for a whole request head, from its first byte
    header_seconds: int = 10
    #: in which a body must make progress
    body_seconds: int = 30
    #: between requests
    idle_seconds: int = 120


class HttpListener:
    """What the connections of one HTTP port share. Calling it makes the protocol of a new connection."""

    def __init__(
        self, stream: Stream, site: Site, limits: HttpLimits | None = None, forwarding: HttpForwarding | None = None
    ) -> None:
        self.stream = stream
        #: a burst of small requests fits; what follows of a larger body is read into memory of the core
        self.head_buffer = stream.read_buffer[:_HEAD_BUFFER_BYTES]
        self.heads = Heads(site, forwarding)
        self.limits = limits or HttpLimits()

    def __call__(self) -> HttpProtocol:
        return HttpProtocol(self)


class HttpProtocol(Connection):
    """One HTTP/1.1 connection."""

    __slots__ = (
        "_chunked",
        "_closing",
        "_direct",
        "_eof",
        "_head",
        "_held",
        "_known",
        "_lingering",
        "_listener",
        "_partial",
        "_progress",
        "_refused",
        "_remaining",
        "_since",
    )

    core: HttpConnection

    def __init__(self, listener: HttpListener) -> None:
        super().__init__(listener.stream)
        self._listener = listener
        self._known = listener.heads.known
        self.core = HttpConnection(
            listener.stream.mailbox,
            self.id,
            max_input_size=listener.limits.max_input_size,
            max_body_size=listener.limits.max_body_size,
        )
        self._partial: bytearray | None = None  # the part of a head that has come
        self._head: Head | None = None  # the request whose body is being received
        self._remaining = 0  # bytes of that body still to come
        self._chunked: ChunkedBody | None = None
        self._direct = False  # the transport is reading into memory of the core
        self._closing = False  # what still comes is not looked at
        self._refused = False  # the last answer is to a request that was not read to its end
        self._lingering = False  # that answer is written
        self._eof = False  # the peer sends no more
        self._held = False  # reading is paused: too much is unanswered
        self._since = listener.stream.tick  # when the present wait began
        self._progress = 0  # size of the body at that time

    # What the transport calls

    def refuse_connection(self) -> None:
        self.stream.attach(self)  # until the answer is written
        self._refuse(HeadError(503, "the server has too many connections"))
        self.stream.touch()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._remaining:
            self._direct = True
            return self.core.body_buffer(self._remaining)
        return self._listener.head_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._direct:
            self._direct = False
            self.core.body_filled(nbytes)
            self._remaining -= nbytes
            if self._remaining:
                return
            self._dispatch()
        elif not self._closing:
            taken = 0
            if self._partial is None and self._head is None and not self.stream.draining:
                taken = self.core.take(self._known, nbytes)
            if taken:
                self._since = self.stream.tick
            if taken < nbytes:
                self._parse(taken, nbytes)
        self.stream.touch()
        if not self._held and self.core.in_flight() > _MAX_IN_FLIGHT:
            self._hold()

    def eof_received(self) -> bool:
        self._eof = True
        if not self._closing and (self._partial is not None or self._head is not None):
            self._refuse(HeadError(400, "the connection ended within a request"))
        self.stream.after_flush(self._hang_up)
        return True  # half-closed: the answers still go out

    def pause_writing(self) -> None:
        super().pause_writing()
        self._hold()

    def send(self, data: Payload, close: bool) -> None:
        self._since = self.stream.tick
        if not close:
            self.write(data)
            if self._held and self._stalled_since < 0 and self.core.in_flight() < _MAX_IN_FLIGHT // 2:
                self._release()
            if self._eof or self.stream.draining:
                self._close_if_idle()
        elif self._refused and not self._eof and not self.transport.is_closing():
            self.write(data)
            self._linger()
        else:
            super().send(data, True)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._held and self.core.in_flight() < _MAX_IN_FLIGHT:
            self._release()

    def drain(self) -> None:
        self.stream.after_flush(self._close_if_idle)

    def sweep(self, tick: int) -> None:
        super().sweep(tick)
        limits = self._listener.limits
        waited = tick - self._since
        if self._closing:
            if self._lingering and waited > _LINGER_TICKS:
                self.abort()
        elif self._partial is not None:
            if waited > limits.header_seconds:
                self._refuse_late(HeadError(408, "the request head took too long"))
        elif self._head is not None:
            if waited > limits.body_seconds and not self._held:
                size = self.core.body_size()
                if size - self._progress < _BODY_PROGRESS:
                    self._refuse_late(HeadError(408, "the request body took too long"))
                self._progress, self._since = size, tick
        elif waited > limits.idle_seconds and not self.core.in_flight():
            self.transport.close()

    # Framing

    def _parse(self, start: int, stop: int) -> None:
        try:
            self._receive(start, stop)
        except HeadError as error:
            self._refuse(error)
        except ChunkError as error:
            self._refuse(HeadError(400, str(error)))

    def _receive(self, start: int, stop: int) -> None:
        """Take apart what was read to ``start:stop`` of the stream's buffer."""
        data: bytes
        if self._partial is None:
            data = self._listener.head_buffer[start:stop].tobytes()
            scan = 0
        else:
            # Only the new bytes, and the three before them, can complete the end of the head.
            scan = max(0, len(self._partial) - 3)
            self._partial += self._listener.head_buffer[start:stop]
            if self._partial.find(b"\r\n\r\n", scan) < 0:
                check_partial(self._partial)
                return
            data = bytes(self._partial)
            self._partial = None
        pos, end = 0, len(data)
        while pos < end and not self._closing:
            if self._chunked is not None:
                pos = self._chunked.feed(data, pos)
                if self._chunked.done:
                    self._chunked = None
                    self._dispatch()
                continue
            head_end = data.find(b"\r\n\r\n", max(pos, scan))
            if head_end < 0:
                self._keep_partial(data[pos:])
                return
            pos = self._begin(data, pos, head_end + 4)

    def _keep_partial(self, rest: bytes) -> None:
        while rest.startswith(b"\r\n"):  # empty lines before a request line are to be ignored
            rest = rest[2:]
        if not rest or rest == b"\r":
            return
        check_partial(rest)
        self._partial = bytearray(rest)
        self._since = self.stream.tick

    def _begin(self, data: bytes, pos: int, stop: int) -> int:
        """The head ``data[pos:stop]`` is complete; returns where what follows the request begins."""
        if data[pos] == 13:
            while data.startswith(b"\r\n", pos) and pos < stop:
                pos += 2
            if pos >= stop:
                return stop
        head = self._listener.heads.find(data[pos:stop])
        self._head = head
        length = head.length
        if not length:
            self._dispatch()
            return stop
        if length > self._listener.limits.max_body_size:
            raise HeadError(400, f"the request body of {length} bytes is larger than the server can take")
        if head.action.model is None and length > self._listener.limits.max_input_size:
            raise HeadError(400, _TOO_LARGE_TEXT)
        self._since, self._progress = self.stream.tick, 0
        if length == CHUNKED:
            self._chunked = ChunkedBody(self.core.append)
            if head.expects_continue and stop == len(data):
                self.stream.after_flush(self._send_continue)
            return stop
        end = stop + length
        if end <= len(data):
            self._dispatch(data, stop, end)
            return end
        if stop < len(data):
            self.core.append(data[stop:])
        elif head.expects_continue:
            self.stream.after_flush(self._send_continue)
        self._remaining = end - len(data)
        return len(data)

    def _send_continue(self) -> None:
        """Tell a waiting client to send its body, unless earlier answers are still to go out before."""
        if self._head is not None and not self.core.body_size() and not self.core.in_flight():
            self.transport.write(_CONTINUE)

    # Requests

    def _dispatch(self, data: bytes = b"", start: int = 0, stop: int = 0) -> None:
        """The request is complete; ``data[start:stop]`` is the end of its body."""
        head = self._head
        assert head is not None
        self._head = None
        self._since = self.stream.tick
        last = not head.keep_alive or self.stream.draining
        self._closing = last
        if head.infer is not None:
            job = self.core.infer(head.infer, data, start, stop, last, head.traceparent, head.tracestate)
            if job is not None:
                self.stream.offload(job)
        else:
            self.core.append(data[start:stop])
            self._control(head, head.action, not last)

    def _control(self, head: Head, action: Action, keep_alive: bool) -> None:
        body = self.core.take_body()
        place = self.core.open()
        if body and head.encoding not in ("", "identity"):
            action = _NO_COMPRESSION
        elif len(body) > self._listener.limits.max_input_size:
            action = _TOO_LARGE
        if not action.blocks():
            self._answer(place, action.run(body), keep_alive)
            return
        results: list[Result] = []

        def work() -> None:
            results.append(action.run(body))

        def done() -> None:
            self._answer(place, results[0] if results else _FAILED, keep_alive)

        self.stream.offload_call(work, done)

    def _answer(self, place: int, result: Result, keep_alive: bool) -> None:
        self.core.respond(place, result.status, result.body, headers=result.headers, keep_alive=keep_alive)

    # Endings

    def _hang_up(self) -> None:
        self.core.hang_up()
        self.stream.after_flush(self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self._head is None and self._partial is None and not self.core.in_flight():
            self.transport.close()

    def _refuse(self, error: HeadError) -> None:
        """Answer what can not be served, after what came before it, and close."""
        self._closing = self._refused = True
        self._head = self._partial = self._chunked = None
        self._remaining = 0
        self.core.take_body()
        self._answer(self.core.open(), error_result(error.status, str(error)), False)

    def _refuse_late(self, error: HeadError) -> None:
        self._since = self.stream.tick
        self._refuse(error)
        self.stream.touch()

    def _linger(self) -> None:
        """The answer is written; read on for a while, because closing at once could destroy it on its way."""
        self._lingering = True
        self._since = self.stream.tick
        self.transport.write_eof()

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self.transport.pause_reading()

    def _release(self) -> None:
        self._held = False
        self._since = self.stream.tick
        if not self._eof and not self.transport.is_closing():
            self.transport.resume_reading()


def _fixed(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> FixedAction:
    return FixedAction(error_result(status, text, headers))


_NO_COMPRESSION = _fixed(415, "a control request can not be compressed", (("Accept-Encoding", "identity"),))
_TOO_LARGE_TEXT = "the request body is too large. Use --http-max-input-size to increase the limit."
_TOO_LARGE = _fixed(400, _TOO_LARGE_TEXT)
_FAILED = error_result(500, "internal error")
