# SPDX-License-Identifier: Apache-2.0
"""The response cache that the command line asks for: in the memory of the server, or in Redis.

:class:`RedisCache` does what the core's :class:`~pyinfer._core.RemoteCache` asks for, over a few connections.

Needs the package of the extra ``redis``. No request waits here: the core counts a lookup that takes too long as a miss.
Whatever Redis does is no error of any request. While it can not be reached nobody is asked, and it is tried again about
once a second. What lies in Redis is not trusted: it is read up to a limit, and taken apart by the core.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyinfer._core import RemoteCache
from pyinfer.config.cache import LocalCacheSettings, RedisCacheSettings, cache_settings
from pyinfer.errors import InvalidArgument, Unsupported

if TYPE_CHECKING:
    from pyinfer._core import Engine

__all__ = ["RedisCache", "open_cache"]

_log = logging.getLogger(__name__)

#: an answer of more bytes is neither kept nor read
_MOST_ENTRY_BYTES = 8 << 20
#: commands that are sent together
_MOST_TOGETHER = 16
_DIGEST_BYTES = 32
_PREFIX = b"pyinfer:1:"
_IDLE_S = 1.0
_RETRY_S = 1.0
#: between two lines of the log about one fault
_QUIET_S = 60.0
_JOIN_S = 5.0

_Job = tuple[int, bytes, bytes | None]


def open_cache(
    engine: Engine, given: Sequence[tuple[str, str, str]], byte_size: int, environment: Mapping[str, str]
) -> RedisCache | None:
    """Give ``engine`` the cache of :func:`cache_settings`, if any; returns what is to be closed afterwards.

    Raises InvalidArgument for settings that make no cache, Unsupported where a package is missing.
    """
    try:
        settings = cache_settings(given, byte_size, environment)
    except ValueError as error:
        raise InvalidArgument(str(error)) from None
    if isinstance(settings, LocalCacheSettings):
        engine.set_local_cache(settings.size)
    if not isinstance(settings, RedisCacheSettings):
        return None
    cache = RedisCache(settings)
    engine.set_remote_cache(cache.core)
    return cache


class RedisCache:
    """Threads that serve ``core`` from one Redis. Make it, give ``core`` to the engine, :meth:`close` it."""

    def __init__(self, settings: RedisCacheSettings) -> None:
        """Connects to nothing yet. Raises Unsupported where the package is missing."""
        try:
            import redis
        except ImportError as error:
            raise Unsupported("the cache redis needs the package redis: pip install 'pyinfer[redis]'") from error
        self._redis = redis
        self._settings = settings
        self.core = RemoteCache(patience_s=settings.wait_timeout / 1000, most_entry_bytes=_MOST_ENTRY_BYTES)
        self._ended = threading.Event()
        self._log_lock = threading.Lock()
        self._complained_at: float | None = None
        self._lost = False
        self._threads = [
            threading.Thread(target=self._run, name=f"redis-cache-{index}", daemon=True)
            for index in range(settings.pool_size)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Lookups that are underway are misses. A thread that Redis keeps is left behind."""
        self.core.close()
        self._ended.set()
        until = time.monotonic() + _JOIN_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _connection(self) -> Any:
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        given = self._settings
        return self._redis.Redis(
            host=given.host,
            port=given.port,
            db=given.db,
            username=given.user or None,
            password=given.password or None,
            socket_connect_timeout=given.connect_timeout / 1000,
            socket_timeout=given.socket_timeout / 1000,
            single_connection_client=False,
            max_connections=1,
            retry=Retry(NoBackoff(), 0),
        )

    def _run(self) -> None:
        client = self._connection()
        while not self.core.closed:
            if not self.core.reachable:
                self._probe(client)
                continue
            jobs = self.core.take(_IDLE_S, _MOST_TOGETHER)
            if jobs:
                self._serve(client, jobs)
        client.close()

    def _serve(self, client: Any, jobs: Sequence[_Job]) -> None:
        fault: BaseException | None = None
        replies: Sequence[object] = ()
        digests = [hashlib.blake2b(key, digest_size=_DIGEST_BYTES).digest() for _, key, _ in jobs]
        try:
            pipeline = client.pipeline(transaction=False)
            for (_, _, value), digest in zip(jobs, digests, strict=True):
                name = _PREFIX + digest.hex().encode()
                if value is None:
                    pipeline.getrange(name, 0, _DIGEST_BYTES + _MOST_ENTRY_BYTES)
                else:
                    pipeline.set(name, digest + value, ex=self._settings.ttl or None)
            replies = pipeline.execute(raise_on_error=False)
        except Exception as error:  # whatever it sends, and whatever the client makes of it
            fault = error
        for index, (identifier, _, value) in enumerate(jobs):
            reply = replies[index] if index < len(replies) else None
            if isinstance(reply, Exception):
                fault = fault or _fault_of(reply)
            if value is None:
                found = isinstance(reply, bytes) and reply[:_DIGEST_BYTES] == digests[index]
                self.core.answer(identifier, memoryview(reply)[_DIGEST_BYTES:] if found else None)  # type: ignore[arg-type]
        if fault is not None:
            self._lose(fault)

    def _probe(self, client: Any) -> None:
        """Wait, and look whether it answers again."""
        if self._ended.wait(_RETRY_S):
            return
        try:
            client.ping()
        except Exception as error:  # as above
            self._lose(error)
            return
        with self._log_lock:
            if self._lost:
                _log.info("the response cache is reached again: %s", self._place())
            self._lost = False
        self.core.set_reachable(True)

    def _lose(self, error: BaseException) -> None:
        self.core.set_reachable(False)
        now = time.monotonic()
        with self._log_lock:
            self._lost = True
            if self._complained_at is not None and now - self._complained_at < _QUIET_S:
                return
            self._complained_at = now
        _log.warning("requests are executed without the response cache: %s: %s", self._place(), str(error)[:500])

    def _place(self) -> str:
        return f"redis at {self._settings.host}:{self._settings.port}"


def _fault_of(reply: Exception) -> Exception | None:
    """What says that the cache is of no use now; one key of a wrong kind, or a full memory, does not."""
    return None if str(reply).startswith(("WRONGTYPE", "OOM")) else reply
