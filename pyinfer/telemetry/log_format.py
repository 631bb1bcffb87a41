# SPDX-License-Identifier: Apache-2.0
"""How a line of the log looks: Triton's two forms, JSON, and tables. Knows no file and no switch.

Whatever a message holds, it stays one line: it is escaped as JSON. Only a table, which holds nothing that a client
sent, is several lines in Triton's forms.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

__all__ = ["FORMATS", "JsonFormatter", "TritonFormatter", "format_table", "formatter", "log_table"]

#: the values of ``--log-format``
FORMATS = ("default", "ISO8601", "json")

#: what json leaves as it is although a terminal or a log shipper may break the line there
_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: characters of a message that are kept: nobody fills the disk with one request
_LONGEST = 65536


def formatter(name: str, *, escape: bool = True) -> logging.Formatter:
    """The formatter of one of FORMATS. ``escape`` False leaves messages as they are, but not in JSON.

    Raises ValueError for an unknown name.
    """
    if name not in FORMATS:
        raise ValueError(f"unknown log format '{name}', expected one of {', '.join(FORMATS)}")
    if name == "json":
        return JsonFormatter()
    return TritonFormatter(iso8601=name == "ISO8601", escape=escape)


class TritonFormatter(logging.Formatter):
    """``I0520 20:03:25.829575 3355 file.py:441] "text"``, or the ISO 8601 form. Times are UTC."""

    def __init__(self, *, iso8601: bool = False, escape: bool = True) -> None:
        super().__init__()
        self._iso8601 = iso8601
        self._escape = escape

    def format(self, record: logging.LogRecord) -> str:
        text = _text(record)
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if not getattr(record, "table", False):
            text = _quoted(_shortened(text)) if self._escape else _shortened(text)
        place = f"{record.process} {record.filename}:{record.lineno}] {text}"
        letter = _letter(record.levelno)
        if self._iso8601:
            return f"{_moment(record):%Y-%m-%dT%H:%M:%SZ} {letter} {place}"
        return f"{letter}{_moment(record):%m%d %H:%M:%S.%f} {place}"


class JsonFormatter(logging.Formatter):
    """One JSON object a record: ``time``, ``level``, ``pid``, ``file``, ``line``, ``message`` and, if any,
    ``exception``."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str | int | None] = {
            "time": f"{_moment(record):%Y-%m-%dT%H:%M:%S.%fZ}",
            "level": _level(record.levelno),
            "pid": record.process,
            "file": record.filename,
            "line": record.lineno,
            "message": _shortened(_text(record)),
        }
        if record.exc_info:
            fields["exception"] = _shortened(self.formatException(record.exc_info))
        return _escape_breaks(json.dumps(fields, ensure_ascii=False))


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table with lines around its cells; a cell never breaks its line."""
    cells = [[_one_line(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    rule = "+" + "+".join("-" * (width + 2) for width in widths) + "+"
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule])


def log_table(logger: logging.Logger, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Log a table at level INFO, as the lines that it has (in JSON as one record)."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("\n%s\n", format_table(header, rows), extra={"table": True}, stacklevel=2)


def _text(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # arguments that do not fit, or whose str() raises: the record is still one of an event
        return f"{record.msg} (its arguments could not be formatted)"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}... ({len(text) - _LONGEST} more characters)"


def _moment(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, timezone.utc)


def _escape_breaks(text: str) -> str:
    return _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _quoted(text: str) -> str:
    return _escape_breaks(json.dumps(text, ensure_ascii=False))


def _one_line(text: str) -> str:
    return _quoted(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _level(level: int) -> str:
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warning"
    return "info" if level >= logging.INFO else "verbose"


def _letter(level: int) -> str:
    return {"error": "E", "warning": "W"}.get(_level(level), "I")
