# SPDX-License-Identifier: Apache-2.0
"""Where each field of a text-format file stands.

protobuf's parser forgets positions once it has made a message. This walks the same text a second time, only to tell
line and column of a field; it judges nothing, and text that is not well-formed gives the positions seen up to there.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

__all__ = ["FieldPath", "Source", "parse_path", "path_text"]

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
    """The positions of the fields of one file, down to the depth that a configuration can have. Immutable.

    The text is walked at the first question: most files have no fault whose place is asked for.
    """

    #: what error messages call it
    file: str | None = None
    text: str = ""

    def locate(self, path: FieldPath) -> tuple[int, int] | tuple[None, None]:
        """Line and column, from 1, of the field or of the nearest enclosing field that the text holds."""
        steps = _steps(path)
        while steps:
            place = self._walked.places.get(steps)
            if place is not None:
                return place
            steps = steps[:-1]
        return None, None

    def has(self, path: FieldPath) -> bool:
        """Whether the text holds the field itself."""
        return _steps(path) in self._walked.places

    def field_at(self, line: int, column: int) -> FieldPath:
        """The last field that starts at or before the position, an index after each name; () where there is none."""
        places = list(self._walked.places.items())
        index = bisect_right([place for _, place in places], (line, column))
        return tuple(part for step in places[index - 1][0] for part in step) if index else ()

    def extent_at(self, offset: int) -> tuple[int, int] | None:
        """Where the innermost whole field around the character at ``offset`` starts and ends; None outside of any."""
        around = [(start, end) for start, end in self._walked.extents if start <= offset < end]
        return min(around, key=lambda extent: extent[1] - extent[0], default=None)

    @cached_property
    def _walked(self) -> _Walker:
        walker = _Walker()
        for token in _tokens(self.text):
            if walker.depth > _MAX_DEPTH:
                break  # each place costs its depth: a thousand open braces would cost a million
            walker.step(token)
        return walker


def _steps(path: FieldPath) -> _Steps:
    steps: list[tuple[str, int]] = []
    for part in path:
        if isinstance(part, str):
            steps.append((part, 0))
        elif steps:
            steps[-1] = (steps[-1][0], part)
    return tuple(steps)


class _Token(NamedTuple):
    kind: str
    text: str
    line: int
    column: int
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)


def _tokens(text: str) -> Iterator[_Token]:
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or "mark"
        if kind == "newline":
            line, line_start = line + 1, match.end()
        elif kind != "skip":
            yield _Token(kind, match.group(), line, match.start() - line_start + 1, match.start())


_MAX_DEPTH = 100


class _Open(NamedTuple):
    """A field whose braces are open: what to go on with behind them."""

    prefix: _Steps
    name: str | None
    start: int
    in_list: bool


class _Walker:
    """Follows scopes and lists, and notes where each field starts and ends."""

    def __init__(self) -> None:
        self.places: dict[_Steps, tuple[int, int]] = {}
        #: (start, end) in characters of each whole field: name, value and the comma or semicolon behind it
        self.extents: list[tuple[int, int]] = []
        self._prefix: _Steps = ()
        self._counts: dict[tuple[_Steps, str], int] = {}
        self._name: str | None = None
        self._start = 0
        self._in_list = False
        self._outer: list[_Open] = []
        #: kind of the token that ended the last extent, as long as nothing has come that is no part of it
        self._extendable = ""

    @property
    def depth(self) -> int:
        """Scopes that are open."""
        return len(self._outer)

    def step(self, token: _Token) -> None:
        extendable, self._extendable = self._extendable, ""
        if token.kind == "word" and self._name is None:
            self._name, self._start = token.text, token.start
            steps = (*self._prefix, (token.text, self._counts.get((self._prefix, token.text), 0)))
            self.places[steps] = (token.line, token.column)
        elif self._name is None and (extendable == token.kind == "string" or (extendable and token.text in ",;")):
            # one more part of the same string, or what separates fields: both belong to the field before
            self.extents[-1] = (self.extents[-1][0], token.end)
            self._extendable = "" if token.text in ",;" else extendable
        elif token.kind == "mark":
            self._mark(token)
        elif self._name is not None and not self._in_list:
            self._count()
            self._end(token)

    def _mark(self, token: _Token) -> None:
        sign = token.text
        if sign in "{<" and self._name is not None:
            step = (self._name, self._count())
            self._outer.append(_Open(self._prefix, self._name, self._start, self._in_list))
            self._prefix = (*self._prefix, step)
            self.places.setdefault(self._prefix, (token.line, token.column))
            self._name, self._in_list = None, False
        elif sign in "}>" and self._outer:
            self._prefix, self._name, self._start, self._in_list = self._outer.pop()
            if not self._in_list:
                self._end(token)
        elif sign == "[":
            self._in_list = True
        elif sign == "]" and self._name is not None:
            self._end(token)
        elif sign == "]":
            self._in_list = False

    def _end(self, token: _Token) -> None:
        self.extents.append((self._start, token.end))
        self._name, self._in_list = None, False
        self._extendable = token.kind

    def _count(self) -> int:
        key = (self._prefix, self._name or "")
        seen = self._counts.get(key, 0)
        self._counts[key] = seen + 1
        return seen


def path_text(path: Sequence[str | int]) -> str:
    """``input[0].dims``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def parse_path(text: str) -> FieldPath:
    """What :func:`path_text` made ``text`` of."""
    parts = re.findall(r"\[(\d+)\]|([^.\[\]]+)", text)
    return tuple(int(index) if index else name for index, name in parts)
