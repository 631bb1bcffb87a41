# SPDX-License-Identifier: Apache-2.0
"""The table of endpoints and the routes made from it."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.config.messages import message
from pyinfer.frontends.bounded import BoundedCache
from pyinfer.frontends.endpoints import ENDPOINTS, RPCS, Answer, Router

CATEGORIES = {
    "health",
    "shared-memory",
    "logging",
    "metadata",
    "inference",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
}


def test_every_endpoint_has_its_messages_and_a_category() -> None:
    assert {endpoint.category for endpoint in ENDPOINTS} == CATEGORIES
    assert len({(endpoint.grpc_path, endpoint.verb) for endpoint in RPCS}) == len(RPCS)
    for endpoint in RPCS:
        message(endpoint.request_message)
        fields = message(endpoint.response_message).DESCRIPTOR.fields
        if endpoint.answer is Answer.INNER:
            assert len(fields) == 1


@pytest.mark.parametrize(
    ("target", "verb", "rpc", "model", "version"),
    [
        (b"/v2", b"GET", "ServerMetadata", "", ""),
        (b"/v2?query", b"GET", "ServerMetadata", "", ""),
        (b"http://host:1/v2", b"GET", "ServerMetadata", "", ""),
        (b"/v2/models/stats", b"GET", "ModelStatistics", "", ""),
        (b"/v2/models/m", b"GET", "ModelMetadata", "m", ""),
        (b"/v2/models/m/versions/10", b"GET", "ModelMetadata", "m", "10"),
        (b"/v2/models/versions/versions/1/config", b"GET", "ModelConfig", "versions", "1"),
        (b"/v2/models/a%20b%C3%A4/infer", b"POST", "ModelInfer", "a b\u00e4", ""),
        (b"/v2/models/100%25/infer", b"POST", "ModelInfer", "100%", ""),
        (b"/v2/models/m/versions/3/infer", b"POST", "ModelInfer", "m", "3"),
        (b"/v2/models/m/generate", b"POST", "", "m", ""),
        (b"/v2/models/m/versions/3/generate_stream", b"POST", "", "m", "3"),
        (b"/v2/repository/index", b"POST", "RepositoryIndex", "", ""),
        (b"/v2/repository/models/m/load", b"POST", "RepositoryModelLoad", "m", ""),
    ],
)
def test_routes(target: bytes, verb: bytes, rpc: str, model: str, version: str) -> None:
    router = Router()
    for _ in range(2):  # found, then remembered
        match = router.resolve(target)
        assert match is not None
        assert match.endpoints[verb].rpc == rpc
        assert (match.arguments.model, match.arguments.version, match.problem) == (model, version, "")


@pytest.mark.parametrize(
    "target",
    [
        b"",
        b"/",
        b"*",
        b"v2",
        b"/v2/",
        b"/V2",
        b"//v2",
        b"/v2/models",
        b"/v2/models/",
        b"/v2/models/m/",
        b"/v2/models/m/versions",
        b"/v2/models/m/versions/",
        b"/v2/models/m/versions/-1",
        b"/v2/models/m/versions/1e3",
        b"/v2/models/m/versions/1/infer/",
        b"/v2/models//infer",
        b"/v2/models/a/b/infer",
        b"/v2#x",
        b"ftp://host/v2",
        b"host:443",
    ],
)
def test_unknown_paths(target: bytes) -> None:
    assert Router().resolve(target) is None


@pytest.mark.parametrize(
    "name", [b"%00", b"%2f", b"a%2Fb", b"..", b"%2e%2e", b".", b"%ff", b"%", b"%zz", b"%0a", b"a\\b"]
)
def test_names_that_can_not_be(name: bytes) -> None:
    match = Router().resolve(b"/v2/models/" + name + b"/infer")
    assert match is not None
    assert match.problem


@pytest.mark.parametrize("name", ["..", "a\\b", "a/b", "\n", "\0", "\u00e4"])
def test_names_of_regions_are_any_text(name: str) -> None:
    """They are keys of a table, and nothing on disk; gRPC takes the same ones."""
    match = Router().resolve(f"/v2/systemsharedmemory/region/{quote(name, safe='')}/register".encode())
    assert match is not None
    assert (match.arguments.region, match.problem) == (name, "")
    bad = Router().resolve(b"/v2/systemsharedmemory/region/%ff/register")
    assert bad is not None
    assert bad.problem


def test_allow() -> None:
    match = Router().resolve(b"/v2/models/m/infer")
    assert match is not None
    assert match.allow == "POST"


@given(st.lists(st.integers(0, 50), max_size=300), st.integers(1, 10))
def test_cache_is_bounded_and_right(keys: list[int], capacity: int) -> None:
    cache: BoundedCache[int, str] = BoundedCache(capacity)
    for key in keys:
        assert cache.get(key) in (None, str(key))
        cache.put(key, str(key))
        assert cache.get(key) == str(key)
        assert len(cache) <= 2 * capacity


def test_cache_keeps_what_is_used() -> None:
    cache: BoundedCache[int, str] = BoundedCache(10)
    cache.put(-1, "used")
    for key in range(1000):
        cache.put(key, "once")
        assert cache.get(-1) == "used"
