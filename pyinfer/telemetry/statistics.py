# SPDX-License-Identifier: Apache-2.0
"""What the statistics extension tells, written by the core when a frontend sends it. Which models is handed in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from pyinfer._core import Model, statistics_json, statistics_message

__all__ = ["Statistics"]


@dataclass(frozen=True)
class Statistics:
    """The statistics of ``models`` as they are when they are written. Any thread."""

    models: Sequence[Model]
    #: held meanwhile
    turn: AbstractContextManager[object]

    def json(self) -> bytes:
        """The document ``{"model_stats": [...]}``."""
        with self.turn:
            return statistics_json(self.models)

    def message(self) -> bytes:
        """The message ``inference.ModelStatisticsResponse``."""
        with self.turn:
            return statistics_message(self.models)
