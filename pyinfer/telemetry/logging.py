# SPDX-License-Identifier: Apache-2.0
"""Log lines in Triton's formats, on top of the standard library's logging.

Modules log with ``logging.getLogger(__name__)``; this module says which lines are written, where and how they look. A
line that is not written costs one comparison. Whatever a message holds, it stays one line: it is escaped as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

__all__ = ["FORMATS", "LogOptions", "TritonFormatter", "configure", "format_table", "log_table", "verbose_level"]

#: the values of ``--log-format``
FORMATS = ("default", "ISO8601")

#: what json leaves as it is although a terminal or a log shipper may break the line there
_BREAKS = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAX_VERBOSE = 10


@dataclass(frozen=True)
class LogOptions:
    """The ``--log-*`` options."""

    verbose: int = 0
    info: bool = True
    warning: bool = True
    error: bool = True
    format: str = "default"
    #: empty for standard error
    file: str = ""


def configure(options: LogOptions) -> None:
    """Make the lines of all ``pyinfer`` loggers follow ``options``, replacing what was configured before.

    Raises OSError where the file can not be opened for appending, ValueError for an unknown format.
    """
    if options.format not in FORMATS:
        raise ValueError(f"unknown log format '{options.format}', expected one of {', '.join(FORMATS)}")
    handler: logging.Handler
    if options.file:
        handler = logging.FileHandler(Path(options.file), encoding="utf-8", errors="backslashreplace")
    else:
        handler = logging.StreamHandler(sys.stderr)
    escape = os.environ.get("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "1") != "0"
    handler.setFormatter(TritonFormatter(iso8601=options.format == "ISO8601", escape=escape))
    handler.addFilter(lambda record: _is_wanted(record.levelno, options))
    logger = logging.getLogger("pyinfer")
    for old in list(logger.handlers):
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.propagate = False
    # The logger's own level keeps unwanted lines from being made at all; the filter then sorts out the switches.
    logger.setLevel(_threshold(options))


def verbose_level(level: int) -> int:
    """The level of the standard library that stands for verbose ``level`` (from 1); verbose 1 is DEBUG."""
    return logging.DEBUG + 1 - min(max(level, 1), _MAX_VERBOSE)


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
    """Log a table at level INFO, as the lines that it has."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("\n%s\n", format_table(header, rows), extra={"table": True}, stacklevel=2)


class TritonFormatter(logging.Formatter):
    """``I0520 20:03:25.829575 3355 file.py:441] "text"``, or the ISO 8601 form. Times are UTC."""

    def __init__(self, *, iso8601: bool = False, escape: bool = True) -> None:
        super().__init__()
        self._iso8601 = iso8601
        self._escape = escape

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.exc_info:
            text = f"{text}\n{self.formatException(record.exc_info)}"
        if self._escape and not getattr(record, "table", False):
            text = _quoted(text)
        moment = datetime.fromtimestamp(record.created, timezone.utc)
        place = f"{record.process} {record.filename}:{record.lineno}] {text}"
        letter = _letter(record.levelno)
        if self._iso8601:
            return f"{moment:%Y-%m-%dT%H:%M:%SZ} {letter} {place}"
        return f"{letter}{moment:%m%d %H:%M:%S.%f} {place}"


def _quoted(text: str) -> str:
    return _BREAKS.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))


def _one_line(text: str) -> str:
    return _quoted(text)[1:-1].replace('\\"', '"').replace("\\\\", "\\")


def _letter(level: int) -> str:
    if level >= logging.ERROR:
        return "E"
    return "W" if level >= logging.WARNING else "I"


def _is_wanted(level: int, options: LogOptions) -> bool:
    if level >= logging.ERROR:
        return options.error
    if level >= logging.WARNING:
        return options.warning
    if level >= logging.INFO:
        return options.info
    return options.verbose > 0 and level >= verbose_level(options.verbose)


def _threshold(options: LogOptions) -> int:
    if options.verbose > 0:
        return verbose_level(options.verbose)
    if options.info:
        return logging.INFO
    return logging.WARNING if options.warning else logging.ERROR
