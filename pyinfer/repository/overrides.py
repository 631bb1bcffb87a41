# SPDX-License-Identifier: Apache-2.0
"""Model directories that are made for a while: from the files of a load request, or around one bare model file.

The names in a load request come from a client: what would leave the directory is refused before anything is written.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pyinfer.errors import InvalidArgument, ModelError

__all__ = ["Lease", "bare_repository", "check_model_name", "write_override"]

#: file name suffix of a bare model file -> the name that its backend looks for in a version directory
_BARE_NAMES = {".onnx": "model.onnx", ".py": "model.py"}
#: what file systems allow for one name, in bytes, and how deep a path may go; both together keep within PATH_MAX
_MAX_NAME, _MAX_PARTS = 255, 12
#: how much of a name that a client gave is repeated to it
_SHOWN = 256


class Lease:
    """A directory that is removed when its last holder lets go. The maker is the first holder. Any thread."""

    def __init__(self, directory: Path | None) -> None:
        """``directory`` None is a lease on nothing: the holder need not know the difference."""
        self._directory = directory
        self._holders = 1
        self._lock = threading.Lock()

    def hold(self) -> Lease:
        """One holder more."""
        with self._lock:
            self._holders += 1
        return self

    def release(self) -> None:
        """One holder less; the last one removes the directory."""
        with self._lock:
            self._holders -= 1
            last = self._holders == 0
        if last and self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


def check_model_name(name: str) -> None:
    """Raise InvalidArgument unless ``name`` can be the name of a directory directly in a repository."""
    if not name or name.isspace():
        raise InvalidArgument("Model name cannot be empty. Please provide the name of a model in the repository.")
    shown = name[:_SHOWN]
    if "/" in name or "\\" in name or "\0" in name or name in (".", ".."):
        raise InvalidArgument(f"invalid model name '{shown}', model name must not contain path traversal characters")
    if not name.isprintable():  # such a name would forge lines of the log, or is no text at all
        raise InvalidArgument(f"invalid model name {shown!a}, model name must not contain control characters")
    if len(name.encode()) > _MAX_NAME:
        raise InvalidArgument(f"invalid model name '{shown}', model name must not be longer than {_MAX_NAME} bytes")


def write_override(name: str, files: Mapping[str, bytes]) -> Path:
    """Write ``files`` (path below the model's directory -> contents) into a new temporary directory and return it.

    The model directory is ``<returned>/<name>``. Raises InvalidArgument for a path that does not stay within the model
    directory, or that is both a file and a directory; nothing is left behind then.
    """
    paths = {_inner_path(key): contents for key, contents in files.items()}
    for path in paths:
        if any(parent in paths for parent in path.parents):
            shown = str(path)[:_SHOWN]
            raise InvalidArgument(f"Invalid file parameter 'file:{shown}', directory has been created as a file")
    root = Path(tempfile.mkdtemp(prefix="pyinfer-"))
    try:
        for path, contents in paths.items():
            target = root / name / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(contents)
    except OSError as error:
        shutil.rmtree(root, ignore_errors=True)
        raise ModelError(f"failed to write the files of the load request: {error.strerror}") from error
    return root


def bare_repository(file: Path) -> Path:
    """A new temporary repository with one model, named as ``file`` without its suffix, whose version 1 is ``file``.

    The file is linked, not copied. The caller removes the directory. Raises InvalidArgument where the file is missing,
    or of a kind that no backend serves without a configuration.
    """
    if file.suffix not in _BARE_NAMES:
        known = ", ".join(sorted(_BARE_NAMES))
        raise InvalidArgument(f"can not serve '{file}' by itself: the file name must end in one of {known}")
    if not file.is_file():
        raise InvalidArgument(f"can not serve '{file}': no such file")
    check_model_name(file.stem)
    root = Path(tempfile.mkdtemp(prefix="pyinfer-"))
    version = root / file.stem / "1"
    version.mkdir(parents=True)
    (version / _BARE_NAMES[file.suffix]).symlink_to(file.resolve())
    return root


def _inner_path(key: str) -> PurePosixPath:
    path = PurePosixPath(key)
    # A lone surrogate has no file name; str.isprintable is false for it and for control characters.
    if not path.parts or path.is_absolute() or ".." in path.parts or "\\" in key or not key.isprintable():
        raise InvalidArgument(f"Invalid file parameter 'file:{key[:_SHOWN]}' must stay within model directory.")
    if len(path.parts) > _MAX_PARTS or any(len(part.encode()) > _MAX_NAME for part in path.parts):
        raise InvalidArgument(
            f"Invalid file parameter 'file:{key[:_SHOWN]}', a path may have {_MAX_PARTS} parts of {_MAX_NAME} bytes"
        )
    return path
