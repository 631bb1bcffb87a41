# SPDX-License-Identifier: Apache-2.0
"""What is sent (cases, in sections) and what comes back (answers): the vocabulary of the suite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NO_ANSWER", "Answer", "Call", "Case", "Http", "Section", "StreamCall", "error_text", "same"]

#: An answer, normalised. HTTP: ``status``, ``headers`` and ``error``, ``json``, ``binary`` or ``text``; gRPC:
#: ``status`` and ``error`` or ``message``; a stream: ``messages`` and the same. What is absent is not a key.
Answer = dict[str, Any]

#: what stands for the status where a server says nothing
NO_ANSWER = ("connection closed", "no answer in time", "UNAVAILABLE")


@dataclass(frozen=True)
class Http:
    """A request over HTTP. ``raw`` replaces everything else: the bytes as they go over the connection."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    raw: bytes = b""
    #: ``http`` or ``metrics``
    port: str = "http"


@dataclass(frozen=True)
class Call:
    """A unary call: the name of the RPC and its serialized request."""

    rpc: str
    request: bytes
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class StreamCall:
    """ModelStreamInfer with these serialized requests, then half-closed. ``interleaved``: only the order of the
    responses of each request is promised, so they are compared request by request."""

    requests: tuple[bytes, ...]
    metadata: tuple[tuple[str, str], ...] = ()
    interleaved: bool = False


@dataclass(frozen=True)
class Case:
    """One request with a name that is unique in its section."""

    name: str
    request: Http | Call | StreamCall
    #: asked again until it holds of the answer, for what a server counts after it has answered
    until: Callable[[Answer], bool] | None = None
    #: cases of one lane are sent one after another, lanes beside each other: for cases that wait most of their time
    lane: str = ""


@dataclass(frozen=True)
class Section:
    """Requests about one subject over one protocol, sent in order to both servers of a pair.

    A section leaves the servers as it found them, so that sections can run alone and in any order.
    """

    name: str
    cases: Callable[[], Iterable[Case]]
    #: which pair of servers: ``open``, ``control`` or ``guarded``
    pair: str = "open"
    #: applied to every answer: (case, answer) -> the answer without what must differ
    normalise: Sequence[Callable[[Case, Answer], Answer]] = field(default=())
    #: holds what the requests need, as long as they are sent
    within: Callable[[], AbstractContextManager[None]] = nullcontext


def error_text(answer: Answer) -> str:
    """The text of an error; empty for an answer that is none."""
    return str(answer.get("error", ""))


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type: 1, 1.0 and true are three things in JSON."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other or (one != one and other != other))  # NaN is not equal to itself
