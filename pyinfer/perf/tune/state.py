# SPDX-License-Identifier: Apache-2.0
"""The file that remembers what was measured, so that nothing is measured twice. Written anew after each measurement."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pyinfer.errors import InvalidArgument
from pyinfer.perf.tune.goal import Figures, Outcome
from pyinfer.perf.tune.space import Settings

__all__ = ["State"]

_FORM = 1


class State:
    """Outcomes by candidate, interval and round, on disk. ``work`` says what they are of: plain JSON data.

    Raises InvalidArgument where the file is of other work, or none of ours.
    """

    def __init__(self, file: Path, work: Mapping[str, Any]) -> None:
        self._file = file
        self._work = json.loads(json.dumps(work))  # as it comes out of the file
        self._outcomes: dict[str, Any] = {}
        if file.exists():
            self._read()

    def __len__(self) -> int:
        return len(self._outcomes)

    def find(self, settings: Settings, interval_ms: int, number: int) -> Outcome | None:
        """What was measured in the round ``number``; None where nothing was."""
        found = self._outcomes.get(_key(settings, interval_ms, number))
        if found is None:
            return None
        return Outcome([Figures(**one) for one in found["figures"]], found["failure"])

    def keep(self, settings: Settings, interval_ms: int, number: int, outcome: Outcome) -> None:
        """Remember it, on disk when this returns. Raises InvalidArgument where the file can not be written."""
        figures = [one.as_dict() for one in outcome.figures]
        self._outcomes[_key(settings, interval_ms, number)] = {"figures": figures, "failure": outcome.failure}
        document = {"pyinfer_perf_tune": _FORM, "work": self._work, "outcomes": self._outcomes}
        part = self._file.with_name(f"{self._file.name}.part")
        try:
            part.write_text(json.dumps(document, indent=1) + "\n")
            part.replace(self._file)
        except OSError as error:
            raise InvalidArgument(f"can not write {self._file}: {error.strerror}") from None

    def _read(self) -> None:
        try:
            document = json.loads(self._file.read_bytes())
            form, work, outcomes = (document[name] for name in ("pyinfer_perf_tune", "work", "outcomes"))
        except OSError as error:
            raise InvalidArgument(f"can not read {self._file}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError):
            raise InvalidArgument(
                f"{self._file} is no state of 'pyinfer perf tune'; name another with --state"
            ) from None
        other = [name for name in {**work, **self._work} if work.get(name) != self._work.get(name)]
        if form != _FORM or other:
            what = ", ".join(f"{name} was {work.get(name)!r}, is {self._work.get(name)!r}" for name in other[:1])
            raise InvalidArgument(
                f"{self._file} has measurements of other work ({what or 'another form'}): remove it, or name another "
                "with --state"
            )
        self._outcomes = outcomes


def _key(settings: Settings, interval_ms: int, number: int) -> str:
    return f"{settings.text()}, {interval_ms} ms, round {number}"
