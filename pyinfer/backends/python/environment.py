# SPDX-License-Identifier: Apache-2.0
"""The environment that a model brings along: a directory, or an archive that is unpacked once.

An archive is unpacked to a directory that is named by the SHA-256 of its contents, below the user's cache directory, so
that all models and servers that use it share it. Nothing in an archive reaches beyond that directory: absolute names,
``..``, links that lead out, devices and pipes are refused.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from pyinfer.errors import ModelError

__all__ = ["find_environment"]

_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
_CHUNK_BYTES = 1 << 20


def find_environment(setting: str, model_directory: Path) -> Path | None:
    """The directory of the environment that EXECUTION_ENV_PATH names; None where ``setting`` is empty.

    ``$$TRITON_MODEL_DIRECTORY`` stands for the model's directory, to which other names are relative. Raises ModelError.
    """
    if not setting:
        return None
    path = model_directory.absolute() / setting.replace(_MODEL_DIRECTORY, str(model_directory.absolute()))
    if path.is_dir():
        return path
    if not path.is_file():
        raise ModelError(f"EXECUTION_ENV_PATH '{setting}' is neither a directory nor a file")
    try:
        return _unpacked(path)
    except (tarfile.TarError, EOFError, ValueError, TypeError) as error:
        raise ModelError(f"EXECUTION_ENV_PATH '{setting}' can not be unpacked: {type(error).__name__}") from error
    except OSError as error:
        text = error.strerror or type(error).__name__
        raise ModelError(f"EXECUTION_ENV_PATH '{setting}' can not be unpacked: {text}") from error


def _cache_directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base, "pyinfer", "environments")
    try:
        return Path.home() / ".cache" / "pyinfer" / "environments"
    except RuntimeError:
        raise ModelError("there is no home directory to unpack EXECUTION_ENV_PATH in: set XDG_CACHE_HOME") from None


def _unpacked(archive: Path) -> Path:
    cache = _cache_directory()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with archive.open("rb") as file:
        digest = hashlib.sha256()
        while part := file.read(_CHUNK_BYTES):
            digest.update(part)
        directory = cache / digest.hexdigest()
        if directory.is_dir():
            return directory
        file.seek(0)
        incoming = Path(tempfile.mkdtemp(prefix="incoming-", dir=cache))
        try:
            with tarfile.open(fileobj=file) as tar:
                tar.extractall(incoming, filter="data")
            incoming.rename(directory)
        except BaseException as error:
            shutil.rmtree(incoming, ignore_errors=True)
            if isinstance(error, OSError) and directory.is_dir():  # another server was faster
                return directory
            raise
    return directory
