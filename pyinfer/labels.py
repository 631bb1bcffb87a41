# SPDX-License-Identifier: Apache-2.0
"""The label file of an output: what the classes of the classification extension are called.

It is read below the model's directory alone: what a client writes into a configuration that it uploads must not make
the server read anything else. It does NOT keep anything.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pyinfer.errors import ConfigError

__all__ = ["read_labels"]

#: far more than the million classes that an output may have need
_MAX_BYTES = 64 << 20


def read_labels(directory: Path, name: str) -> list[bytes]:
    """The lines of file ``name`` in the model's ``directory``: one label for each index, which may be empty.

    Raises ConfigError where the file does not exist, is no regular file, is larger than 64 MiB, or where its path leads
    out of ``directory``, also by a link.
    """
    try:
        path = (directory / name).resolve(strict=True)
        if not path.is_relative_to(directory.resolve(strict=True)):
            raise ConfigError(f"label file '{name}' is not inside the model directory")
        # not waiting: opening a pipe would
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                raise ConfigError(f"label file '{name}' is not a regular file of at most {_MAX_BYTES} bytes")
            text = file.read(_MAX_BYTES)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; links that lead in a circle
        reason = error.strerror if isinstance(error, OSError) else "the path is malformed"
        raise ConfigError(f"failed to read label file '{name}': {reason}") from None
    return text.removesuffix(b"\n").split(b"\n") if text else []
