# SPDX-License-Identifier: Apache-2.0
"""What ``--cache-config`` can say. Pure; imports nothing of pyinfer."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["cache_bytes", "cache_setting"]

_MOST_BYTES = 2**63 - 1


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


def cache_bytes(settings: Sequence[tuple[str, str, str]], byte_size: int) -> int | None:
    """The size of the cache that the two flags ask for; None where there is to be none. Raises ValueError.

    ``byte_size`` is that of the deprecated ``--response-cache-byte-size``, 0 where it is not given.
    """
    if settings and byte_size:
        raise ValueError(
            "Incompatible flags --response-cache-byte-size and --cache-config both provided. Please provide one or the "
            "other."
        )
    return _local_cache_bytes(settings) if settings else byte_size or None


def _local_cache_bytes(settings: Sequence[tuple[str, str, str]]) -> int:
    """The size of the local cache; the last one given counts. Raises ValueError for any other cache or setting."""
    size = None
    for cache, setting, text in settings:
        if cache != "local":
            raise ValueError(f"there is no cache '{cache}' in this version; use local,size=BYTES")
        if setting != "size":
            raise ValueError(f"the local cache has no setting '{setting}'; use local,size=BYTES")
        if not (text.isascii() and text.isdigit() and 0 < int(text) <= _MOST_BYTES):
            raise ValueError(f"the size of the local cache must be a number of bytes above 0, got '{text}'")
        size = int(text)
    if size is None:
        raise ValueError("the local cache needs local,size=BYTES")
    return size
