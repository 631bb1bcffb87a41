# SPDX-License-Identifier: Apache-2.0
"""The core under load in this process: it answers, and differences are told as what they are."""

from __future__ import annotations

from contextlib import closing
from typing import cast

from perf.core_load import CoreLoad, compare


def test_bursts_are_answered() -> None:
    with closing(CoreLoad(16)) as on, closing(CoreLoad(16, histograms=False)) as off:
        sizes = {on.burst(), off.burst(), on.burst()}
        assert len(sizes) == 1
        assert sizes.pop() > 64 * 16 * 4
        assert on.turn_us() > 0


def test_an_ensemble_is_answered() -> None:
    with closing(CoreLoad(16, ensemble_steps=3)) as chain, closing(CoreLoad(16)) as alone:
        assert chain.burst() > alone.burst() > 64 * 16 * 4, "an ensemble tells the sequence as well"


class Turns:
    """Costs that drift, as those of a busy machine do."""

    def __init__(self, clock: list[float], more: float) -> None:
        self._clock, self._more = clock, more

    def turn_us(self) -> float:
        self._clock[0] += 1
        return self._clock[0] + self._more


def test_a_drift_is_no_difference() -> None:
    clock = [0.0]
    one, other = (cast(CoreLoad, Turns(clock, more)) for more in (0.25, 0.0))
    found = compare(one, other, 100)
    assert found.added_ns == 250
    assert found.spread_ns == 2000
    assert found.base_us > 100
