# SPDX-License-Identifier: Apache-2.0
"""The exceptions of pyinfer, by whose fault it is.

::

    PyinferError
    ├── RequestError       the client's or operator's fault: bad argument, unknown name
    │   ├── InvalidArgument
    │   │   ├── ConfigError        a model configuration; knows file, line and field
    │   │   └── InvalidLogFormat
    │   ├── NotFound
    │   ├── AlreadyExists
    │   └── Unsupported
    ├── Unavailable        nobody's fault: not ready, stopping, over capacity; try again
    ├── ModelError         the model's or backend's fault
    └── InternalError      our fault; please report

``code`` is the name of the Triton error code; ``pyinfer._core.error_table()`` maps it to HTTP and gRPC statuses.
The text of an exception may be sent to a client, so it never holds a path of the server outside its model repositories.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AlreadyExists",
    "ConfigError",
    "InternalError",
    "InvalidArgument",
    "InvalidLogFormat",
    "ModelError",
    "NotFound",
    "PyinferError",
    "RequestError",
    "Unavailable",
    "Unsupported",
    "error_of",
]


_LONGEST_REASON = 2000


class PyinferError(Exception):
    """Base of all errors that pyinfer raises on purpose."""

    code: ClassVar[str] = "INTERNAL"
    #: the code of the answer over HTTP where Triton has another one there; empty where it is ``code``
    http_code: ClassVar[str] = ""


class RequestError(PyinferError):
    """The caller asked for something that can not be done; asking again will not help."""

    code = "INVALID_ARG"


class InvalidArgument(RequestError):
    """An argument is malformed or out of range."""


class ConfigError(InvalidArgument):
    """A model configuration is wrong.

    ``file`` is relative to the model repository; ``line`` and ``column`` count from 1; ``field`` is a path such as
    ``input[0].dims``. Each is None where unknown. ``reason`` is the text without file, line and column.
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        column: int | None = None,
        field: str | None = None,
    ) -> None:
        if len(message) > _LONGEST_REASON:  # it repeats what a file or a client says
            message = f"{message[:_LONGEST_REASON]}..."
        self.reason = message
        self.file, self.line, self.column, self.field = file, line, column, field
        place = ":".join(str(part) for part in (file, line, column) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)


class InvalidLogFormat(InvalidArgument):
    """There is no such form of log lines."""

    http_code = "UNAVAILABLE"


class NotFound(RequestError):
    """No such model, version or endpoint."""

    code = "NOT_FOUND"


class AlreadyExists(RequestError):
    """The name is taken."""

    code = "ALREADY_EXISTS"


class Unsupported(RequestError):
    """A known feature that this server or model does not offer."""

    code = "UNSUPPORTED"


class Unavailable(PyinferError):
    """Not now: the model is not ready, the server is stopping, or a limit is reached."""

    code = "UNAVAILABLE"


class ModelError(PyinferError):
    """A model or backend failed: it could not be loaded, raised, or broke its contract."""


class InternalError(PyinferError):
    """A promise inside pyinfer was broken. Please report it."""


def error_of(code: str, message: str) -> PyinferError:
    """The error that a code of the core stands for; an InternalError for one that has none of its own."""
    kinds = (InvalidArgument, NotFound, AlreadyExists, Unsupported, Unavailable)
    return next((kind(message) for kind in kinds if kind.code == code), InternalError(message))
