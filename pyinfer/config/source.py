# SPDX-License-Identifier: Apache-2.0
"""Where each field of a text-format file stands.

protobuf's parser forgets positions once it has made a message. This walks the same text a second time, only to tell
line and column of a field; it judges nothing, and text that is not well-formed gives the positions seen up to there.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

__all__ = ["FieldPath", "Source", "path_text", "read_source"]

#: names and, after a repeated one, its index: ``("input", 0, "dims")``
FieldPath = tuple[str | int, ...]

_Steps = tuple[tuple[str, int], ...]
_TOKEN = re.compile(
    r"""(?P<skip>[ \t\r\f\v]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<string>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)
      | (?P<word>[\w.+-]+)
      | (?P<mark>.)""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class Source:
    """The positions of the fields of one file. ``file`` is what error messages call it. Immutable."""

    file: str | None = None
    _places: dict[_Steps, tuple[int, int]] = field(default_factory=dict)

    def locate(self, path: FieldPath) -> tuple[int, int] | tuple[None, None]:
        """Line and column, from 1, of the field or of the nearest enclosing field that the text holds."""
        steps = _steps(path)
        while steps:
            place = self._places.get(steps)
            if place is not None:
                return place
            steps = steps[:-1]
        return None, None

    def field_at(self, line: int, column: int) -> FieldPath:
        """The last field that starts at or before the position, an index after each name; () where there is none."""
        places = list(self._places.items())
        index = bisect_right([place for _, place in places], (line, column))
        return tuple(part for step in places[index - 1][0] for part in step) if index else ()


def _steps(path: FieldPath) -> _Steps:
    steps: list[tuple[str, int]] = []
    for part in path:
        if isinstance(part, str):
            steps.append((part, 0))
        elif steps:
            steps[-1] = (steps[-1][0], part)
    return tuple(steps)


def _tokens(text: str) -> Iterator[tuple[str, str, int, int]]:
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        if kind == "newline":
            line, line_start = line + 1, match.end()
        elif kind != "skip":
            yield kind, match.group(), line, match.start() - line_start + 1


_MAX_DEPTH = 100


class _Walker:
    """Follows scopes and lists, and notes where each field starts."""

    def __init__(self) -> None:
        self.places: dict[_Steps, tuple[int, int]] = {}
        self._prefix: _Steps = ()
        self._counts: dict[tuple[_Steps, str], int] = {}
        self._name: str | None = None
        self._in_list = False
        self._outer: list[tuple[_Steps, str | None, bool]] = []

    @property
    def depth(self) -> int:
        """Scopes that are open."""
        return len(self._outer)

    def word(self, token: str, place: tuple[int, int]) -> None:
        if self._name is None:
            self._name = token
            steps = (*self._prefix, (token, self._counts.get((self._prefix, token), 0)))
            self.places[steps] = place
        else:
            self.value()

    def value(self) -> None:
        if self._name is not None and not self._in_list:
            self._count()
            self._name = None

    def mark(self, sign: str, place: tuple[int, int]) -> None:
        if sign in "{<" and self._name is not None:
            step = (self._name, self._count())
            self._outer.append((self._prefix, self._name, self._in_list))
            self._prefix = (*self._prefix, step)
            self.places.setdefault(self._prefix, place)
            self._name, self._in_list = None, False
        elif sign in "}>" and self._outer:
            self._prefix, name, self._in_list = self._outer.pop()
            self._name = name if self._in_list else None
        elif sign == "[":
            self._in_list = True
        elif sign == "]":
            self._name, self._in_list = None, False

    def _count(self) -> int:
        key = (self._prefix, self._name or "")
        seen = self._counts.get(key, 0)
        self._counts[key] = seen + 1
        return seen


def read_source(text: str, file: str | None = None) -> Source:
    """The positions of all fields of ``text``, down to the depth that a configuration can have. Never raises."""
    walker = _Walker()
    for kind, token, line, column in _tokens(text):
        if walker.depth > _MAX_DEPTH:
            break  # each place costs its depth: a thousand open braces would cost a million
        if kind == "word":
            walker.word(token, (line, column))
        elif kind == "string":
            walker.value()
        else:
            walker.mark(token, (line, column))
    return Source(file, walker.places)


def path_text(path: Sequence[str | int]) -> str:
    """``input[0].dims``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")
