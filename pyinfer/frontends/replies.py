# SPDX-License-Identifier: Apache-2.0
"""What an RPC that streams and the connection that carries it see of each other. Loop thread."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Conversation", "Reply"]


class Reply(Protocol):
    """The answering side of one call; without effect once the call is over."""

    def send(self, message: bytes) -> None:
        """One message. The client's next one is read after it."""

    def finish(self) -> None:
        """The end, with status OK."""

    def fail(self, code: str, text: str) -> None:
        """The end, with an error."""


class Conversation(Protocol):
    """The serving side of one call."""

    def on_message(self, request: bytes) -> None: ...

    def on_end(self) -> None:
        """The client has sent everything."""

    def on_gone(self) -> None:
        """The call is over, and it was not ended by us. Nothing follows."""
