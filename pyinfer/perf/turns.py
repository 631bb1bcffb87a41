# SPDX-License-Identifier: Apache-2.0
"""In which order several things are measured that are to be compared. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

__all__ = ["take_turns"]

_Measured = TypeVar("_Measured")


def take_turns(measured: Sequence[_Measured], rounds: int) -> Iterator[tuple[int, _Measured]]:
    """(round, whose turn it is): forwards in even rounds, backwards in odd ones. Over two rounds a steady drift of the
    machine is the same for all.
    """
    for number in range(rounds):
        for one in measured if number % 2 == 0 else reversed(measured):
            yield number, one
