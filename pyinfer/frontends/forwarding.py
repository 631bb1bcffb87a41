# SPDX-License-Identifier: Apache-2.0
"""Headers of clients that become parameters of their requests, as the operator's pattern says."""

from __future__ import annotations

from collections.abc import Iterable

from pyinfer._core import HeaderForwarding
from pyinfer.errors import InvalidArgument

__all__ = ["HttpForwarding", "make_forwarding"]

#: the headers by which a request says that it belongs to a trace: most requests of a traced client have new ones
_TRACE = (b"traceparent", b"tracestate")


def make_forwarding(flag: str, pattern: str) -> HeaderForwarding | None:
    """None for an empty pattern. Raises InvalidArgument, which names the flag, where it is no regular expression."""
    if not pattern:
        return None
    try:
        return HeaderForwarding(pattern)
    except ValueError as error:
        raise InvalidArgument(f"--{flag}: {error}") from None


class HttpForwarding:
    """The headers that one HTTP port forwards. Loop thread only."""

    __slots__ = ("_forwarding", "_withheld", "of_traces")

    def __init__(self, pattern: str, withheld: Iterable[str] = ()) -> None:
        """``withheld`` are names that are for the server alone. Raises InvalidArgument for what is no pattern."""
        self._forwarding = make_forwarding("http-header-forward-pattern", pattern)
        self._withheld = frozenset(name.lower().encode() for name in withheld)
        #: whether a header of W3C Trace Context is among them
        self.of_traces = bool(self.forwarded([(name, b"") for name in _TRACE])[0])

    def forwarded(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[list[tuple[str, str]], str]:
        """(name, value) of those that become parameters, or why a request that has them is refused."""
        if self._forwarding is None:
            return [], ""
        try:
            return self._forwarding.forwarded([pair for pair in headers if pair[0].lower() not in self._withheld]), ""
        except ValueError as error:
            return [], str(error)
