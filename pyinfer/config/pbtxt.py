# SPDX-License-Identifier: Apache-2.0
"""A model configuration in its three forms: text (``config.pbtxt``), message, and Triton's JSON form.

Only grammar is judged here: names, types and ranges of fields. What a value may be is said by ``validate``.
The JSON form keeps proto field names, prints primitive fields also at their default, 64-bit integers as numbers and
enums by name; a message field is there only where it was set, so presence survives the round trip.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from pyinfer.config.messages import message, pool
from pyinfer.config.source import FieldPath, Source, path_text
from pyinfer.errors import ConfigError

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["canonical", "decode", "from_json", "nearest_field", "parse", "to_json"]

_UNKNOWN = re.compile(r'Message type "(?P<type>[^"]*)" has no field named "(?P<name>[^"]*)"')


def parse(text: str | bytes, file: str | None = "config.pbtxt") -> Message:
    """The ``ModelConfig`` message that ``text`` (UTF-8) describes.

    ``file`` is the name for error messages, relative to the model repository. Raises ConfigError with file, line,
    column and field for a syntax error, an unknown field, or a value of the wrong type or range.
    """
    from google.protobuf import text_format

    if isinstance(text, bytes):
        text = decode(text, file)
    config = message("ModelConfig")()
    try:
        text_format.Parse(text, config, descriptor_pool=pool())
    except text_format.ParseError as error:
        raise _syntax_error(text, file, str(error), error.GetLine(), error.GetColumn()) from None
    except (ValueError, TypeError, KeyError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"can not be read: {error}", file=file) from None
    return config


def to_json(config: Message) -> dict[str, Any]:
    """The message in Triton's JSON form, as plain data in the order of the ``.proto`` file; maps sorted by key."""
    values: dict[str, Any] = {}
    for name, has_presence, plain in _readers(config.DESCRIPTOR):
        if not has_presence or config.HasField(name):
            values[name] = plain(getattr(config, name))
    return values


def from_json(data: str | bytes | Mapping[str, Any]) -> Message:
    """The message of a configuration in JSON form: text or plain data, snake_case or proto JSON names.

    64-bit integers may be numbers or strings, enums names or numbers. Raises ConfigError that names the field.
    """
    from google.protobuf import json_format

    if not isinstance(data, Mapping):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"not valid JSON: {error}") from None
        if not isinstance(data, dict):
            raise ConfigError(f"expected a JSON object, got {type(data).__name__}")
    config = message("ModelConfig")()
    try:
        json_format.ParseDict(dict(data), config, descriptor_pool=pool())
    except json_format.ParseError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        unknown = _UNKNOWN.search(reason)
        raise ConfigError(_unknown_field(unknown["type"], unknown["name"]) if unknown else reason) from None
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ConfigError(f"can not be read: {error}") from None
    return config


def canonical(config: Mapping[str, Any]) -> dict[str, Any]:
    """``config`` with every primitive field present, under its proto name. Raises as :func:`from_json`."""
    return to_json(from_json(config))


def _is_repeated(field: Any) -> bool:
    # the two properties that say so (label, is_repeated) are each missing or deprecated in a release that we support
    return isinstance(field.default_value, list)


_Reader = Callable[[Any], Any]


@cache
def _readers(descriptor: Any) -> tuple[tuple[str, bool, _Reader], ...]:
    """(name, has it presence, what makes its value plain) of each field: descriptors answer slowly."""
    return tuple((field.name, field.has_presence, _reader(field)) for field in descriptor.fields)


def _reader(field: Any) -> _Reader:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        item = _item_reader(entry.fields_by_name["value"])
        # JSON knows only strings as keys
        return lambda values: {str(key): item(values[key]) for key in sorted(values)}
    item = _item_reader(field)
    return (lambda values: [item(one) for one in values]) if _is_repeated(field) else item


def _item_reader(field: Any) -> _Reader:
    if field.type == field.TYPE_MESSAGE:
        return to_json
    if field.type == field.TYPE_ENUM:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return lambda number: names.get(number, number)
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return partial(_plain_float, single=field.type == field.TYPE_FLOAT)
    return lambda value: value


#: integers below it are exact as doubles
_EXACT = 2**53


def _plain_float(value: float, *, single: bool) -> float | int | str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < _EXACT and math.copysign(1, value) == math.copysign(1, int(value)):
        return int(value)  # protobuf's JSON, which Triton's is, has 0 for 0.0; -0.0 is no integer
    if single:
        # a float32 widened to 64 bits would print as 0.10000000149011612
        for digits in (6, 7, 8, 9):
            short = float(f"{value:.{digits}g}")
            # a value near the top of the range may round out of it
            if abs(short) <= 3.4028234e38 and struct.pack("f", short) == struct.pack("f", value):
                return short
    return value


def decode(text: bytes, file: str | None = "config.pbtxt") -> str:
    """The characters of a configuration file, without a byte order mark. Raises ConfigError where it is not UTF-8."""
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = text.count(b"\n", 0, error.start) + 1
        column = error.start - (text.rfind(b"\n", 0, error.start) + 1) + 1
        raise ConfigError("not UTF-8 text", file=file, line=line, column=column) from None


def _syntax_error(text: str, file: str | None, reason: str, line: int | None, column: int | None) -> ConfigError:
    if line is None or column is None:
        return ConfigError(reason, file=file)
    reason = reason.removeprefix(f"{line}:{column} : ")
    lines = text.split("\n")
    for quoted in (lines[line - 1] if line <= len(lines) else "", ""):
        reason = reason.removeprefix(f"'{quoted}': ")
    unknown = _UNKNOWN.search(reason)
    if unknown:
        reason = _unknown_field(unknown["type"], unknown["name"])
    field = _field_text(Source(file, text), line, column)
    return ConfigError(
        f"field '{field}': {reason}" if field else reason, file=file, line=line, column=column, field=field or None
    )


def nearest_field(path: FieldPath) -> FieldPath:
    """``path`` with the known name that its last name resembles, if that one is unknown and resembles any."""
    descriptor: Any = message("ModelConfig").DESCRIPTOR
    *outer, last = [part for part in path if isinstance(part, str)] or [""]
    for name in outer:
        field = descriptor.fields_by_name.get(name)
        if field is None or field.message_type is None:
            return path
        descriptor = field.message_type
    close = None if last in descriptor.fields_by_name else _nearest_name(descriptor, last)
    return path if close is None else tuple(close if part is last else part for part in path)


def _nearest_name(descriptor: Any, name: str) -> str | None:
    return next(iter(get_close_matches(name, [field.name for field in descriptor.fields], n=1)), None)


def _unknown_field(type_name: str, name: str) -> str:
    kind = type_name.removeprefix("inference.")
    close = _nearest_name(pool().FindMessageTypeByName(type_name), name)
    return f"{kind} has no field '{name}'" + (f"; did you mean '{close}'?" if close else "")


def _field_text(source: Source, line: int, column: int) -> str:
    """The path of the field at the position; indexes only where the field is repeated."""
    parts: list[str | int] = []
    descriptor: Any = message("ModelConfig").DESCRIPTOR
    path = source.field_at(line, column)
    for name, index in zip(path[::2], path[1::2], strict=True):
        field = descriptor.fields_by_name.get(str(name)) if descriptor else None
        descriptor = field.message_type if field else None
        parts += [name, index] if field and _is_repeated(field) and field.message_type else [name]
    return path_text(parts)
