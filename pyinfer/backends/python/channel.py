# SPDX-License-Identifier: Apache-2.0
"""What a server and a worker process say to each other beside batches: JSON objects over a Unix socket.

Each object is a length (4 bytes, little-endian) and its text. Nothing that comes in is more than data: there is no
pickle and no evaluation. Only the standard library is needed, so that a worker can say why it has nothing else.
"""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Channel"]

_LENGTH = struct.Struct("<I")
#: beyond that an object is not read: configurations and texts of errors are far smaller
_MOST_BYTES = 64 << 20


class Channel:
    """One end. ``send`` from any thread; ``receive`` from one."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send ``message``, and ``fds`` with it. Blocks while the other end does not read.

        Raises OSError where it is gone.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        data = _LENGTH.pack(len(text)) + text
        with self._lock:
            if fds:
                sent = socket.send_fds(self._socket, [data[:1]], fds)
                data = data[sent:]
            self._socket.sendall(data)

    def receive(self) -> dict[str, Any] | None:
        """The next message; None once there are no more. Blocks.

        Raises OSError, and ValueError for what is no message.
        """
        return self._rest(b"")

    def receive_with_fds(self, count: int) -> tuple[dict[str, Any] | None, list[int]]:
        """As ``receive``, of a message that up to ``count`` descriptors come with."""
        first, fds, _, _ = socket.recv_fds(self._socket, 1, count)
        return (self._rest(first) if first else None), fds

    def close(self) -> None:
        self._socket.close()

    def _rest(self, begun: bytes) -> dict[str, Any] | None:
        head = self._exactly(_LENGTH.size - len(begun))
        if head is None:
            return None
        (size,) = _LENGTH.unpack(begun + head)
        if size > _MOST_BYTES:
            raise ValueError(f"a message of {size} bytes")
        text = self._exactly(size)
        if text is None:
            return None
        message = json.loads(text)
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message

    def _exactly(self, size: int) -> bytes | None:
        parts = bytearray()
        while len(parts) < size:
            part = self._socket.recv(min(size - len(parts), 1 << 20))
            if not part:
                return None
            parts += part
        return bytes(parts)
