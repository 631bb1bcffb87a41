# SPDX-License-Identifier: Apache-2.0
"""A directory of what was read from object stores, by content; it outlives the server and may be shared by several.

::

    objects/ab/abcd...    contents, named by their SHA-256; never changed once there
    index/12/1234...      which contents an object has: the name is the SHA-256 of the object's identity
    incoming/             what is being written

Everything appears by rename, so that a reader sees whole files only. Contents are checked whenever they are used, and
what is damaged is read from the store again. Servers share a directory without talking: a file that another one has
removed is a miss, and a file that is open stays readable.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from pyinfer.errors import InvalidArgument, ModelError

__all__ = ["ObjectCache", "default_cache_directory"]

_log = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
#: what nobody has written to for that long was left by a server that was killed
_ABANDONED_S = 24 * 3600


def default_cache_directory() -> Path:
    """``$XDG_CACHE_HOME/pyinfer``, or ``~/.cache/pyinfer``. Raises InvalidArgument where there is no home directory."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if base and Path(base).is_absolute():
        return Path(base, "pyinfer")
    try:
        return Path.home() / ".cache" / "pyinfer"
    except RuntimeError:
        raise InvalidArgument("there is no home directory for the cache: give --repository-cache-directory") from None


class ObjectCache:
    """One cache directory. Any thread."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        """``max_bytes`` bounds the contents that are kept; while a model is fetched there may be more. 0 keeps nothing.

        Raises InvalidArgument where the directory can not be made or written.
        """
        self._objects, self._index = directory / "objects", directory / "index"
        self._incoming, self._lock_file = directory / "incoming", directory / "lock"
        self._max_bytes = max_bytes
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self._objects, self._index, self._incoming):
                folder.mkdir(mode=0o700, exist_ok=True)
            self._lock_file.touch(mode=0o600)
        except OSError as error:
            raise InvalidArgument(f"can not use the cache directory '{directory}': {error.strerror}") from error

    def copy(self, identity: str, size: int, target: Path, read: Callable[[], Iterable[bytes]]) -> bool:
        """Write to ``target``, a new file, what the object ``identity`` holds; True where ``read`` was not needed.

        ``identity`` names the object and changes with its contents, of which there are ``size`` bytes. ``read`` gives
        them. Raises ModelError where the sizes differ or the disk is full, and what ``read`` raises.
        """
        if size > self._max_bytes:
            _write_new(target, size, read())
            return False
        digest = self._known(identity)
        if digest is not None and self._copy_checked(digest, size, target):
            return True
        digest = self._add(identity, size, read())
        if not self._copy_checked(digest, size, target):
            # another server, with a smaller bound, has removed it already
            _write_new(target, size, read())
        return False

    def trim(self) -> None:
        """Remove what was not used for the longest time until the bound holds, and what was left half written.

        Does nothing while another server does the same.
        """
        with self._lock_file.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._remove_abandoned()
            self._remove_oldest()

    # Implementation details follow.

    def _known(self, identity: str) -> str | None:
        try:
            digest = self._index_file(identity).read_text()
        except (OSError, UnicodeDecodeError):
            return None
        is_digest = len(digest) == 64 and all(sign in "0123456789abcdef" for sign in digest)
        return digest if is_digest else None

    def _add(self, identity: str, size: int, chunks: Iterable[bytes]) -> str:
        """Keep ``chunks``; their digest."""
        name = Path(tempfile.mkdtemp(dir=self._incoming), "object")
        try:
            digest = _write_new(name, size, chunks)
            name.chmod(0o400)
            _publish(name, self._object_file(digest))
            index = name.with_name("index")
            index.write_text(digest)
            _publish(index, self._index_file(identity))
        except OSError as error:
            raise _disk_error(error) from error
        finally:
            shutil.rmtree(name.parent, ignore_errors=True)
        return digest

    def _copy_checked(self, digest: str, size: int, target: Path) -> bool:
        """Copy contents to ``target`` and check what arrived; False, and nothing there, where it is not them."""
        place = self._object_file(digest)
        try:
            source = place.open("rb", buffering=0)
        except OSError:
            return False
        try:
            with source, target.open("xb+", buffering=0) as copy:
                _copy_bytes(source, copy)
                if _measure(copy) == (size, digest):
                    with suppress(OSError):
                        os.utime(place)  # the last use, by which trim() goes
                    return True
        except OSError as error:
            target.unlink(missing_ok=True)
            raise _disk_error(error) from error
        _log.warning("the cached object %s is damaged and is removed", digest)
        target.unlink(missing_ok=True)
        place.unlink(missing_ok=True)
        return False

    def _remove_abandoned(self) -> None:
        for path in self._incoming.iterdir():
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _ABANDONED_S:
                    shutil.rmtree(path, ignore_errors=True)

    def _remove_oldest(self) -> None:
        files = []
        for path in self._objects.glob("*/*"):
            with suppress(OSError):
                status = path.stat()
                files.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in files) - self._max_bytes
        for _, size, path in sorted(files):
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= size
        for entry in self._index.glob("*/*"):
            with suppress(OSError):
                if not self._object_file(entry.read_text()).exists():
                    entry.unlink()

    def _object_file(self, digest: str) -> Path:
        return self._objects / digest[:2] / digest

    def _index_file(self, identity: str) -> Path:
        name = hashlib.sha256(identity.encode(errors="surrogateescape")).hexdigest()
        return self._index / name[:2] / name


def _write_new(target: Path, size: int, chunks: Iterable[bytes]) -> str:
    """Write ``chunks`` to ``target``, a new file; their digest. Nothing is left there where that fails."""
    free = shutil.disk_usage(target.parent).free
    if size > free:
        raise ModelError(f"an object of {size} bytes does not fit: the disk has {free} bytes left")
    hashed, written = hashlib.sha256(), 0
    try:
        with target.open("xb") as file:
            for chunk in chunks:
                written += len(chunk)
                if written > size:
                    break
                hashed.update(chunk)
                file.write(chunk)
        if written != size:
            raise ModelError(f"an object of {size} bytes has {'more' if written > size else f'only {written}'}")
    except BaseException as error:
        target.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise _disk_error(error) from error
        raise
    return hashed.hexdigest()


def _publish(file: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o700, exist_ok=True)
    file.rename(place)


def _copy_bytes(source: BinaryIO, target: BinaryIO) -> None:
    """Copy a whole file; on file systems that can, both share their blocks."""
    try:
        while os.copy_file_range(source.fileno(), target.fileno(), 1 << 30):
            pass
    except OSError:
        # not between these two file systems; both stand where the copy ended
        shutil.copyfileobj(source, target, _CHUNK_BYTES)


def _measure(file: BinaryIO) -> tuple[int, str]:
    """Size and digest of a file, from its start."""
    file.seek(0)
    hashed, size = hashlib.sha256(), 0
    while chunk := file.read(_CHUNK_BYTES):
        hashed.update(chunk)
        size += len(chunk)
    return size, hashed.hexdigest()


def _disk_error(error: OSError) -> ModelError:
    return ModelError(f"the model could not be written to disk: {error.strerror or type(error).__name__}")
