# SPDX-License-Identifier: Apache-2.0
"""Files that a model configuration names beside the model itself: labels, and data of tensors.

They are read below the model's directory alone: what a client writes into a configuration that it uploads must not make
the server read anything else. It does NOT keep anything.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from pyinfer.errors import ConfigError

__all__ = ["NUMPY_TYPES", "data_size", "model_digest", "read_labels", "read_model_file", "read_tensor", "wire_type"]

#: far more than the million classes that an output may have need
_MOST_LABEL_BYTES = 64 << 20
_MOST_DATA_BYTES = 4 << 30

#: data types of configurations whose elements have a fixed size; BF16 as the bits that it is
NUMPY_TYPES = {
    "TYPE_BOOL": "?",
    "TYPE_UINT8": "u1",
    "TYPE_UINT16": "<u2",
    "TYPE_UINT32": "<u4",
    "TYPE_UINT64": "<u8",
    "TYPE_INT8": "i1",
    "TYPE_INT16": "<i2",
    "TYPE_INT32": "<i4",
    "TYPE_INT64": "<i8",
    "TYPE_FP16": "<f2",
    "TYPE_FP32": "<f4",
    "TYPE_FP64": "<f8",
    "TYPE_BF16": "<u2",
}


def read_labels(directory: Path, name: str) -> list[bytes]:
    """The lines of file ``name`` in the model's ``directory``: one label for each index, which may be empty.

    Raises ConfigError as :func:`read_model_file` does.
    """
    text = read_model_file(directory, name, "label file", _MOST_LABEL_BYTES)
    return text.removesuffix(b"\n").split(b"\n") if text else []


def read_model_file(directory: Path, name: str, noun: str, most_bytes: int = _MOST_DATA_BYTES) -> bytes:
    """The content of file ``name`` in the model's ``directory``; ``noun`` is what errors call it.

    Raises ConfigError where the file does not exist, is no regular file, is larger than ``most_bytes``, or where its
    path leads out of ``directory``, also by a link.
    """
    try:
        path = (directory / name).resolve(strict=True)
        if not path.is_relative_to(directory.resolve(strict=True)):
            raise ConfigError(f"{noun} '{name}' is not inside the model directory")
        # not waiting: opening a pipe would
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_size > most_bytes:
                raise ConfigError(f"{noun} '{name}' is not a regular file of at most {most_bytes} bytes")
            return file.read(most_bytes)
    except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name; links that lead in a circle
        reason = error.strerror if isinstance(error, OSError) else "the path is malformed"
        raise ConfigError(f"failed to read {noun} '{name}': {reason}") from None


def read_tensor(
    directory: Path, folder: str, name: str, noun: str, tensor: tuple[str, Sequence[int]], too_short: str
) -> bytes:
    """The data of a tensor (data type, dims) from file ``name`` in ``folder`` of the model; of texts, the whole file.

    Raises ConfigError as :func:`read_model_file` does, and where the file is too short: then with ``too_short``, in
    which ``{size}``, ``{name}`` and ``{found}`` are filled in.
    """
    data = read_model_file(directory, f"{folder}/{name}", noun)
    if tensor[0] == "TYPE_STRING":
        return data
    size = data_size(*tensor)
    if len(data) < size:
        raise ConfigError(too_short.format(size=size, name=name, found=len(data)))
    return data[:size]


def wire_type(data_type: str) -> str:
    """The name that the protocol has for a data type of configurations."""
    name = data_type.removeprefix("TYPE_")
    return "BYTES" if name == "STRING" else name


def data_size(data_type: str, dims: Sequence[int]) -> int:
    """Bytes of a tensor in the form of the wire; where it is of texts, of empty ones. ``dims`` are not negative."""
    if data_type == "TYPE_STRING":
        return prod(dims) * 4  # an empty text is its length alone
    import numpy as np  # a server whose models do without is up sooner, and smaller

    return prod(dims) * np.dtype(NUMPY_TYPES[data_type]).itemsize


def model_digest(directory: Path, version: int, config: Mapping[str, Any]) -> str:
    """A text that is another one where the configuration or a file of the model changes, and the same on any machine.

    Counts all files below ``directory`` but those of other versions, and what Python leaves beside them. Raises
    ConfigError where one can not be read.
    """
    digest = hashlib.blake2b(digest_size=32)
    digest.update(json.dumps(config, sort_keys=True, default=repr).encode())
    seen: set[tuple[int, int]] = set()
    try:
        for folder, folders, names in os.walk(directory, followlinks=True):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in seen:
                folders.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            top = folder == str(directory)
            folders[:] = sorted(
                name
                for name in folders
                if name != "__pycache__" and not (top and name.isdigit() and name != str(version))
            )
            for path in (Path(folder, name) for name in sorted(names)):
                if not path.is_file():
                    continue
                digest.update(json.dumps([str(path.relative_to(directory)), path.stat().st_size]).encode())
                with path.open("rb") as file:
                    while chunk := file.read(1 << 20):
                        digest.update(chunk)
    except OSError as error:
        raise ConfigError(f"a file of the model can not be read: {error.strerror}") from error
    return digest.hexdigest()
