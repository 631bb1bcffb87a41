# SPDX-License-Identifier: Apache-2.0
"""A worker process: one instance of a Python model, executed for a server.

Started by :mod:`pyinfer.backends.python.process` with one descriptor, a socket. What it is to load comes over it; the
batches come through shared memory. It ends when the server wants it to, and at once when the server is gone. Lean: it
imports what executing a model needs, and nothing of the server.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyinfer.backends.python.channel import Channel

if TYPE_CHECKING:
    from pyinfer.backends.python.server_link import ServerLink

__all__ = ["main"]


def main(descriptor: int, parent: int) -> None:
    """Do what the server that has the other end of ``descriptor``, process ``parent``, asks for, until it is done."""
    channel = Channel(socket.socket(fileno=descriptor))
    try:
        from pyinfer._core import end_with_parent

        end_with_parent(parent)
        channel.send({"event": "hello"})
        wanted, fds = channel.receive(6)
        if wanted is None:
            return
        _send_log(channel, int(wanted["log_level"]))
        if wanted["do"] == "complete":
            _complete(channel, wanted)
        else:
            _execute(channel, wanted, fds)
    except BaseException as error:
        # what can still be said; the process ends in any case
        channel.send({"event": "failed", "error": f"{type(error).__name__}: {error}"})
        raise


def _execute(channel: Channel, wanted: Mapping[str, Any], fds: list[int]) -> None:
    from pyinfer._core import WorkerCalls, WorkerGuest
    from pyinfer.backends.base import InstanceContext, ModelContext
    from pyinfer.backends.python import metrics
    from pyinfer.backends.python.backend import InProcessBackend
    from pyinfer.backends.python.server_link import ServerControl, ServerLink, ServerMetrics
    from pyinfer.errors import PyinferError

    guest = WorkerGuest(fds[0], fds[1], fds[4], fds[5])
    link = ServerLink(channel)
    metrics.use(ServerMetrics(link))
    hooks: list[Any] = []
    threading.Thread(target=_listen, args=(channel, link, hooks), name="server", daemon=True).start()
    threading.current_thread().name = wanted["instance"]["name"]
    model = ModelContext(
        wanted["model"]["name"],
        wanted["model"]["version"],
        Path(wanted["model"]["directory"]),
        wanted["model"]["config"],
        engine=WorkerCalls(fds[2], fds[3], lambda: channel.send({"event": "calls"})),
        control=ServerControl(link),
    )
    try:
        backend = InProcessBackend(model)
        instance = backend.make_instance(InstanceContext(**wanted["instance"]))
    except PyinferError as error:
        channel.send({"event": "failed", "error": str(error)})
        return
    if wanted["nice"]:
        # Not before: a worker that yields to all others may never get as far on a machine that is busy. All of its
        # threads, and the processes that the model has started, have it from here on.
        os.setpriority(os.PRIO_PGRP, 0, wanted["nice"])
    hook = getattr(instance, "is_ready", None)
    hooks.append(hook)
    channel.send({"event": "started", "is_ready": hook is not None})
    guest.serve(instance.execute)
    instance.close()
    backend.close()


def _complete(channel: Channel, wanted: Mapping[str, Any]) -> None:
    from pyinfer.backends.python.backend import InProcessBackend
    from pyinfer.errors import ConfigError, PyinferError

    try:
        config = InProcessBackend.auto_complete(Path(wanted["directory"]), wanted["config"], {})
    except PyinferError as error:
        fault = "config" if isinstance(error, ConfigError) else "model"
        channel.send({"event": "failed", "error": str(error), "fault": fault})
    else:
        channel.send({"event": "completed", "config": config})


def _listen(channel: Channel, link: ServerLink, hooks: list[Any]) -> None:
    """Hear what the server says, and end with it. ``hooks``: the model's ``is_ready``, once it is loaded."""
    try:
        while True:
            message, fds = channel.receive()
            if message is None:
                return
            if message["do"] == "answer":
                link.answered(message, fds)
            elif message["do"] == "ready":
                threading.Thread(target=_tell_ready, args=(channel, hooks[0], message["id"]), daemon=True).start()
            elif message["do"] == "log":
                logging.getLogger("pyinfer").setLevel(message["level"])
    finally:
        os._exit(1)


def _tell_ready(channel: Channel, hook: Any, question: int) -> None:
    fault = None
    ready = False
    try:
        ready = hook()
    except BaseException as error:
        fault = type(error).__name__
    channel.send({"event": "ready", "id": question, "ready": ready, "fault": fault})


class _ToServer(logging.Handler):
    """Hands lines to the server, whose settings say what becomes of them."""

    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        line = {"event": "log", "logger": record.name, "level": record.levelno, "text": self.format(record)}
        try:
            self._channel.send(line)
        except OSError:  # the server is gone, and this process is about to be
            sys.stderr.write(f"{line['text']}\n")


def _send_log(channel: Channel, level: int) -> None:
    logger = logging.getLogger("pyinfer")
    logger.addHandler(_ToServer(channel))
    logger.propagate = False
    logger.setLevel(level)
