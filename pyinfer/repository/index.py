# SPDX-License-Identifier: Apache-2.0
"""The repository index in Triton's form: what the repositories hold, and what is or was loaded of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pyinfer.repository.contract import ModelId
from pyinfer.repository.plan import DUPLICATE_REASON
from pyinfer.repository.scan import Listing
from pyinfer.repository.states import State, VersionState

__all__ = ["index_entries"]

_Rows = Mapping[ModelId, Sequence[tuple[int | None, VersionState]]]

_ACTIVE = (State.READY, State.LOADING, State.UNLOADING)


def index_entries(rows: _Rows, listing: Listing) -> list[dict[str, Any]]:
    """An entry for each version that is known, by model and version.

    A model that is on disk and was never to be loaded has its name alone; one that is in two repositories has nothing
    but that told. What is not on disk is there only while it serves, or is about to.
    """
    entries: list[dict[str, Any]] = []
    for model in sorted(set(rows) | listing.models):
        if model in listing.duplicates:
            entries.append(_entry(model, None, VersionState(State.UNAVAILABLE, DUPLICATE_REASON)))
            continue
        is_on_disk = model in listing.models
        known = rows.get(model, ())
        entries += [_entry(model, version, row) for version, row in known if is_on_disk or row.state in _ACTIVE]
        if not known:
            entries.append({"name": model.name})
    return entries


def _entry(model: ModelId, version: int | None, row: VersionState) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": model.name}
    if version is not None:
        entry["version"] = str(version)
    entry["state"] = row.state.value
    if row.reason:
        entry["reason"] = row.reason
    return entry
