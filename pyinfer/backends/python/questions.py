# SPDX-License-Identifier: Apache-2.0
"""What worker processes ask of the server beside calls of models: loading others, readiness, metrics.

What a worker asks for is no more than what the same model may do as a thread of the server. Each question is answered
on a thread of its own, since loading takes its time and a worker that does not read must hold up nobody else.
"""

from __future__ import annotations

import itertools
import logging
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pyinfer.backends.python.channel import Channel, close_all
from pyinfer.backends.python.metric_registry import (
    MetricKind,
    MetricMemory,
    RegisteredFamily,
    RegisteredMetric,
    register,
)
from pyinfer.errors import InvalidArgument, PyinferError

if TYPE_CHECKING:
    from pyinfer.backends.base import ModelControl

__all__ = ["ModelServices", "Questions"]

_log = logging.getLogger(__name__)

#: questions of one worker that are being answered at a time
_MOST_OPEN = 64
#: metrics and families that one worker may hold
_MOST_HELD = 100_000


class ModelServices:
    """What the workers of one model share. Any thread."""

    def __init__(self, model: str, control: ModelControl | None) -> None:
        """``control``: None outside the server."""
        self.model = model
        self.control = control
        self._lock = threading.Lock()
        self._memory: MetricMemory | None = None

    def metric_memory(self) -> MetricMemory:
        with self._lock:
            if self._memory is None:
                self._memory = MetricMemory()
            return self._memory


class Questions:
    """Those of one worker, and the metrics that it holds. Any thread."""

    def __init__(self, services: ModelServices, channel: Channel) -> None:
        self._services = services
        self._channel = channel
        self._lock = threading.Lock()
        self._open = 0
        self._numbers = itertools.count()
        self._held: dict[int, RegisteredFamily | RegisteredMetric] = {}

    def begin(self, message: Mapping[str, Any], fds: list[int]) -> None:
        """Answer ``message`` as soon as may be; takes the descriptors over. Does not wait for the answer."""
        with self._lock:
            refused = self._open >= _MOST_OPEN
            self._open += not refused
        if refused:
            close_all(fds)
            text = f"the worker process asks more than {_MOST_OPEN} questions at a time"
            self._send({"error": text, "do": "answer", "id": message.get("id")})
            return
        try:
            threading.Thread(target=self._answer, args=(message, fds), name="question", daemon=True).start()
        except RuntimeError as error:  # there are too many threads
            close_all(fds)
            with self._lock:
                self._open -= 1
            self._send({"error": str(error), "do": "answer", "id": message.get("id")})

    def drop(self, message: Mapping[str, Any]) -> None:
        """The worker does not hold a metric any more."""
        hold = message.get("hold")
        with self._lock:
            dropped = self._held.pop(hold, None) if isinstance(hold, int) else None
        del dropped  # without the lock

    def _answer(self, message: Mapping[str, Any], fds: list[int]) -> None:
        answer: dict[str, Any] = {}
        sent: list[int] = []
        try:
            answer, sent = self._find(message, fds)
        except (PyinferError, ValueError, RuntimeError) as error:
            answer = {"error": str(error), "invalid": isinstance(error, InvalidArgument)}
        except Exception as error:
            _log.exception("a question of a worker process can not be answered")
            answer = {"error": f"the server can not answer: {type(error).__name__}"}
        finally:
            close_all(fds)
            with self._lock:
                self._open -= 1
        self._send({**answer, "do": "answer", "id": message.get("id")}, sent)

    def _send(self, answer: Mapping[str, Any], fds: Sequence[int] = ()) -> None:
        with suppress(OSError):  # the worker is gone
            self._channel.send(answer, fds)

    def _find(self, message: Mapping[str, Any], fds: list[int]) -> tuple[dict[str, Any], list[int]]:
        what = message.get("what")
        if what == "metric_family":
            return self._family(message), []
        if what == "metric":
            return self._metric(message)
        control = self._services.control
        if control is None:
            raise ValueError("models are loaded and unloaded only inside the server")
        name = _text(message, "name")
        if what == "model_ready":
            return {"ready": control.model_ready(name, _text(message, "version"))}, []
        asking = self._services.model if message.get("made") is True else ""
        if what == "unload_model":
            dependents: Any = message.get("unload_dependents")  # checked there
            control.unload_model(name, dependents, asking=asking)
        elif what == "load_model":
            control.load_model(name, {**_texts(message), **_files(message, fds)}, asking=asking)
        else:
            raise ValueError("an unknown question")
        return {}, []

    def _family(self, message: Mapping[str, Any]) -> dict[str, Any]:
        family = register(_text(message, "name"), _text(message, "text"), MetricKind(_number(message, "kind")))
        return {"hold": self._hold(family)}

    def _metric(self, message: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
        number = message.get("family")
        with self._lock:
            family = self._held.get(number) if isinstance(number, int) else None
        labels, bounds = message.get("labels"), message.get("bounds")
        if not isinstance(family, RegisteredFamily) or not isinstance(labels, dict) or not isinstance(bounds, list):
            raise ValueError("a metric of no family")
        memory = self._services.metric_memory()
        metric = family.metric(labels, [float(bound) for bound in bounds], memory)
        return {"hold": self._hold(metric), "first": metric.first, "bounds": metric.bounds}, [memory.values.fileno()]

    def _hold(self, held: RegisteredFamily | RegisteredMetric) -> int:
        with self._lock:
            if len(self._held) >= _MOST_HELD:
                raise ValueError("the model has too many metrics")
            number = next(self._numbers)
            self._held[number] = held
        return number


def _text(message: Mapping[str, Any], key: str) -> str:
    value = message.get(key)
    if not isinstance(value, str):
        raise ValueError(f"'{key}' must be a text")
    return value


def _number(message: Mapping[str, Any], key: str) -> int:
    value = message.get(key)
    if not isinstance(value, int):
        raise ValueError(f"'{key}' must be a number")
    return value


def _texts(message: Mapping[str, Any]) -> dict[str, Any]:
    texts = message.get("texts")
    if not isinstance(texts, dict):
        raise ValueError("parameters must be a dict")
    return texts


def _files(message: Mapping[str, Any], fds: list[int]) -> dict[str, bytes]:
    """The contents of files, one behind the other in a file that came along."""
    wanted = message.get("files")
    if not wanted:
        return {}
    if not isinstance(wanted, list) or not fds:
        raise ValueError("files that are not there")
    status = os.fstat(fds[0])
    left = status.st_size if stat.S_ISREG(status.st_mode) else 0
    files: dict[str, bytes] = {}
    offset = 0
    for entry in wanted:
        name, size = entry if isinstance(entry, list) and len(entry) == 2 else (None, None)
        if not isinstance(name, str) or not isinstance(size, int) or not 0 <= size <= left:
            raise ValueError("files that are not there")
        parts = bytearray()
        while len(parts) < size and (part := os.pread(fds[0], size - len(parts), offset + len(parts))):
            parts += part
        files[name] = bytes(parts)
        offset, left = offset + size, left - size
    return files
