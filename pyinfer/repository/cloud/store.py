# SPDX-License-Identifier: Apache-2.0
"""Lists and reads one place in an object store, and says in few words what went wrong.

An error text may reach a client: it names the object below the repository, and neither URL nor credential. The log has
what the store answered.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.repository.cloud.credentials import GcsCredential, find_credential
from pyinfer.repository.cloud.location import Location
from pyinfer.repository.cloud.open import has_google_credentials, open_store

__all__ = ["Failure", "ObjectInfo", "ObjectStore", "StoreError"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_CHUNK_BYTES = 1 << 20
_STATUS = re.compile(r"non-2xx status code: (?P<status>\d+) (?P<words>[A-Za-z -]+)")
_CODE = re.compile(r"<Code>(?P<code>\w+)</Code>")
_DENIED = (401, 403)


class Failure(Enum):
    """Why a store did not give what was asked for."""

    #: the credentials are missing or wrong
    DENIED = "denied"
    #: there is no such bucket or object
    MISSING = "missing"
    #: the object was written anew since it was listed
    CHANGED = "changed"
    #: an object has a key that no file can have
    BAD_KEY = "bad key"
    #: no answer, or none that helps
    UNREACHABLE = "unreachable"


class StoreError(ModelError):
    """An object store did not give what was asked for. Trying again may help."""

    def __init__(self, text: str, kind: Failure) -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class ObjectInfo:
    """One object as a listing tells of it."""

    #: names joined by ``/``, below the place that was listed
    key: str
    size: int
    #: of the store, without quotes; changes with the contents
    etag: str
    modified: datetime

    @property
    def mark(self) -> str:
        """Changes when the object is written anew."""
        return f"{self.size}|{self.etag}|{self.modified.isoformat()}"


class ObjectStore:
    """One place in an object store. Any thread."""

    def __init__(self, location: Location) -> None:
        """Opens no connection. Raises InvalidArgument where a package is missing or a setting can not be used."""
        self.location = location
        self._is_anonymous = False
        self._store: Any = self._open()

    def identity(self, info: ObjectInfo) -> str:
        """Names the object with its contents; the same for all URLs that lead to it."""
        place = self.location
        return "|".join((place.scheme, place.endpoint, place.account, place.bucket, self._key(info.key), info.mark))

    def objects(self, below: str = "") -> list[ObjectInfo]:
        """All objects, or those below the name ``below``, in the order of their keys. Raises StoreError."""
        prefix = self._key(below)
        strip = len(self.location.prefix) + 1 if self.location.prefix else 0
        found = self._ask(below, lambda store: store.list(prefix or None, chunk_size=1000).collect())
        return sorted((_info(meta, meta["path"][strip:]) for meta in found), key=lambda info: info.key)

    def names(self) -> list[str]:
        """The first names of all keys that have more than one: what would be directories. Raises StoreError."""
        found = self._ask("", lambda store: store.list_with_delimiter(self.location.prefix or None))
        return sorted(str(prefix).rpartition("/")[2] for prefix in found["common_prefixes"])

    def read(self, wanted: ObjectInfo) -> Iterator[bytes]:
        """The contents of the object, as it was listed.

        Raises StoreError, also in between, where it is gone, was written anew, or breaks off.
        """
        result = self._ask(wanted.key, lambda store: store.get(self._key(wanted.key)))
        now = _info(result.meta, wanted.key)
        if (now.size, now.etag) != (wanted.size, wanted.etag):
            raise StoreError(f"'{wanted.key}' was changed while the model was fetched; try again", Failure.CHANGED)
        stream = iter(result.stream(min_chunk_size=_CHUNK_BYTES))
        while True:
            try:
                chunk = next(stream)
            except StopIteration:
                return
            except Exception as error:
                raise self._translated(error, wanted.key) from error
            yield bytes(chunk)

    def _key(self, below: str) -> str:
        return "/".join(filter(None, (self.location.prefix, below)))

    def _open(self) -> Any:
        credential = find_credential(self.location, os.environ)
        return open_store(self.location, credential, anonymous=self._is_anonymous)

    def _ask(self, key: str, question: Callable[[Any], _T]) -> _T:
        try:
            return question(self._store)
        except Exception as error:
            failure = self._translated(error, key)
            if not self._reopened(failure):
                raise failure from error
        try:
            return question(self._store)
        except Exception as error:
            raise self._translated(error, key) from error

    def _reopened(self, failure: StoreError) -> bool:
        """Open the store once more where that may help."""
        try:
            if not self._can_do_better(failure):
                return False
            self._store = self._open()
        except InvalidArgument as error:  # its text is for the operator, and names files
            _log.error("object store '%s': %s", self.location.url, error)
            return False
        return True

    def _can_do_better(self, failure: StoreError) -> bool:
        """Whether other credentials may help: they are exchanged while a server runs, or not needed at all."""
        could_sign = failure.kind in (Failure.DENIED, Failure.UNREACHABLE) and not self._is_anonymous
        if self.location.scheme == "gs" and could_sign:
            credential = find_credential(self.location, os.environ)
            if isinstance(credential, GcsCredential) and not has_google_credentials(credential):
                self._is_anonymous = True  # where the machine has none either, the bucket may be public
                return True
        return failure.kind is Failure.DENIED

    def _translated(self, error: Exception, key: str) -> StoreError:
        import obstore.exceptions as kinds

        text = str(error)
        first_line = text.partition("\n")[0]
        _log.warning("object store '%s', '%s': %s", self.location.url, key, text.partition("\n\n")[0])
        what = f"'{key}' of the model repository" if key else "the model repository"
        status = _STATUS.search(text)
        code = _CODE.search(text)
        answer = f"{status['status']} {status['words'].strip()}" if status else ""
        answer += f" ({code['code']})" if code else ""
        denied = isinstance(error, kinds.PermissionDeniedError | kinds.UnauthenticatedError)
        if denied or (status and int(status["status"]) in _DENIED):
            reason = answer or "the credentials are missing or wrong"
            return StoreError(f"access to {what} was denied: {reason}", Failure.DENIED)
        if isinstance(error, kinds.InvalidPathError):
            reason = first_line.replace(f"{self.location.prefix}/", "", 1) if self.location.prefix else first_line
            return StoreError(f"{what} has an object that can be no file: {reason}", Failure.BAD_KEY)
        if isinstance(error, FileNotFoundError) or (status and status["status"] == "404"):
            return StoreError(f"{what} is not in the object store: {answer or 'not found'}", Failure.MISSING)
        if status:
            return StoreError(f"{what} could not be read: the object store answered {answer}", Failure.UNREACHABLE)
        reason = "the object store can not be reached, or broke off"
        return StoreError(f"{what} could not be read: {reason}", Failure.UNREACHABLE)


def _info(meta: Any, key: str) -> ObjectInfo:
    # listings of some stores have the tag without the quotes that an answer has
    return ObjectInfo(key, meta["size"], (meta["e_tag"] or "").strip('"'), meta["last_modified"])
