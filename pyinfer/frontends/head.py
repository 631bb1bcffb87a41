# SPDX-License-Identifier: Apache-2.0
"""The head of an HTTP/1.1 request: request line and headers, checked strictly and cached whole.

Clients repeat their heads byte for byte, so a head that was seen before costs one dictionary lookup; others go through
llhttp (httptools). It does NOT see bodies. What llhttp lets pass and RFC 9112 does not is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import httptools

from pyinfer._core import InferHead, KnownHeads
from pyinfer.frontends.bounded import BoundedCache
from pyinfer.frontends.forwarding import HttpForwarding

__all__ = ["CHUNKED", "Action", "Head", "HeadError", "Heads", "Result", "Site", "check_partial"]

CHUNKED = -1

_MAX_REQUEST_LINE = 65536
_MAX_HEADER_BYTES = 65536
_MAX_HEADERS = 100
_CACHED_HEAD_BYTES = 2048
#: the largest body that the core may find whole behind its head
_TAKEN_BODY_BYTES = 65536
_SINGLE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"content-encoding", b"inference-header-content-length")
)

#: uri-host and port of RFC 3986; that of an address in brackets is not looked at closely
_HOST = re.compile(rb"(?:\[[0-9A-Za-z:.%~_-]+\]|(?:[0-9A-Za-z._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)(?::[0-9]*)?")
#: a header of W3C Trace Context; repeated ones are joined. One class of characters: it scans in linear time
_TRACE_LINE = re.compile(rb"\r\n(traceparent|tracestate):([\t\x20-\x7e]*)(?=\r\n)", re.IGNORECASE)


class Result:
    """The answer to a control request. Immutable by convention. ``body`` is None where the request was HEAD."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: bytes | None = b"", headers: tuple[tuple[str, str], ...] = ()) -> None:
        self.status, self.body, self.headers = status, body, headers


class Action:
    """What a request target and verb mean: an inference of a model, or a call that answers with a :class:`Result`."""

    __slots__ = ("kind", "model", "version")

    def __init__(self, *, model: str | None = None, version: str = "", kind: str = "infer") -> None:
        #: the model to infer with; None for a control request
        self.model, self.version = model, version
        #: of the inference, as :class:`InferHead` has it
        self.kind = kind

    def blocks(self) -> bool:
        """Whether :meth:`run` must stay off the loop thread now. Actions outlive requests: it is asked each time."""
        return False

    def run(self, body: bytes) -> Result:
        """Answer the control request with this body. Never raises for the client's faults."""
        raise AssertionError("an inference has no control call")


class Site(Protocol):
    """What a listener offers."""

    def resolve(self, verb: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> Action:
        """What a request means; ``fields`` are its headers by lower-case name."""


class HeadError(Exception):
    """A head that can not be served: the connection is answered with ``status`` and closed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Head:
    """A valid head. Shared by all requests with the same bytes, so nothing changes it."""

    __slots__ = (
        "action",
        "encoding",
        "expects_continue",
        "infer",
        "keep_alive",
        "length",
        "traceparent",
        "tracestate",
    )

    def __init__(self, action: Action, length: int, keep_alive: bool, expects_continue: bool, encoding: str) -> None:
        self.action = action
        #: bytes of the body, or CHUNKED
        self.length = length
        self.keep_alive = keep_alive
        self.expects_continue = expects_continue
        self.encoding = encoding
        #: the head as the core understands it; None for a control request
        self.infer: InferHead | None = None
        #: the client's trace; empty where it has none
        self.traceparent = self.tracestate = b""

    def in_trace(self, traceparent: bytes, tracestate: bytes) -> Head:
        """The same head of a request that belongs to a trace."""
        head = Head(self.action, self.length, self.keep_alive, self.expects_continue, self.encoding)
        head.infer = self.infer
        head.traceparent, head.tracestate = traceparent, tracestate
        return head


class _Collector:
    """Receives what llhttp finds in one head."""

    __slots__ = ("complete", "headers", "target")

    def __init__(self) -> None:
        self.target = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes | None) -> None:
        self.headers.append((name, (value or b"").strip(b" \t")))

    def on_headers_complete(self) -> None:
        self.complete = True


class Heads:
    """Parses the heads of one listener. Loop thread only."""

    __slots__ = ("_cache", "_forwarding", "_site", "known")

    def __init__(self, site: Site, forwarding: HttpForwarding | None = None, *, cache_size: int = 512) -> None:
        """``forwarding``: which headers become parameters; none without it."""
        self._site = site
        self._forwarding = forwarding or HttpForwarding("")
        self._cache: BoundedCache[bytes, Head] = BoundedCache(cache_size)
        #: with which the core takes small requests by itself
        self.known = KnownHeads(cache_size)

    def find(self, data: bytes) -> Head:
        """The head whose bytes, up to and with the empty line, are ``data``. Raises HeadError."""
        head = self._cache.get(data)
        if head is not None:
            self._tell(data, head)
            return head
        # Each request of a traced client has a head of its own, but for these lines the same.
        lines: dict[bytes, bytes] = {}
        for name, value in _TRACE_LINE.findall(data):
            known = lines.get(name.lower())
            lines[name.lower()] = value.strip(b" \t") if known is None else known + b"," + value.strip(b" \t")
        if b"traceparent" not in lines:
            return self._remember(data)
        if self._forwarding.of_traces:
            head = self._parse(data)  # seldom seen again: what the cache has is worth more
        else:
            _check_sizes(data.index(b"\r\n"), len(data))
            plain = _TRACE_LINE.sub(b"", data)
            head = self._cache.get(plain) or self._remember(plain)
        return head.in_trace(lines[b"traceparent"], lines.get(b"tracestate", b""))

    def _remember(self, data: bytes) -> Head:
        head = self._parse(data)
        if len(data) <= _CACHED_HEAD_BYTES:
            self._cache.put(data, head)
            self._tell(data, head)
        return head

    def _tell(self, data: bytes, head: Head) -> None:
        # The core forgets at times of its own what it is told.
        if head.infer is not None and 0 < head.length <= _TAKEN_BODY_BYTES:
            self.known.add(data, head.infer, head.length)

    def _parse(self, data: bytes) -> Head:
        line_end = data.index(b"\r\n")
        _check_sizes(line_end, len(data) - line_end)
        line = data[:line_end]
        _check_request_line(line)
        collector = _Collector()
        parser = httptools.HttpRequestParser(collector)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # CONNECT, or an offer to change protocol: served, or refused, as the request that it is
        except httptools.HttpParserError as error:
            raise HeadError(400, f"malformed request: {error}") from None
        if not collector.complete:
            raise HeadError(400, "malformed request")
        verb = parser.get_method()
        fields = _single_fields(collector.headers)
        http_1_1 = line.endswith(b"1.1")
        _check_host(fields.get(b"host"), http_1_1)
        head = Head(
            self._site.resolve(verb, collector.target, fields),
            _body_length(fields, http_1_1),
            verb != b"CONNECT" and _keep_alive(fields, http_1_1),
            http_1_1 and fields.get(b"expect", b"").lower() == b"100-continue",
            fields.get(b"content-encoding", b"").decode("latin-1"),
        )
        if head.action.model is not None:
            header_length = fields.get(b"inference-header-content-length")
            forwarded, refusal = self._forwarding.forwarded(collector.headers)
            head.infer = InferHead(
                head.action.model,
                head.action.version,
                kind=head.action.kind,
                header_length=None if header_length is None else header_length.decode("latin-1"),
                content_encoding=head.encoding,
                accept_encoding=fields.get(b"accept-encoding", b"").decode("latin-1"),
                keep_alive=head.keep_alive,
                chunked=http_1_1,
                forwarded=forwarded,
                refusal=refusal,
            )
        return head


def _check_sizes(line: int, headers: int) -> None:
    if line > _MAX_REQUEST_LINE:
        raise HeadError(414, f"the request line is longer than {_MAX_REQUEST_LINE} bytes")
    if headers > _MAX_HEADER_BYTES:
        raise HeadError(431, f"the request headers are larger than {_MAX_HEADER_BYTES} bytes")


def _check_request_line(line: bytes) -> None:
    parts = line.split(b" ")
    # llhttp would skip line ends before the method, one by one
    if len(parts) != 3 or not parts[1] or not parts[0][:1].isupper():
        raise HeadError(400, "malformed request line")
    if parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
        if parts[2].startswith(b"HTTP/"):
            raise HeadError(505, "the server speaks HTTP/1.1 and HTTP/1.0")
        raise HeadError(400, "malformed request line")


def _single_fields(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by lower-case name; repeated ones are joined, except where repeating is an error."""
    if len(headers) > _MAX_HEADERS:
        raise HeadError(431, f"the request has more than {_MAX_HEADERS} headers")
    fields: dict[bytes, bytes] = {}
    for given, value in headers:
        name = given.lower()
        known = fields.get(name)
        if known is None:
            fields[name] = value
        elif name in _SINGLE:
            raise HeadError(400, f"the header '{name.decode('latin-1')}' is given more than once")
        else:
            fields[name] = known + b", " + value
    return fields


def _check_host(host: bytes | None, http_1_1: bool) -> None:
    if host is None:
        if http_1_1:
            raise HeadError(400, "the Host header is missing")
    elif _HOST.fullmatch(host) is None:
        raise HeadError(400, "the Host header is malformed")


def _body_length(fields: dict[bytes, bytes], http_1_1: bool) -> int:
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        return int(fields.get(b"content-length", b"0"))  # llhttp has checked that it is digits and fits 64 bits
    if not http_1_1:
        raise HeadError(400, "HTTP/1.0 has no Transfer-Encoding")
    if coding.lower() != b"chunked":
        raise HeadError(501, "the only Transfer-Encoding supported is 'chunked'")
    return CHUNKED


def _keep_alive(fields: dict[bytes, bytes], http_1_1: bool) -> bool:
    """Whether the connection lives on. HTTP/1.0 may always be closed, and then needs no header of ours to live."""
    if not http_1_1:
        return False
    options = fields.get(b"connection")
    return options is None or b"close" not in {option.strip() for option in options.lower().split(b",")}


def check_partial(data: bytes | bytearray) -> None:
    """Refuse (HeadError) a head that is not complete yet, but can not become valid any more."""
    line_end = data.find(b"\r\n")
    _check_sizes(len(data) if line_end < 0 else line_end, 0 if line_end < 0 else len(data) - line_end)
    if not 65 <= data[0] <= 90:
        raise HeadError(400, "malformed request line")
    pairs = data.count(b"\r\n")
    if data.count(b"\n") != pairs or data.count(b"\r") - data.endswith(b"\r") != pairs:
        raise HeadError(400, "a line of the request head does not end with CR LF")
    if line_end >= 0:
        _check_request_line(bytes(data[:line_end]))
