# SPDX-License-Identifier: Apache-2.0
"""The rules of all documented differences, by the key of their row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from differential.documented import Rule
from differential.rules import calls, counts, ensembles, grpc, http, json_bodies, repository, requests, texts

__all__ = ["RULES"]


def _all(*tables: Mapping[str, Sequence[Rule]]) -> dict[str, Sequence[Rule]]:
    """The tables as one. A key has its rules in one place."""
    merged: dict[str, Sequence[Rule]] = {}
    for table in tables:
        for key, rules in table.items():
            if key in merged:
                raise ValueError(f"the key {key} has rules in two tables")
            merged[key] = rules
    return merged


RULES = _all(
    calls.RULES,
    counts.RULES,
    ensembles.RULES,
    grpc.RULES,
    http.RULES,
    json_bodies.RULES,
    repository.RULES,
    requests.RULES,
    texts.RULES,
)
