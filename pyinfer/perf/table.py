# SPDX-License-Identifier: Apache-2.0
"""A table of results, before it is known where it is shown. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Table"]


@dataclass(frozen=True)
class Table:
    """``rows`` have as many cells as ``head``. The first ``named`` columns hold names and are flush left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    named: int = 0

    def text(self) -> str:
        """In columns, a line each."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.head))]
        shown = []
        for line in lines:
            cells = [
                cell.ljust(width) if i < self.named else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            shown.append("  ".join(cells).rstrip())
        return "\n".join(shown) + "\n"
