# SPDX-License-Identifier: Apache-2.0
"""Which requests are traced, for all models and for one, changeable while the server runs; and where traces go.

The core samples, records and, in mode triton, writes. Here the operator's settings become one complete setting for each
model, and the consumer of the traces is started and stopped.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pyinfer._core import TraceLog, Tracer
from pyinfer.config.tracing import LEVELS, TraceOptions
from pyinfer.errors import InvalidArgument, Unsupported

__all__ = ["TraceSettings", "Tracing"]

_log = logging.getLogger(__name__)

_NUMBER = re.compile(r"[+-]?[0-9]+")
#: digits that a number may have; more are out of every range
_MAX_DIGITS = 20
_ECHO_LIMIT = 64
#: settings of the trace extension -> the field of _Values
_FIELDS = {
    "trace_level": "levels",
    "trace_rate": "rate",
    "trace_count": "count",
    "log_frequency": "log_frequency",
}
_RANGES = {"trace_rate": (0, 2**32 - 1), "trace_count": (-1, 2**31 - 1), "log_frequency": (0, 2**32 - 1)}


@dataclass(frozen=True)
class _Values:
    """A complete setting."""

    levels: tuple[str, ...]
    rate: int
    count: int
    log_frequency: int


#: what was set at run time: a model, or "" for all -> field of _Values -> value
_Given = Mapping[str, Mapping[str, Any]]


class TraceSettings:
    """The settings of tracing, by the names of the trace extension. Any thread.

    Each has a value of the command line, and may be given another one for all models and one for each model: the most
    particular counts. A change makes requests be counted from anew.
    """

    def __init__(
        self, tracer: Tracer, options: TraceOptions | None = None, exporter: Sequence[tuple[str, str]] = ()
    ) -> None:
        """``exporter``: what is shown besides in mode opentelemetry."""
        self._tracer = tracer
        self._options = options = options or TraceOptions()
        self._exporter = tuple(exporter)
        self._default = _Values(options.levels, options.rate, options.count, options.log_frequency)
        self._given: _Given = {"": {}}
        #: what came of them, as it was handed in last
        self._values: dict[str, _Values] = {}
        self._lock = threading.Lock()
        if problem := self._problem(self._default):
            _log.warning("nothing is traced: %s", problem)
        self._hand_in("", self._default)

    def describe(self, model: str = "") -> dict[str, list[str]]:
        """All settings that hold for ``model`` (""; for all that have none of their own), each a list of texts.

        The count is what is left of it.
        """
        with self._lock:
            values = self._values.get(model) or self._values[""]
            count = self._tracer.count_left(model)
        options = self._options
        settings = {
            "trace_level": list(values.levels) or ["OFF"],
            "trace_rate": [str(values.rate)],
            "trace_count": [str(count)],
        }
        if options.mode == "triton":
            settings |= {"log_frequency": [str(values.log_frequency)], "trace_file": [options.file]}
        settings["trace_mode"] = [options.mode]
        for name, text in self._exporter:
            settings.setdefault(name, []).append(text)
        return settings

    def update(self, model: str, changes: Mapping[str, Any]) -> None:
        """Change settings of ``model`` ("": of all models), all of ``changes`` or none.

        A value is a text, or a list of them; None or an empty list takes a setting back. Other names are ignored.
        Raises Unsupported for ``trace_file``, InvalidArgument for a value that is malformed or makes no sense.
        """
        if "trace_file" in changes:
            raise Unsupported("trace file location can not be updated through network protocol")
        parsed = {field: _parse(name, changes[name]) for name, field in _FIELDS.items() if name in changes}
        with self._lock:
            given = {name: {**fields, **self._count_left(name, fields)} for name, fields in self._given.items()}
            own = {**given.get(model, {}), **parsed}
            given[model] = {field: value for field, value in own.items() if value is not None}
            count_of_all = given[""].get("count", self._default.count) if not model else self._tracer.count_left("")
            values = self._complete(given, model, count_of_all)
            if problem := self._problem(values):
                raise InvalidArgument(f"Attempting to set invalid trace setting :{problem}")
            if model and not given[model]:
                del given[model]
                self._values.pop(model, None)
                self._tracer.clear(model)
            self._given = given
            for name in given if not model else {model} & given.keys():
                self._hand_in(name, self._complete(given, name, count_of_all))

    def _count_left(self, model: str, fields: Mapping[str, Any]) -> dict[str, int]:
        return {"count": self._tracer.count_left(model)} if "count" in fields else {}

    def _complete(self, given: _Given, model: str, count_of_all: int) -> _Values:
        """``count_of_all`` is what is left of the count of all models."""
        values = replace(self._default, **{**given[""], "count": count_of_all})
        return replace(values, **given[model]) if model else values

    def _problem(self, values: _Values) -> str:
        """Why nothing would be traced although something should; empty where all is well."""
        if not values.levels or self._options.mode != "triton":
            return ""
        if values.rate == 0:
            return "sample rate must be non-zero"
        return "" if self._options.file else "trace file name is not given"

    def _hand_in(self, model: str, values: _Values) -> None:
        self._values[model] = values
        levels = () if self._problem(values) else values.levels
        self._tracer.set(
            model,
            timestamps="TIMESTAMPS" in levels,
            tensors="TENSORS" in levels,
            rate=values.rate,
            count=values.count,
            log_frequency=values.log_frequency,
        )


def _parse(name: str, value: object) -> Any:
    """The value of a setting for its field of _Values; None takes it back."""
    if value is None:
        return None
    if name == "trace_level" and not isinstance(value, list):
        raise InvalidArgument(f"expect array of strings for '{name}'")
    texts: list[str] = []
    for text in value if isinstance(value, list) else [value]:
        if not isinstance(text, str):
            raise InvalidArgument(f"expect string for '{name}'")
        texts.append(text)
    if not texts:
        return None
    if name == "trace_level":
        return _levels(texts)
    if len(texts) > 1:
        raise InvalidArgument(f"expect only 1 value for '{name}'")
    return _number(name, texts[0])


def _levels(texts: Sequence[str]) -> tuple[str, ...]:
    if "OFF" in texts:
        if len(texts) > 1:
            raise InvalidArgument("Expect only one trace level 'OFF' is specified")
        return ()
    for text in texts:
        if text not in LEVELS:
            raise InvalidArgument(f"unknown trace level '{text[:_ECHO_LIMIT]}', expected OFF, {', '.join(LEVELS)}")
    return tuple(level for level in LEVELS if level in texts)


def _number(name: str, text: str) -> int:
    shown = text[:_ECHO_LIMIT]
    if not _NUMBER.fullmatch(text):
        raise InvalidArgument(f"Unable to parse '{name}', got: {shown}")
    low, high = _RANGES[name]
    number = int(text) if len(text) <= _MAX_DIGITS else high + 1
    if name == "trace_count" and number < low:
        raise InvalidArgument(f"Unable to parse '{name}'. Expecting value >= {low}, got: {shown}")
    if not low <= number <= high:
        raise InvalidArgument(f"Unable to parse '{name}', value is out of range [ {low}, {high} ], got: {shown}")
    return number


class _Consumer(Protocol):
    """Takes the traces of a tracer until it is closed."""

    def close(self) -> None: ...


class Tracing:
    """The tracing of one server: its settings and, once they are made, the consumer of its traces."""

    def __init__(self, tracer: Tracer, options: TraceOptions, environment: Mapping[str, str] = os.environ) -> None:
        """Traces are written, or exported, from now on until :meth:`close`.

        Mode opentelemetry takes the defaults of its batches from ``environment``. Raises Unsupported where the packages
        that it needs are not installed, InvalidArgument for a value of the environment that is none.
        """
        for warning in options.warnings:
            _log.warning("%s", warning)
        self._tracer = tracer
        self._consumer: _Consumer | None = None
        exporter: tuple[tuple[str, str], ...] = ()
        if options.mode == "opentelemetry":
            from pyinfer.telemetry.otlp import OtlpExporter, exporter_settings

            exporter = exporter_settings(options.exporter, environment)
            self._consumer = OtlpExporter(tracer, exporter)
        elif options.file:
            self._consumer = TraceLog(tracer, options.file, _log.warning)
        #: what the trace extension shows and changes
        self.settings = TraceSettings(tracer, options, exporter)

    def close(self) -> None:
        """Write or send what is finished, and stop. Blocks until then, in mode opentelemetry for seconds."""
        if self._consumer is None:
            return
        self._consumer.close()
        collected, dropped = self._tracer.counts()
        if collected:
            _log.info("%d requests were traced; %d of these traces were dropped", collected, dropped)
