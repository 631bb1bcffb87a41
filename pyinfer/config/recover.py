# SPDX-License-Identifier: Apache-2.0
"""Reads a configuration file to its end, whatever is wrong on the way: for tools that report every error at once.

``pbtxt.parse`` stops at the first error, as protobuf's parser does. Here the field that an error is about is blanked
out, and the text is parsed again. A text whose braces or quotes do not match has no end to go on to: its first such
error is the last one told.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyinfer.config.pbtxt import decode, nearest_field, parse
from pyinfer.config.source import FieldPath, Source, parse_path
from pyinfer.errors import ConfigError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["Recovered", "recover"]

#: what the parser says where braces do not match: no field is to blame
_STRUCTURE = re.compile(r"""Expected ("[}>]"|identifier)""")
#: the start of a field
_FIELD = re.compile(r"\w+\s*[:{<\[]")
#: beyond that many errors the text is something else than a configuration
_MOST_ERRORS = 100
#: parsing is slow, and each error takes one more of it
_MOST_CHARACTERS = 4_000_000


@dataclass(frozen=True)
class Recovered:
    """What could be read of a configuration file."""

    #: without the fields that ``errors`` are about; None where the text can not be read to its end
    config: Message | None
    #: in the order of their places
    errors: tuple[ConfigError, ...]
    #: the fields that ``errors`` are about, an unknown name as the known one that it resembles and that is not set
    lost: tuple[FieldPath, ...]
    #: places of the fields of ``config``
    source: Source


def recover(text: str | bytes, file: str | None = "config.pbtxt") -> Recovered:
    """The configuration that ``text`` describes, and all that is wrong with its grammar. Raises nothing.

    ``file`` is the name for error messages, relative to the model repository.
    """
    errors: list[ConfigError] = []
    lost: list[FieldPath] = []
    try:
        rest = decode(text, file) if isinstance(text, bytes) else text
    except ConfigError as error:
        return Recovered(None, (error,), (), Source(file))
    config = None
    source = Source(file)
    most_errors = min(_MOST_ERRORS, max(1, _MOST_CHARACTERS // (len(rest) + 1)))
    while config is None and len(errors) < most_errors:
        source = Source(file, rest)
        try:
            config = parse(rest, file)
        except ConfigError as error:
            errors.append(error)
            extent = _extent(rest, source, error)
            if extent is None:
                break
            lost.append(parse_path(error.field or ""))
            rest = _blank(rest, *extent)
    errors.sort(key=lambda error: (error.line or 0, error.column or 0))
    return Recovered(config, tuple(errors), tuple(_meant(path, source) for path in lost), source)


def _meant(path: FieldPath, source: Source) -> FieldPath:
    """The field that was probably meant by ``path``, which may hold an unknown name."""
    nearest = nearest_field(path)
    return path if source.has(nearest) else nearest


def _extent(text: str, source: Source, error: ConfigError) -> tuple[int, int] | None:
    """What to take out of ``text`` so that ``error`` is gone; None where no field is to blame."""
    if error.line is None or error.column is None or _STRUCTURE.search(error.reason):
        return None
    lines = text.split("\n")
    offset = sum(len(line) + 1 for line in lines[: error.line - 1]) + error.column - 1
    extent = source.extent_at(offset)
    if extent is not None and "\n" in text[extent[0] : offset] and _FIELD.match(text, offset):
        # a field without a value: what seems to be its value is the next field
        return extent[0], offset
    return extent


def _blank(text: str, start: int, end: int) -> str:
    """``text`` with blanks in place of a part of it, so that all places behind it stay what they are."""
    return text[:start] + "".join("\n" if sign == "\n" else " " for sign in text[start:end]) + text[end:]
