# SPDX-License-Identifier: Apache-2.0
"""What a server and a worker process say to each other beside batches: JSON objects over a Unix socket.

Each object is a length (4 bytes, little-endian) and its text. Nothing that comes in is more than data: there is no
pickle and no evaluation. Only the standard library is needed, so that a worker can say why it has nothing else.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Channel", "close_all"]

_LENGTH = struct.Struct("<I")
#: beyond that an object is not read: configurations and texts of errors are far smaller
_MOST_BYTES = 64 << 20


class Channel:
    """One end. ``send`` from any thread; receiving from one."""

    def __init__(self, end: socket.socket, *, send_limit_s: int = 0) -> None:
        """``send_limit_s``: an end that does not read for so long is sent nothing more; 0: it is waited for."""
        if send_limit_s:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", send_limit_s, 0))
        self._socket = end
        self._lock = threading.Lock()
        self._broken = False

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        """Send ``message``, and ``fds`` with it. Blocks while the other end does not read.

        Raises OSError where it is gone, or has not read for too long.
        """
        text = json.dumps(message, separators=(",", ":")).encode()
        data = _LENGTH.pack(len(text)) + text
        with self._lock:
            if self._broken:
                raise BrokenPipeError("a message was sent in part")
            self._broken = True
            if fds:
                sent = socket.send_fds(self._socket, [data[:1]], fds)
                data = data[sent:]
            self._socket.sendall(data)
            self._broken = False

    def receive(self, most_fds: int = 1) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and the descriptors, ``most_fds`` at most, that came with it; None once there are no more.

        Blocks. Raises OSError, and ValueError for what is no message. The descriptors are the caller's to close.
        """
        first, fds, _, _ = socket.recv_fds(self._socket, 1, most_fds, socket.MSG_CMSG_CLOEXEC)
        try:
            return (self._rest(first) if first else None), fds
        except BaseException:
            close_all(fds)
            raise

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


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that came with a message."""
    for descriptor in fds:
        os.close(descriptor)
