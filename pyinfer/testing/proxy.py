# SPDX-License-Identifier: Apache-2.0
"""A TCP proxy on loopback that loses the network on demand. It does NOT look into what it carries."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from dataclasses import dataclass

__all__ = ["FaultProxy"]

_CHUNK = 65536


@dataclass
class _Faults:
    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    cut_after: int = -1


class FaultProxy:
    """Carries connections to ``port`` of loopback; use as a context manager. Its thread and loop are its own.

    The faults may be changed while it runs, from any thread; they hold for each direction of each connection:

    * ``delay_s``: seconds that each piece waits before it is passed on
    * ``bytes_per_s``: most bytes passed on in a second; 0 is no limit
    * ``cut_after``: bytes after which the connection is reset (RST to both sides); -1 is never
    """

    def __init__(self, port: int, *, delay_s: float = 0.0, bytes_per_s: float = 0.0, cut_after: int = -1) -> None:
        self._target = port
        self._faults = _Faults(delay_s, bytes_per_s, cut_after)
        self._loop = asyncio.new_event_loop()
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: where clients connect to
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="fault-proxy", daemon=True)
        self._stop = asyncio.Event()

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def set(
        self, *, delay_s: float | None = None, bytes_per_s: float | None = None, cut_after: int | None = None
    ) -> None:
        """Change faults; those not named stay."""
        if delay_s is not None:
            self._faults.delay_s = delay_s
        if bytes_per_s is not None:
            self._faults.bytes_per_s = bytes_per_s
        if cut_after is not None:
            self._faults.cut_after = cut_after

    def reset_all(self) -> None:
        """Reset (RST) every connection that is open now. Returns when it is done."""
        done = threading.Event()

        def reset() -> None:
            for pair in list(self._pairs):
                self._reset(pair)
            done.set()

        self._loop.call_soon_threadsafe(reset)
        done.wait()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._carry, sock=self._listener)
        await self._stop.wait()
        server.close()
        for pair in list(self._pairs):
            self._reset(pair)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*rest, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pump(reader, far_writer, pair), self._pump(far_reader, writer, pair))
        except OSError:
            self._reset(pair)
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        passed = 0
        faults = self._faults
        while data := await reader.read(
            max(1, min(_CHUNK, int(faults.bytes_per_s / 10))) if faults.bytes_per_s else _CHUNK
        ):
            if faults.delay_s:
                await asyncio.sleep(faults.delay_s)
            if 0 <= faults.cut_after < passed + len(data):
                writer.write(data[: faults.cut_after - passed])
                await writer.drain()
                self._reset(pair)
                return
            writer.write(data)
            await writer.drain()
            passed += len(data)
            if faults.bytes_per_s:
                await asyncio.sleep(len(data) / faults.bytes_per_s)
        if writer.can_write_eof():
            writer.write_eof()

    def _reset(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._pairs.discard(pair)
        for writer in pair:
            plain = writer.get_extra_info("socket")
            if plain is not None and plain.fileno() >= 0:
                plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
