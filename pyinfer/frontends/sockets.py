# SPDX-License-Identifier: Apache-2.0
"""Listening sockets: bound before anything slow happens, so that a taken port is known at once.

It does NOT accept anything; the event loop does.
"""

from __future__ import annotations

import errno
import socket

from pyinfer.errors import InvalidArgument, Unavailable

__all__ = ["BACKLOG", "bind"]

#: connections that wait to be accepted
BACKLOG = 4096


def bind(address: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A TCP socket bound to ``address`` and ``port`` (0: any free one). It does not listen yet: clients are refused.

    With ``reuse_port`` servers of the same user that all set it share the port; the system spreads connections.
    Raises Unavailable where another process has the port, InvalidArgument where the address is none of this machine.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InvalidArgument(f"can not listen on '{address}': {error.strerror}") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # accepted sockets inherit it
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(place)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise Unavailable(f"Socket '{address}:{port}' already in use") from None
        raise InvalidArgument(f"can not listen on '{address}:{port}': {error.strerror}") from None
    return listener
