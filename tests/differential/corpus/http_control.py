# SPDX-License-Identifier: Apache-2.0
"""HTTP without inference: paths and verbs, health, metadata, configuration, statistics."""

from __future__ import annotations

from collections.abc import Iterable

from differential.case import Case
from differential.corpus.build import cases, get, post
from differential.repository import OPEN

__all__ = ["health", "metadata", "paths", "verbs"]

_MODELS = tuple(model.name for model in OPEN)

#: (verb, path) of all that the server offers
ROUTES = (
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models/fp32"),
    ("GET", "/v2/models/fp32/versions/1"),
    ("GET", "/v2/models/fp32/ready"),
    ("GET", "/v2/models/fp32/versions/1/ready"),
    ("GET", "/v2/models/fp32/config"),
    ("GET", "/v2/models/fp32/versions/1/config"),
    ("GET", "/v2/models/stats"),
    ("GET", "/v2/models/fp32/stats"),
    ("GET", "/v2/models/fp32/versions/1/stats"),
    ("POST", "/v2/models/fp32/infer"),
    ("POST", "/v2/models/fp32/versions/1/infer"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/fp32/load"),
    ("POST", "/v2/repository/models/fp32/unload"),
)


def verbs() -> Iterable[Case]:
    """Each path with each wrong verb."""
    for right, path in ROUTES:
        for verb in ("GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"):
            if verb != right:
                yield Case(f"{verb} {path}", post(path, b"", method=verb))


def paths() -> Iterable[Case]:
    """Paths that are none, or nearly one."""
    targets = [
        "/",
        "/v1",
        "/v2/",
        "/v2//",
        "//v2",
        "/V2",
        "/v2x",
        "/v2/health",
        "/v2/health/",
        "/v2/health/live/",
        "/v2/health/lives",
        "/v2/health/alive",
        "/v2/models",
        "/v2/models/",
        "/v2/models/fp32/",
        "/v2/models/fp32/ready/",
        "/v2/models/fp32/Ready",
        "/v2/models/fp32/unknown",
        "/v2/models/fp32/config/x",
        "/v2/models/fp32/versions",
        "/v2/models/fp32/versions/",
        "/v2/models/fp32/versions/x",
        "/v2/models/fp32/versions/1x",
        "/v2/models/fp32/versions/-1",
        "/v2/models/fp32/versions/+1",
        "/v2/models/fp32/versions/1.0",
        "/v2/models/fp32/versions/1/",
        "/v2/models/fp32/versions/1/unknown",
        "/v2/models//ready",
        "/v2/models/fp32/version/1/ready",
        "/v2/repository",
        "/v2/repository/",
        "/v2/repository/models",
        "/v2/repository/models/fp32",
        "/v2/repository/models/fp32/reload",
        "/v2/repository/models//load",
        "/v2/stats",
        "/v2/load",
        "/v3",
        "/metrics",
        "/favicon.ico",
        "/v2?x=1",
        "/v2/health/live?",
        "/v2/health/ready?a=b&c=d",
        "/v2/models/fp32?version=1",
        "/v2/models/fp32/ready#fragment",
        "/v2/models/fp32;x=1/ready",
    ]
    for target in targets:
        yield Case(f"GET {target}", get(target))
        yield Case(f"POST {target}", post(target, b"{}"))


def health() -> Iterable[Case]:
    targets = ["/v2", "/v2/health/live", "/v2/health/ready"]
    targets += [f"/v2/models/{name}/ready" for name in (*_MODELS, "unknown", "stats")]
    targets += [f"/v2/models/fp32/versions/{version}/ready" for version in _VERSIONS]
    targets += [f"/v2/models/versions_{p}/versions/{v}/ready" for p in ("latest", "all", "specific") for v in _NUMBERS]
    return cases((target, get(target)) for target in targets)


_NUMBERS = (1, 2, 3, 9, 10, 11)
_VERSIONS = ("0", "1", "01", "2", "9999", str(2**31), str(2**63 - 1))


def metadata() -> Iterable[Case]:
    targets = [f"/v2/models/{name}{tail}" for name in (*_MODELS, "unknown") for tail in ("", "/config")]
    tails = ("", "/config")
    targets += [f"/v2/models/fp32/versions/{version}{tail}" for version in _VERSIONS for tail in tails]
    targets += [
        f"/v2/models/versions_{policy}/versions/{number}{tail}"
        for policy in ("latest", "all", "specific")
        for number in _NUMBERS
        for tail in tails
    ]
    targets += ["/v2/models/unknown/stats", "/v2/models/unknown/versions/1", "/v2/models/unknown/versions/1/stats"]
    return cases((target, get(target)) for target in targets)
