# SPDX-License-Identifier: Apache-2.0
"""The driver of the scheduler's queue: what is pushed is taken or expires, at any depth."""

from __future__ import annotations

import pytest

from perf.queue_depth import measure_queue


@pytest.mark.parametrize("depth", [1, 8, 1000])
def test_the_driver_tells_the_cost_of_a_request(depth: int) -> None:
    cost = measure_queue(depth)
    assert cost.request_us > 0
    # Where nothing waits, nothing expires; else some do, and far from all.
    assert cost.expired == 0 if depth == 1 else 0 <= cost.expired < 0.2
    assert depth < 1000 or cost.expired > 0
