# SPDX-License-Identifier: Apache-2.0
"""What ``--cache-config`` and the environment say about the response cache."""

from __future__ import annotations

import pytest

from pyinfer.config.cache import LocalCacheSettings, RedisCacheSettings, cache_settings

HERE = {"TRITON_REDIS_HOST": "from-env", "TRITON_REDIS_PORT": "1234"}


def redis(*settings: str) -> list[tuple[str, str, str]]:
    return [("redis", *setting.split("=", 1)) for setting in settings]  # type: ignore[misc]


def test_caches() -> None:
    assert cache_settings([], 0, HERE) is None
    assert cache_settings([], 7, HERE) == LocalCacheSettings(7)
    assert cache_settings([("local", "size", "5"), ("local", "size", "6")], 0, HERE) == LocalCacheSettings(6)
    assert cache_settings(redis("host=h", "port=6379"), 0, {}) == RedisCacheSettings("h", 6379)


def test_every_setting_of_redis() -> None:
    given = redis(
        "host=h",
        "port=65535",
        "user=u",
        "password=a=b,c",
        "db=2",
        "ttl=60",
        "connect_timeout=10",
        "socket_timeout=20",
        "wait_timeout=30",
        "pool_size=4",
    )
    settings = cache_settings(given, 0, HERE)
    assert settings == RedisCacheSettings("h", 65535, "u", "a=b,c", 2, 60, 10, 20, 30, 4)
    assert "a=b" not in repr(settings), "a password is not to be shown"


def test_the_environment_stands_in_for_what_is_not_given() -> None:
    names = {"TRITONCACHE_REDIS_USERNAME": "me", "TRITONCACHE_REDIS_PASSWORD": "secret"}
    assert cache_settings(redis("db=0"), 0, HERE | names) == RedisCacheSettings("from-env", 1234, "me", "secret")
    assert cache_settings(redis("port=1"), 0, HERE) == RedisCacheSettings("from-env", 1)
    # not known yet: nothing is missing
    assert cache_settings(redis("db=0"), 0, None)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["db=0"], "the cache redis needs redis,host=..., or TRITON_REDIS_HOST in the environment"),
        (["host=h"], "the cache redis needs redis,port=..., or TRITON_REDIS_PORT in the environment"),
        (["host=", "port=1"], "the cache redis needs redis,host"),
        (["host=h", "port=0"], "redis,port must be a number from 1 to 65535, got '0'"),
        (["host=h", "port=65536"], "redis,port must be a number"),
        (["host=h", "port=\u0661"], "redis,port must be a number"),
        (["host=h", "port=1", "ttl=-1"], "redis,ttl must be a number from 0"),
        (["host=h", "port=1", "socket_timeout=0"], "redis,socket_timeout must be a number from 1"),
        (["host=h", "port=1", "size=5"], "the cache redis has no setting 'size'; it has host, user, password, port"),
    ],
)
def test_what_is_refused(settings: list[str], text: str) -> None:
    with pytest.raises(ValueError, match=text.replace("...", r"\.\.\.").replace("(", r"\(")):
        cache_settings(redis(*settings), 0, {})
