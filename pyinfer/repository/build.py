# SPDX-License-Identifier: Apache-2.0
"""Builds the versions of a model: all of them or none, several at a time, with the retries that the operator asked for.

Publishes nothing and keeps no books. Any thread.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from pyinfer.errors import InternalError, PyinferError, Unavailable
from pyinfer.repository.contract import InstanceChange, LoadedVersion, ModelId, ModelLoader, ModelSource
from pyinfer.repository.overrides import Lease
from pyinfer.repository.plan import Identity
from pyinfer.repository.scan import ModelEntry
from pyinfer.repository.states import Served

__all__ = ["EXITING", "BuildFailed", "Origin", "VersionBuilder", "discard", "told_reason"]

_log = logging.getLogger(__name__)

EXITING = "Server exiting"


@dataclass(frozen=True)
class Origin:
    """Where a model is loaded from: the source, its fingerprints, the hold on its directory if that is temporary."""

    model: ModelId
    source: ModelSource
    entry: ModelEntry
    lease: Lease

    @property
    def fingerprint(self) -> str | None:
        """That of the files; None where they are not all that the model is made of."""
        return None if self.source.config_override is not None else self.entry.fingerprint

    def localized(self) -> Origin:
        """The same with its files at hand, and a hold on them for the caller to release. Raises ModelError."""
        directory, lease = self.entry.localize()
        if directory == self.source.directory:
            return replace(self, lease=self.lease.hold())
        return replace(self, source=replace(self.source, directory=directory), lease=lease)


class BuildFailed(Exception):
    """Nothing was built."""

    def __init__(self, reasons: Mapping[int, str]) -> None:
        super().__init__("; ".join(f"version {version}: {reason}" for version, reason in sorted(reasons.items())))
        #: version -> text for the index
        self.reasons = dict(reasons)


class VersionBuilder:
    """The threads that load model versions."""

    def __init__(self, loader: ModelLoader, *, threads: int, retries: int) -> None:
        self._loader = loader
        self._retries = retries
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="model-load")
        self._closing = threading.Event()

    @property
    def closing(self) -> bool:
        """Whether :meth:`close` was called."""
        return self._closing.is_set()

    def close(self) -> None:
        """Build nothing more; what is being built is freed as soon as it is there. Does not wait."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def build(
        self,
        origin: Origin,
        config: Mapping[str, Any],
        wanted: Mapping[int, Identity],
        steps: Sequence[LoadedVersion] = (),
    ) -> dict[int, Served]:
        """Build all of ``wanted``, version -> what it will be made of. Raises BuildFailed, leaving nothing behind.

        ``steps`` are the versions that the steps of an ensemble call.
        """
        built: dict[int, Served] = {}
        reasons: dict[int, str] = {}
        try:
            futures = {
                version: self._pool.submit(self._build, origin, config, version, identity, steps)
                for version, identity in wanted.items()
            }
        except RuntimeError:  # the pool is shut down
            raise BuildFailed(dict.fromkeys(wanted, EXITING)) from None
        for version, future in futures.items():
            try:
                error = future.exception()
            except CancelledError:
                error = Unavailable(EXITING)
            if error is None:
                built[version] = future.result()
            else:
                reasons[version] = told_reason(error, origin.model.name)
        if self.closing:
            reasons = reasons or dict.fromkeys(wanted, EXITING)
        if reasons:
            discard(built)
            raise BuildFailed(reasons)
        return built

    def adjust(self, serving: Mapping[int, Served], config: Mapping[str, Any]) -> dict[int, InstanceChange]:
        """Prepare other instances of what serves. Raises BuildFailed, leaving nothing behind."""
        changes: dict[int, InstanceChange] = {}
        try:
            for version, served in serving.items():
                changes[version] = served.handle.prepare_instances(config)
        except Exception as error:
            for change in changes.values():
                change.discard()
            failed = next(served for version, served in serving.items() if version not in changes)
            raise BuildFailed({failed.version: told_reason(error, failed.name)}) from error
        return changes

    def _build(
        self,
        origin: Origin,
        config: Mapping[str, Any],
        version: int,
        identity: Identity,
        steps: Sequence[LoadedVersion],
    ) -> Served:
        for attempts_left in range(self._retries, -1, -1):
            started = time.monotonic()
            try:
                handle = self._loader.load(origin.source, config, version, steps)
                break
            except Exception as error:
                if attempts_left == 0 or self.closing:
                    raise
                _log.warning("loading version %d of '%s' failed, trying again: %s", version, origin.model.name, error)
        seconds = time.monotonic() - started
        return Served(origin.model, version, config, handle, identity, seconds, origin.lease.hold())


def discard(built: Mapping[int, Served]) -> None:
    """Free versions that were built and are not to be served."""
    for served in built.values():
        served.handle.close()
        served.lease.release()


def told_reason(error: BaseException, name: str) -> str:
    """A text for the index: our own errors speak for themselves, any other is told in the log only."""
    if isinstance(error, PyinferError):
        return str(error)
    _log.error("loading '%s' failed unexpectedly", name, exc_info=error)
    return str(InternalError(f"loading failed unexpectedly with {type(error).__name__}; the server's log tells more"))
