# SPDX-License-Identifier: Apache-2.0
"""The house in which the manager's tests live; it checks at the end that nothing is left alive."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from unit.repository.house import House


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    for gate in made.loader.gates.values():
        gate.set()
    assert made.manager.close(60)
    made.workers.shutdown()
    assert made.loader.alive() == []
