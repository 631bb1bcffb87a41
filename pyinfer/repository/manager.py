# SPDX-License-Identifier: Apache-2.0
"""Performs what is planned: loads and unloads models, publishes what serves, frees what does not.

A reload builds the new versions first, swaps them in with one ``publish``, and only then drains and closes the old
ones, so that no request fails in between. Building is all or nothing: where one version fails, the model stays as it
was and the index tells the reason.

Thread rule: any thread. Operations on the same model wait for each other, those on different models do not.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyinfer.errors import InternalError, InvalidArgument, ModelError, PyinferError, Unavailable
from pyinfer.repository.contract import ModelLoader, ModelSource, Publisher
from pyinfer.repository.overrides import Lease, check_model_name, write_override
from pyinfer.repository.plan import DUPLICATE_REASON, Action, ActionKind, choose_versions, plan, plan_versions
from pyinfer.repository.scan import ModelEntry, list_models, scan, scan_model
from pyinfer.repository.states import Served, State, StateTable

__all__ = ["ManagerOptions", "ModelManager"]

_log = logging.getLogger(__name__)

#: how often a version that drains looks whether the server wants to end
_DRAIN_STEP_S = 0.5
#: how long an unload waits for requests in flight before it returns with the version still UNLOADING
_UNLOAD_WAIT_S = 5.0


@dataclass(frozen=True)
class ManagerOptions:
    """What the command line says about repositories."""

    repositories: tuple[Path, ...]
    #: mode ``explicit``: load only ``startup_models`` at start, and allow load and unload later
    explicit: bool = False
    #: ``*`` stands for all
    startup_models: tuple[str, ...] = ()
    load_thread_count: int = 4
    load_retry_count: int = 0


@dataclass(frozen=True)
class _Origin:
    """A source, its fingerprints, and the hold on its directory if that is a temporary one."""

    source: ModelSource
    entry: ModelEntry
    lease: Lease


class ModelManager:
    """The models of some repositories. See the module for the promises."""

    def __init__(self, options: ManagerOptions, loader: ModelLoader, publisher: Publisher) -> None:
        self._options = options
        self._loader = loader
        self._publisher = publisher
        self._table = StateTable()
        self._pool = ThreadPoolExecutor(options.load_thread_count, thread_name_prefix="model-load")
        self._lock = threading.Lock()
        self._model_locks: dict[str, threading.Lock] = {}
        #: fingerprint of the files that a model was last loaded from; guarded by the model's lock
        self._loaded_from: dict[str, str] = {}
        self._retiring: set[threading.Thread] = set()
        self._closing = threading.Event()

    # Operations

    def start(self) -> list[str]:
        """Load what the control mode says. Returns one text for each model that failed.

        Raises InvalidArgument where a repository can not be read.
        """
        snapshot = scan(self._options.repositories)
        for path, reason in snapshot.unreadable.items():
            raise InvalidArgument(f"can not read the model repository '{path}': {reason}")
        wanted: tuple[str, ...] | None = self._options.startup_models if self._options.explicit else None
        if wanted is not None and "*" in wanted:
            wanted = None
        actions = plan(snapshot, (), wanted)
        with ThreadPoolExecutor(self._options.load_thread_count, thread_name_prefix="model-start") as starters:
            texts = list(starters.map(lambda action: self._start_model(action, snapshot.models), actions))
        return [text for text in texts if text]

    def load(self, name: str, *, config: str | None = None, files: Mapping[str, bytes] | None = None) -> None:
        """Load ``name``, or reload it where anything changed; returns when it serves.

        ``config`` replaces the configuration file, ``files`` (path below the model's directory -> contents) the whole
        directory. Raises InvalidArgument or ModelError; the model is then served as before.
        """
        check_model_name(name)
        with self._model_lock(name):
            origin = self._origin(name, config, files or {})
            try:
                self._load(origin)
            finally:
                origin.lease.release()

    def unload(self, name: str) -> None:
        """Serve ``name`` no more. Waits for its requests in flight, but not for ever. Unknown names are no error."""
        check_model_name(name)
        with self._model_lock(name):
            retired = self._table.commit(name, {})
            self._publish(name)
            threads = [self._retire(served) for served in retired]
        until = time.monotonic() + _UNLOAD_WAIT_S
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))

    def require_explicit(self) -> None:
        """Raise Unavailable unless the control mode lets clients load and unload."""
        if not self._options.explicit:
            raise Unavailable("explicit model load / unload is not allowed if polling is enabled")

    def drain(self, timeout_s: float) -> bool:
        """Wait until all models, accepting nothing more, have answered. False when the time is up."""
        until = time.monotonic() + timeout_s
        drained = [served.handle.drain(max(0.0, until - time.monotonic())) for served in self._table.served()]
        with self._lock:
            retiring = list(self._retiring)
        for thread in retiring:
            thread.join(max(0.0, until - time.monotonic()))
        return all(drained) and not any(thread.is_alive() for thread in retiring)

    def close(self, timeout_s: float = 30.0) -> bool:
        """Free all models, answering what is still queued with an error. Later loads are refused. Idempotent.

        False where a model was still executing when the time was up: its threads are left to the end of the process.
        """
        until = time.monotonic() + timeout_s
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for name in {served.name for served in self._table.served()}:
            self._withdraw(name)
        with self._lock:
            retiring = list(self._retiring)
        for thread in retiring:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in retiring)

    # Questions

    def find(self, name: str, version: int | None) -> Served:
        """What serves ``version`` (None: the highest ready one). Raises NotFound, or Unavailable: known, not ready."""
        return self._table.find(name, version)

    def known(self, name: str) -> bool:
        """Whether any version of ``name`` is or was loaded, or was tried."""
        return self._table.known(name)

    def served(self, name: str | None = None) -> list[Served]:
        """All that is served (of ``name``), by name and version."""
        return self._table.served(name)

    def ready_versions(self, name: str) -> list[int]:
        """The versions of ``name`` that are served, ascending."""
        return sorted(self._table.serving(name))

    def healthy(self) -> bool:
        """Whether every model that should be served is."""
        return self._table.healthy()

    def index(self, ready_only: bool = False) -> list[dict[str, Any]]:
        """The repository index: what is on disk now, and what is or was loaded, by name and version."""
        rows = self._table.rows()
        on_disk = {} if ready_only else list_models(self._options.repositories)
        index: list[dict[str, Any]] = []
        for name in sorted(set(rows) | set(on_disk)):
            for version, row in rows.get(name, ()):
                if row.state is State.READY or not ready_only:
                    index.append(_index_entry(name, version, row.state.value, row.reason))
            if name not in rows and on_disk[name] > 1:
                index.append(_index_entry(name, None, State.UNAVAILABLE.value, DUPLICATE_REASON))
            elif name not in rows:
                index.append({"name": name})
        return index

    def table(self) -> list[tuple[str, str, str]]:
        """(model, version, status) of everything that was to be loaded."""
        return [
            (name, "-" if version is None else str(version), ": ".join(filter(None, (row.state.value, row.reason))))
            for name, rows in self._table.rows().items()
            for version, row in rows
        ]

    # Loading

    def _start_model(self, action: Action, models: Mapping[str, ModelEntry]) -> str:
        """Perform one action of the start; the text of what went wrong, or an empty one."""
        name = action.name
        if action.kind is not ActionKind.LOAD:
            self._table.fail_model(name, action.reason)
            return f"{name}: {action.reason}"
        entry = models[name]
        try:
            with self._model_lock(name):
                self._load(_Origin(ModelSource(name, entry.directory, entry.versions), entry, Lease(None)))
        except PyinferError as error:
            return f"{name}: {str(error).rstrip()}"
        return ""

    def _origin(self, name: str, config: str | None, files: Mapping[str, bytes]) -> _Origin:
        """Where a load request wants ``name`` from."""
        if files:
            if config is None:
                raise InvalidArgument("Load parameter 'config' must be specified for model file override")
            root = write_override(name, files)
            entry = scan_model(name, root / name)
            return _Origin(ModelSource(name, entry.directory, entry.versions, config), entry, Lease(root))
        snapshot = scan(self._options.repositories, only={name})
        if name not in snapshot.models:
            reason = f": {DUPLICATE_REASON}" if name in snapshot.duplicates else ""
            raise ModelError(f"failed to load '{name}', failed to poll from model repository{reason}")
        entry = snapshot.models[name]
        return _Origin(ModelSource(name, entry.directory, entry.versions, config), entry, Lease(None))

    def _load(self, origin: _Origin) -> None:
        """Build what is new, swap, retire what is old. Requires: the model's lock."""
        name = origin.source.name
        fingerprint = None if origin.source.config_override is not None else origin.entry.fingerprint
        loaded_from = self._loaded_from.pop(name, None)
        serving = self._table.serving(name)
        if serving and loaded_from is not None and loaded_from == fingerprint:
            self._loaded_from[name] = loaded_from
            self._table.commit(name, serving)  # ends the failure of a reload that was taken back
            return
        config = self._configure(origin)
        chosen = choose_versions(config.get("version_policy", {}), origin.source.versions)
        if not chosen:
            reason = f"at least one version must be available under the version policy of model '{name}'"
            self._table.fail_model(name, reason)
            raise InvalidArgument(f"load failed for model '{name}': {reason}\n")
        identities = {version: _identity(origin.entry, config, version) for version in chosen}
        steps = plan_versions(identities, {version: old.identity for version, old in serving.items()})
        built = self._build_all(origin, config, {version: identities[version] for version in steps.load})
        kept = {version: serving[version] for version in steps.keep}
        retired = self._table.commit(name, kept | built)
        self._publish(name)
        for served in retired:
            self._retire(served)
        if fingerprint is not None:
            self._loaded_from[name] = fingerprint
        if self._closing.is_set():
            self._withdraw(name)  # close() may have looked before the commit

    def _configure(self, origin: _Origin) -> dict[str, Any]:
        name = origin.source.name
        if self._closing.is_set():
            raise Unavailable("Server exiting")
        try:
            return self._loader.configure(origin.source)
        except Exception as error:
            reason = _reason(error, name)
            self._table.fail_model(name, reason)
            if origin.source.config_override is not None and isinstance(error, InvalidArgument):
                raise
            raise ModelError(f"failed to load '{name}', failed to poll from model repository: {reason}") from error

    def _build_all(self, origin: _Origin, config: Mapping[str, Any], wanted: Mapping[int, str]) -> dict[int, Served]:
        """Build all of ``wanted`` (version -> identity), or none of it and raise InvalidArgument."""
        name = origin.source.name
        self._table.begin_load(name, wanted)
        self._publish(name)
        built: dict[int, Served] = {}
        reasons: dict[int, str] = {}
        try:
            futures = {
                version: self._pool.submit(self._build, origin, config, version, identity)
                for version, identity in wanted.items()
            }
        except RuntimeError:  # the pool is shut down
            futures, reasons = {}, dict.fromkeys(wanted, "Server exiting")
        for version, future in futures.items():
            try:
                error = future.exception()
            except CancelledError:
                error = Unavailable("Server exiting")
            if error is None:
                built[version] = future.result()
            else:
                reasons[version] = _reason(error, name)
        if self._closing.is_set():
            reasons = reasons or dict.fromkeys(wanted, "Server exiting")
        if not reasons:
            return built
        for served in built.values():
            served.handle.close()
            served.lease.release()
        self._table.fail_versions(name, wanted, reasons)
        self._publish(name)
        lines = [f"version {version} is at UNAVAILABLE state: {reason};\n" for version, reason in reasons.items()]
        raise InvalidArgument(f"load failed for model '{name}': {''.join(lines)}")

    def _build(self, origin: _Origin, config: Mapping[str, Any], version: int, identity: str) -> Served:
        name = origin.source.name
        for attempts_left in range(self._options.load_retry_count, -1, -1):
            started = time.monotonic()
            try:
                handle = self._loader.load(origin.source, config, version)
                break
            except Exception as error:
                if attempts_left == 0:
                    raise
                _log.warning("loading version %d of '%s' failed, trying again: %s", version, name, error)
        seconds = time.monotonic() - started
        return Served(name, version, config, handle, identity, seconds, origin.lease.hold())

    # Serving

    def _publish(self, name: str) -> None:
        """Tell the publisher what the table says. Requires: the model's lock."""
        serving, not_ready = self._table.serving(name), self._table.not_ready(name)
        if serving or not_ready:
            self._publisher.publish(name, [serving[version].core for version in sorted(serving)], not_ready)
        else:
            self._publisher.withdraw(name)

    def _withdraw(self, name: str) -> None:
        """Serve ``name`` no more because the server ends. Needs no lock: a load in progress does not hold it up."""
        retired = self._table.commit(name, {})
        self._publisher.withdraw(name)
        for served in retired:
            self._retire(served)

    def _retire(self, served: Served) -> threading.Thread:
        """Drain and close a version that is not published any more, on a thread of its own."""
        thread = threading.Thread(
            target=self._drain_and_close, args=(served,), name=f"retire-{served.name}-{served.version}", daemon=True
        )
        with self._lock:
            self._retiring.add(thread)
        thread.start()
        return thread

    def _drain_and_close(self, served: Served) -> None:
        try:
            while not served.handle.drain(_DRAIN_STEP_S) and not self._closing.is_set():
                pass
            served.handle.close()
        except Exception:
            _log.exception("unloading version %d of '%s' failed", served.version, served.name)
        finally:
            served.lease.release()
            self._table.unloaded(served.name, served.version)
            with self._lock:
                self._retiring.discard(threading.current_thread())

    def _model_lock(self, name: str) -> threading.Lock:
        with self._lock:
            return self._model_locks.setdefault(name, threading.Lock())


def _identity(entry: ModelEntry, config: Mapping[str, Any], version: int) -> str:
    """What a version is made of: its files, and the configuration but for the choice of versions."""
    own = {key: value for key, value in config.items() if key != "version_policy"}
    files = f"{entry.directory}|{entry.common_fingerprint}|{entry.version_fingerprints.get(version, '')}"
    return f"{files}|{json.dumps(own, sort_keys=True, default=str)}"


def _index_entry(name: str, version: int | None, state: str, reason: str) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name}
    if version is not None:
        entry["version"] = str(version)
    entry["state"] = state
    if reason:
        entry["reason"] = reason
    return entry


def _reason(error: BaseException, name: str) -> str:
    """A text for the index: our own errors speak for themselves, any other is told in the log only."""
    if isinstance(error, PyinferError):
        return str(error)
    _log.error("loading '%s' failed unexpectedly", name, exc_info=error)
    return str(InternalError(f"loading failed unexpectedly with {type(error).__name__}; the server's log tells more"))
