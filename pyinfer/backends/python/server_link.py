# SPDX-License-Identifier: Apache-2.0
"""What the code of a model asks the server for from within a worker process, beside calls of other models.

A question is an object on the channel, and so is its answer; the thread that asks waits. ``worker`` reads the channel
and hands the answers in. Any thread.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Mapping, Sequence
from queue import SimpleQueue
from typing import Any

from pyinfer._core import SharedValues
from pyinfer.backends.python.channel import Channel
from pyinfer.backends.python.metric_registry import MetricKind
from pyinfer.errors import InvalidArgument, ModelError

__all__ = ["ServerControl", "ServerLink", "ServerMetrics"]

_Answer = tuple[dict[str, Any], list[int]]


class _InvalidQuestion(ValueError):
    """The fault is the question's."""


class ServerLink:
    """The way to the server."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, SimpleQueue[_Answer]] = {}

    def ask(self, what: str, fds: Sequence[int] = (), **fields: Any) -> _Answer:
        """The answer, and the descriptors that came with it. Waits. Raises ValueError with why there is none."""
        answers: SimpleQueue[_Answer] = SimpleQueue()
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = answers
        self._channel.send({"event": "ask", "id": number, "what": what, **fields}, fds)
        message, received = answers.get()
        if message.get("error") is not None:
            raise (_InvalidQuestion if message.get("invalid") else ValueError)(str(message["error"]))
        return message, received

    def answered(self, message: dict[str, Any], fds: list[int]) -> None:
        """To be called with each answer."""
        with self._lock:
            waiting = self._waiting.pop(message["id"], None)
        if waiting is not None:
            waiting.put((message, fds))

    def tell(self, message: Mapping[str, Any]) -> None:
        self._channel.send(message)


class ServerControl:
    """Loads and unloads models of the server; see ``pyinfer.backends.base.ModelControl``."""

    def __init__(self, link: ServerLink) -> None:
        self._link = link

    def load_model(self, name: str, parameters: Mapping[str, Any] | None = None, *, asking: str = "") -> None:
        texts = {key: value for key, value in (parameters or {}).items() if not isinstance(value, bytes)}
        files = {key: value for key, value in (parameters or {}).items() if isinstance(value, bytes)}
        sizes = [[key, len(value)] for key, value in files.items()]
        memory = os.memfd_create("pyinfer-files", os.MFD_CLOEXEC) if files else -1
        try:
            for value in files.values():
                rest = memoryview(value)
                while rest:
                    rest = rest[os.write(memory, rest) :]
            self._ask("load_model", [memory] if files else [], name=name, texts=texts, files=sizes, made=bool(asking))
        finally:
            if memory >= 0:
                os.close(memory)

    def unload_model(self, name: str, unload_dependents: bool = False, *, asking: str = "") -> None:
        self._ask("unload_model", name=name, unload_dependents=unload_dependents, made=bool(asking))

    def model_ready(self, name: str, version: str = "") -> bool:
        return self._ask("model_ready", name=name, version=version).get("ready") is True

    def _ask(self, what: str, fds: Sequence[int] = (), **fields: Any) -> dict[str, Any]:
        try:
            return self._link.ask(what, fds, **fields)[0]
        except ValueError as error:
            raise (InvalidArgument if isinstance(error, _InvalidQuestion) else ModelError)(str(error)) from None


class ServerMetrics:
    """Makes metrics of the server, whose numbers are in memory that all workers of the model share."""

    def __init__(self, link: ServerLink) -> None:
        self._link = link
        self._lock = threading.Lock()
        self._values: SharedValues | None = None
        #: what was let go of, perhaps by a garbage collection while the channel was being written to
        self._dropped: SimpleQueue[int] = SimpleQueue()
        self._telling: threading.Thread | None = None

    def family(self, name: str, text: str, kind: MetricKind) -> _Family:
        answer, _ = self._link.ask("metric_family", name=name, text=text, kind=int(kind))
        with self._lock:
            if self._telling is None:
                self._telling = threading.Thread(target=self._tell, name="metrics", daemon=True)
                self._telling.start()
        return _Family(self, int(answer["hold"]))

    def metric(self, family: _Family, labels: Mapping[str, object], bounds: Sequence[float]) -> _Metric:
        answer, fds = self._link.ask("metric", family=family.hold, labels=_plain(labels), bounds=list(bounds))
        with self._lock:
            if self._values is None:
                self._values = SharedValues(fds.pop())
        for descriptor in fds:
            os.close(descriptor)
        return _Metric(self, family, self._values, answer)

    def drop(self, hold: int) -> None:
        self._dropped.put(hold)

    def _tell(self) -> None:
        while True:
            self._link.tell({"event": "drop", "hold": self._dropped.get()})


class _Family:
    def __init__(self, server: ServerMetrics, hold: int) -> None:
        self._server = server
        self.hold = hold

    def __del__(self) -> None:
        self._server.drop(self.hold)

    def place(self, labels: Mapping[str, object], bounds: Sequence[float]) -> _Metric:
        return self._server.metric(self, labels, bounds)


class _Metric:
    def __init__(self, server: ServerMetrics, family: _Family, values: SharedValues, answer: Mapping[str, Any]) -> None:
        self.values = values
        self.first = int(answer["first"])
        self.bounds = tuple(float(bound) for bound in answer["bounds"])
        self._family = family
        self._server = server
        self._hold = int(answer["hold"])

    def __del__(self) -> None:
        self._server.drop(self._hold)


def _plain(labels: Mapping[str, object]) -> dict[str, object]:
    """What JSON can hold; what is no text is refused by the server, whatever it is."""
    return {str(name): value if isinstance(value, str) else 0 for name, value in labels.items()}
