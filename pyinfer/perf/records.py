# SPDX-License-Identifier: Apache-2.0
"""The requests of a level one by one, out of the bytes in which the load gives them. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pyinfer.perf.measure import Level

__all__ = ["Record", "records_of"]

_REQUEST = struct.Struct("=5q")


class Record(NamedTuple):
    """One request. Times are monotonic nanoseconds; ``body`` is the number of what was sent.

    ``responses``: when each of them came, where answers are streams. ``sequence`` 0: it belongs to none.
    """

    intended: int
    sent: int
    ended: int
    body: int
    failed: bool
    responses: list[int]
    sequence: int


def records_of(level: Level) -> Iterator[Record]:
    """In the order in which they ended; none where they were not recorded."""
    responses, sequences = _numbers(level.response_records), _numbers(level.sequence_records)
    for intended, sent, ended, body, failed in _REQUEST.iter_unpack(level.records):
        came = [next(responses) for _ in range(next(responses))] if level.response_records else []
        sequence = next(sequences) if level.sequence_records else 0
        yield Record(intended, sent, ended, body, bool(failed), came, sequence)


def _numbers(records: bytes) -> Iterator[int]:
    return (number for (number,) in struct.iter_unpack("=q", records))
