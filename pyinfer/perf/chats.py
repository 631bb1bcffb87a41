# SPDX-License-Identifier: Apache-2.0
"""Sessions of several turns (``--session-concurrency``), out of payloads in perf_analyzer's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyinfer.errors import InvalidArgument
from pyinfer.perf.openai import payload_request, read_payloads
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import HttpTarget

__all__ = ["Chats", "chat_data"]


@dataclass(frozen=True)
class Chats:
    """``bodies``: a request for each entry of the files, as if it were the first of its session.

    ``turns``: of each session, in the order in which they come: (number of the body, offset and size of its messages,
    nanoseconds from the answer to the next turn).
    """

    bodies: list[bytes]
    turns: list[list[tuple[int, int, int, int]]]

    @property
    def longest_delay_s(self) -> float:
        """Between two turns of a session."""
        return max(delay for session in self.turns for _, _, _, delay in session) / 1e9


def chat_data(target: HttpTarget, options: PerfOptions) -> Chats:
    """The sessions of the files. Raises InvalidArgument for what is none, and where there are too few."""
    bodies: list[bytes] = []
    sessions: dict[str, list[tuple[int, int, int, int]]] = {}
    undelayed: dict[str, str] = {}
    for payload, entry, where in read_payloads(options):
        name = _session(payload, entry, where)
        if name in undelayed:
            raise InvalidArgument(
                f"{undelayed[name]} has no 'delay', the milliseconds from its answer to the next turn of its session"
            )
        messages = payload.pop("messages", None)
        if not isinstance(messages, list) or not messages:
            raise InvalidArgument(f"{where}: the payload has no list 'messages', which a session goes on with")
        # They come last, so that it is known where they are.
        body = payload_request(target, options, {**payload, "messages": messages})
        text = json.dumps(messages, separators=(",", ":"))[1:-1]
        delay = _delay(entry, where)
        if delay is None:
            undelayed[name] = where
        size = len(text.encode())
        sessions.setdefault(name, []).append((len(bodies), len(body) - size - 2, size, delay or 0))
        bodies.append(body)
    if len(sessions) < options.session_concurrency:
        raise InvalidArgument(
            f"--session-concurrency={options.session_concurrency}: --input-data has {len(sessions)} sessions, by their "
            "'session_id'; there must be as many at least"
        )
    return Chats(bodies, list(sessions.values()))


def _session(payload: dict[str, Any], entry: Mapping[str, Any], where: str) -> str:
    """Its name, which is no part of what is sent: in the payload or beside it."""
    name = payload.pop("session_id", None)
    if name is None:
        name = _only(entry.get("session_id"))
    if not isinstance(name, str):
        raise InvalidArgument(f"{where} has no 'session_id', the name of the session that it is a turn of")
    return name


def _delay(entry: Mapping[str, Any], where: str) -> int | None:
    value = _only(entry.get("delay"))
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise InvalidArgument(f"{where}: 'delay' is not a number of milliseconds from 0 on")
    return round(value * 1e6)


def _only(value: Any) -> Any:
    """perf_analyzer's files have lists of one value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value
