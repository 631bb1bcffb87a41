# SPDX-License-Identifier: Apache-2.0
"""Steps of a growing concurrency, out of the records of its requests."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from pyinfer.perf.measure import Level
from pyinfer.perf.options import PerfOptions, Range
from pyinfer.perf.ramp import ramp_note, ramp_steps, ramp_table
from pyinfer.perf.report import level_tables, notes_text

MS = 1_000_000


def level(*requests: tuple[int, list[int], bool]) -> Level:
    """Of (sent, responses, failed), in ms; a request is over with its last response."""
    found = Level("Concurrency", len(requests))
    for sent, responses, failed in sorted(requests, key=lambda one: one[1][-1]):
        ended = responses[-1]
        found.records += struct.pack("=5q", *(each * MS for each in (sent, sent, ended)), 0, failed)
        found.response_records += struct.pack(f"={len(responses) + 1}q", len(responses), *(t * MS for t in responses))
    return found


GROWN = level(
    (100, [110, 120, 130, 140], False),
    (100, [112, 122, 132, 142], False),
    (122, [142, 162], False),
    (122, [145, 165], True),
    (165, [170, 180], False),
    (165, [175, 185], False),
)
SPREAD = Range(2, 6, 2)


def test_steps_begin_when_requests_are_added() -> None:
    first, second, third = ramp_steps(GROWN, SPREAD)
    assert [(one.requests, one.in_flight) for one in (first, second, third)] == [(2, 2), (4, 4), (6, 2)]
    assert [one.started for one in (first, second, third)] == [100 * MS, 122 * MS, 165 * MS]
    assert (first.firsts, first.latencies) == ([10 * MS, 12 * MS], [40 * MS, 42 * MS])
    assert (second.firsts, second.latencies, second.failed) == ([20 * MS], [40 * MS], 1)
    # 110, 112, 120 | 122, 130, 132, 140, 142, 142, 145, 162 | 165, 170, 175, 180, 185
    rates = [one.responses_per_s for one in (first, second, third)]
    assert rates == pytest.approx([3 / 0.022, 8 / 0.043, 5 / 0.020])
    assert sorted(first.gaps) == [10 * MS]
    assert sorted(second.gaps) == [10 * MS] * 5 + [20 * MS]
    assert sorted(third.gaps) == [10 * MS, 10 * MS, 20 * MS]


def test_what_was_interrupted_has_the_steps_it_came_to() -> None:
    steps = ramp_steps(GROWN, Range(4, 100, 32))
    assert [one.requests for one in steps] == [4, 6]
    assert ramp_steps(Level("Concurrency", 4), SPREAD) == []


def test_table_and_note() -> None:
    options = PerfOptions(periodic=SPREAD, request_period=3, streaming=True)
    assert level_tables([GROWN], options)[-1] == ramp_table(GROWN, options)
    table = ramp_table(GROWN, options)
    assert table is not None
    assert [dict(zip(table.head[:6], row, strict=False)) for row in table.rows][1] == {
        "requests": "4",
        "in flight": "4",
        "at ms": "22",
        "first avg us": "20000",
        "max": "20000",
        "gap avg us": "11667",
    }
    assert "4 requests were over before they had --request-period 3 responses" in ramp_note(GROWN, options)
    assert "--request-period 3" in notes_text([GROWN], options)
    assert not ramp_note(GROWN, replace(options, request_period=2))
    assert ramp_table(GROWN, PerfOptions()) is None


def test_a_long_table_is_thinned_out() -> None:
    many = level(*((n, [n + 5, n + 9], False) for n in range(1000)))
    table = ramp_table(many, PerfOptions(periodic=Range(1, 1000, 1)))
    assert table is not None
    assert len(table.rows) <= 26
    assert (table.rows[0][0], table.rows[-1][0]) == ("1", "1000")
