# SPDX-License-Identifier: Apache-2.0
"""Which lines of the log are written, on top of the standard library's logging; changeable while the server runs.

Modules log with ``logging.getLogger(__name__)``. A line that is not written costs one comparison.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pyinfer.errors import InvalidArgument, InvalidLogFormat, Unsupported
from pyinfer.telemetry.families import Family, counter
from pyinfer.telemetry.log_format import FORMATS, formatter
from pyinfer.telemetry.log_sink import LineSink

__all__ = ["LogOptions", "LogSettings", "verbose_level"]

_MAX_VERBOSE = 10
_MAX_INT = 2**31 - 1
#: settings of the logging extension that are switches -> the field of LogOptions
_SWITCHES = {"log_info": "info", "log_warning": "warning", "log_error": "error"}
#: what asyncio says of our tasks and transports belongs into our log; of less than a warning there is too much
_FOREIGN = ("asyncio", "opentelemetry")


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


class LogSettings:
    """The log of this process and its settings. Any thread.

    A settings object does nothing before :meth:`install`, which replaces the one that was installed before.
    """

    def __init__(self, options: LogOptions | None = None) -> None:
        """Raises OSError where the file can not be opened for appending, ValueError for an unknown format."""
        self._options = options or LogOptions()
        self._escape = os.environ.get("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "1") != "0"
        self._lock = threading.Lock()
        self._watchers: list[Callable[[int], object]] = []
        self._handler: _Handler | None = None
        self._format = formatter(self._options.format, escape=self._escape)
        self._sink = LineSink(self._options.file)

    def install(self) -> None:
        """From now on the lines of all ``pyinfer`` loggers are written as these settings say."""
        self._handler = _Handler(self._sink)
        self._apply()
        logger = logging.getLogger("pyinfer")
        for old in [handler for handler in logger.handlers if isinstance(handler, _Handler)]:
            for name in ("pyinfer", *_FOREIGN):
                logging.getLogger(name).removeHandler(old)
            old.close()
        for name in ("pyinfer", *_FOREIGN):
            logging.getLogger(name).addHandler(self._handler)
            logging.getLogger(name).propagate = False

    def watch(self, told: Callable[[int], object]) -> None:
        """Have ``told`` called with the level of ``logging`` below which no line is wanted, when it has changed."""
        self._watchers.append(told)

    def families(self) -> list[Family]:
        """The metric of lines that could not be written, because the disk is full for example."""
        text = "Lines of the log that could not be written"
        return [counter("pyinfer_log_dropped_lines_total", text, self._sink.dropped)]

    def describe(self) -> dict[str, bool | int | str]:
        """All settings by the names of the logging extension."""
        options = self._options
        return {
            "log_file": options.file,
            "log_info": options.info,
            "log_warning": options.warning,
            "log_error": options.error,
            "log_verbose_level": options.verbose,
            "log_format": options.format,
        }

    def update(self, changes: Mapping[str, Any]) -> None:
        """Change settings, all of ``changes`` or none. None for a value, and names that are unknown, change nothing.

        Raises Unsupported for ``log_file``, InvalidArgument for a value of another type or out of range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        if "log_file" in given:
            raise Unsupported("log file location can not be updated through network protocol")
        fields: dict[str, Any] = {
            field: _boolean(name, given[name]) for name, field in _SWITCHES.items() if name in given
        }
        if "log_verbose_level" in given:
            fields["verbose"] = _level(given["log_verbose_level"])
        if "log_format" in given:
            fields["format"] = _format(given["log_format"])
        with self._lock:
            self._options = replace(self._options, **fields)
            self._format = formatter(self._options.format, escape=self._escape)
            self._apply()
        for told in self._watchers:
            told(_threshold(self._options))

    def _apply(self) -> None:
        if self._handler is None:
            return
        self._handler.options = self._options
        self._handler.setFormatter(self._format)
        # The loggers' own levels keep unwanted lines from being made at all; the handler then sorts out the switches.
        threshold = _threshold(self._options)
        logging.getLogger("pyinfer").setLevel(threshold)
        for name in _FOREIGN:
            logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def verbose_level(level: int) -> int:
    """The level of the standard library that stands for verbose ``level`` (from 1); verbose 1 is DEBUG."""
    return logging.DEBUG + 1 - min(max(level, 1), _MAX_VERBOSE)


class _Handler(logging.Handler):
    """Writes the records that the options want. The standard library holds its lock around ``emit``."""

    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self.options = LogOptions()
        self._sink = sink
        self._reported = sink.dropped

    def emit(self, record: logging.LogRecord) -> None:
        if not _is_wanted(record.levelno, self.options):
            return
        if self._write(record) and self._sink.dropped != self._reported:
            count, self._reported = self._sink.dropped - self._reported, self._sink.dropped
            text = "%d lines of the log could not be written"
            self._write(logging.LogRecord(__name__, logging.WARNING, __file__, 0, text, (count,), None))

    def close(self) -> None:
        self.acquire()
        try:
            self._sink.close()
        finally:
            self.release()
        super().close()

    def _write(self, record: logging.LogRecord) -> bool:
        return self._sink.write(f"{self.format(record)}\n".encode("utf-8", "backslashreplace"))


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgument(f"expect boolean for '{name}'")
    return value


def _level(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX_INT:
        raise InvalidArgument("expect int32 for 'log_verbose_level'")
    return value


def _format(value: object) -> str:
    if not isinstance(value, str):
        raise InvalidArgument("expect string for 'log_format'")
    if value not in FORMATS:
        raise InvalidLogFormat(f"invalid argument for log_format, got: {value[:64]}")
    return value


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
