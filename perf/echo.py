# SPDX-License-Identifier: Apache-2.0
"""A plain HTTP echo under uvloop: the floor for large tensors. Run as ``python -m perf.echo PORT``.

A body is answered with its own bytes once it is complete, as a model server must. The kernel writes into one buffer for
each connection and sends from it: there is no copy and no parser beyond finding ``Content-Length``. One request at a
time (no pipelining), which is also why the buffer can be used again: who asks anew has read the last answer.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

__all__ = ["Echo"]

_HEAD_SIZE = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Echo(asyncio.BufferedProtocol):
    """One connection."""

    def __init__(self) -> None:
        self._buffer = bytearray(_HEAD_SIZE)
        self._filled = 0
        #: where the body starts and ends in the buffer, once the head is complete
        self._body: tuple[int, int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._buffer)[self._filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self._filled += nbytes
        if self._body is None:
            start = self._buffer.find(b"\r\n\r\n", 0, min(self._filled, _HEAD_SIZE)) + 4
            if start < 4:
                return
            length = _LENGTH.search(self._buffer, 0, start)
            self._body = start, start + (int(length[1]) if length else 0)
            if self._body[1] > len(self._buffer):
                self._buffer = self._buffer[: self._filled] + bytearray(self._body[1] - self._filled)
        start, end = self._body
        if self._filled >= end:
            self._filled, self._body = 0, None
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (end - start)
            self._transport.writelines([head, memoryview(self._buffer)[start:end]])


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
