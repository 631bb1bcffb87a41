# SPDX-License-Identifier: Apache-2.0
"""What ``--cache-config`` can say. Pure; imports nothing of pyinfer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["CacheSettings", "LocalCacheSettings", "RedisCacheSettings", "cache_setting", "cache_settings"]

_MOST_BYTES = 2**63 - 1
_MOST_SECONDS = 10 * 365 * 24 * 3600
_MOST_MS = 3_600_000

_Given = Sequence[tuple[str, str, str]]


@dataclass(frozen=True)
class LocalCacheSettings:
    """In the memory of the server, up to ``size`` bytes."""

    size: int


@dataclass(frozen=True)
class RedisCacheSettings:
    """In a Redis server. Times are in milliseconds, but ``ttl``: seconds that an answer is kept, 0 for ever."""

    host: str
    port: int
    user: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    ttl: int = 0
    connect_timeout: int = 1000
    socket_timeout: int = 1000
    #: for so long a request waits for the cache
    wait_timeout: int = 100
    pool_size: int = 1


CacheSettings = LocalCacheSettings | RedisCacheSettings

#: setting -> the variable of the environment that stands in for it
_ENVIRONMENT = {
    "host": "TRITON_REDIS_HOST",
    "port": "TRITON_REDIS_PORT",
    "user": "TRITONCACHE_REDIS_USERNAME",
    "password": "TRITONCACHE_REDIS_PASSWORD",
}
#: setting -> the least and the most that it may be
_NUMBERS = {
    "port": (1, 65535),
    "db": (0, 2**31 - 1),
    "ttl": (0, _MOST_SECONDS),
    "connect_timeout": (1, _MOST_MS),
    "socket_timeout": (1, _MOST_MS),
    "wait_timeout": (1, _MOST_MS),
    "pool_size": (1, 64),
}
_TEXTS = ("host", "user", "password")


def cache_setting(value: str) -> tuple[str, str, str]:
    """One value of the flag, ``<cache>,<setting>=<value>``, taken apart. Raises ValueError for what can not be."""
    cache, comma, rest = value.partition(",")
    setting, equals, text = rest.partition("=")
    if not cache or not comma:
        raise ValueError(
            f"No cache specified. --cache-config option format is <cache name>,<setting>=<value>. Got {value}"
        )
    if not setting or not equals:
        raise ValueError(f"--cache-config option format is '<cache name>,<setting>=<value>'. Got {value}")
    return cache, setting, text


cache_setting.metavar = "<cache>,<setting>=<value>"  # type: ignore[attr-defined]


def cache_settings(given: _Given, byte_size: int, environment: Mapping[str, str] | None) -> CacheSettings | None:
    """The cache that the two flags ask for; None where there is to be none. Raises ValueError.

    ``byte_size`` is that of the deprecated ``--response-cache-byte-size``, 0 where it is not given. ``environment`` may
    say where Redis is, and who asks; None: it is not known yet, and may say all that is missing. Of a setting that is
    given twice the last one counts.
    """
    if given and byte_size:
        raise ValueError(
            "Incompatible flags --response-cache-byte-size and --cache-config both provided. Please provide one or the "
            "other."
        )
    if not given:
        return LocalCacheSettings(byte_size) if byte_size else None
    caches = {cache for cache, _, _ in given}
    for cache in sorted(caches - {"local", "redis"}):
        raise ValueError(f"there is no cache '{cache}'; use local,size=BYTES or redis,host=HOST and redis,port=PORT")
    if len(caches) > 1:
        raise ValueError("there can be one cache only: local or redis")
    values = {setting: text for _, setting, text in given}
    return _local(values) if "local" in caches else _redis(values, environment)


def _local(values: Mapping[str, str]) -> LocalCacheSettings:
    for setting in values:
        if setting != "size":
            raise ValueError(f"the local cache has no setting '{setting}'; use local,size=BYTES")
    text = values["size"]
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_BYTES):
        raise ValueError(f"the size of the local cache must be a number of bytes above 0, got '{text}'")
    return LocalCacheSettings(int(text))


def _redis(values: Mapping[str, str], environment: Mapping[str, str] | None) -> RedisCacheSettings:
    for setting in values:
        if setting not in _NUMBERS and setting not in _TEXTS:
            raise ValueError(f"the cache redis has no setting '{setting}'; it has {', '.join([*_TEXTS, *_NUMBERS])}")
    if environment is None:
        environment = {"TRITON_REDIS_HOST": "localhost", "TRITON_REDIS_PORT": "6379"}
    fallback = {setting: environment[name] for setting, name in _ENVIRONMENT.items() if environment.get(name)}
    merged = {**fallback, **values}
    for setting in ("host", "port"):
        if not merged.get(setting):
            raise ValueError(
                f"the cache redis needs redis,{setting}=..., or {_ENVIRONMENT[setting]} in the environment"
            )
    numbers = {setting: _number(setting, text) for setting, text in merged.items() if setting in _NUMBERS}
    texts = {setting: text for setting, text in merged.items() if setting in _TEXTS}
    return RedisCacheSettings(**texts, **numbers)  # type: ignore[arg-type]


def _number(setting: str, text: str) -> int:
    least, most = _NUMBERS[setting]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and least <= int(text) <= most):
        raise ValueError(f"redis,{setting} must be a number from {least} to {most}, got '{text[:64]}'")
    return int(text)
