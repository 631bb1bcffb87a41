# SPDX-License-Identifier: Apache-2.0
"""The chunked transfer coding of HTTP/1.1 (RFC 9112, 7.1), decoded strictly.

It knows where a body ends, which a callback parser does not tell. It does NOT interpret trailers: they are checked and
dropped. Every line ends with CR LF; a bare LF, white space around a size (but before an extension) or a size of more
than 16 digits is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable

__all__ = ["ChunkError", "ChunkedBody"]

_MAX_CHUNKS = 65536
_MAX_LINE = 4096
_MAX_TRAILERS = 100
_MAX_TRAILER_BYTES = 16384

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"'
#: white space may surround what parts an extension (RFC 9112, 7.1.1)
_SIZE_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t ]*%b(?:[\t ]*=[\t ]*(?:%b|%b))?)*" % (_TOKEN, _TOKEN, _QUOTED)
)
_TRAILER = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")


class ChunkError(Exception):
    """The body is malformed or beyond a limit; the text is for the client."""


class ChunkedBody:
    """Decodes one chunked body, handing its bytes to ``append`` (False from it: the body is too large)."""

    __slots__ = ("_append", "_chunks", "_data_left", "_in_trailer", "_line", "_trailer_bytes", "_trailers", "done")

    def __init__(self, append: Callable[[bytes], bool]) -> None:
        self._append = append
        self._chunks = 0
        self._data_left = 0  # of the current chunk, its closing CR LF included
        self._in_trailer = False
        self._line = b""  # the part of a line that has come so far
        self._trailers = 0
        self._trailer_bytes = 0
        self.done = False

    def feed(self, data: bytes, pos: int) -> int:
        """Decode ``data`` from ``pos``; return where decoding stopped: the end of ``data``, or of the body."""
        parts: list[bytes] = []
        end = len(data)
        while pos < end and not self.done:
            if self._data_left:
                pos = self._take_data(data, pos, end, parts)
                continue
            stop = data.find(b"\n", pos)
            if stop < 0:
                self._line += data[pos:]
                if len(self._line) > _MAX_LINE:
                    raise ChunkError("a line of the chunked body is too long")
                pos = end
            else:
                line = self._line + data[pos:stop]
                self._line = b""
                pos = stop + 1
                self._end_line(line)
        if parts and not self._append(b"".join(parts)):
            raise ChunkError("the request body is too large")
        return pos

    def _take_data(self, data: bytes, pos: int, end: int, parts: list[bytes]) -> int:
        take = min(self._data_left - 2, end - pos)
        if take > 0:
            parts.append(data[pos : pos + take])
            self._data_left -= take
            pos += take
        while 0 < self._data_left <= 2 and pos < end:
            if data[pos] != (13 if self._data_left == 2 else 10):
                raise ChunkError("chunk data does not end with CR LF")
            self._data_left -= 1
            pos += 1
        return pos

    def _end_line(self, line: bytes) -> None:
        if len(line) > _MAX_LINE:
            raise ChunkError("a line of the chunked body is too long")
        if line[-1:] != b"\r":
            raise ChunkError("a line of the chunked body does not end with CR LF")
        line = line[:-1]
        if self._in_trailer:
            self._end_trailer(line)
            return
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise ChunkError("invalid chunk size")
        size = int(match[1], 16)
        if size == 0:
            self._in_trailer = True
            return
        if size >= 1 << 62:
            raise ChunkError("invalid chunk size")
        self._chunks += 1
        if self._chunks > _MAX_CHUNKS:
            raise ChunkError(f"the request body has more than {_MAX_CHUNKS} chunks")
        self._data_left = size + 2

    def _end_trailer(self, line: bytes) -> None:
        if not line:
            self.done = True
            return
        self._trailers += 1
        self._trailer_bytes += len(line)
        if self._trailers > _MAX_TRAILERS or self._trailer_bytes > _MAX_TRAILER_BYTES:
            raise ChunkError("too many trailers")
        if _TRAILER.fullmatch(line) is None:
            raise ChunkError("invalid trailer")
