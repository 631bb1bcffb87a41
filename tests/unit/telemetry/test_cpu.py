# SPDX-License-Identifier: Apache-2.0
"""The machine's gauges, out of files that look like those of ``/proc``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyinfer.telemetry.cpu import CpuGauges, parse_meminfo, parse_stat, utilization

STAT = "cpu  100 0 50 800 50 0 0 0 7 7\ncpu0 1 1 1 1 1 1 1 1 1 1\nintr 5\n"
MEMORY = "MemTotal:       2000 kB\nMemFree:        10 kB\nMemAvailable:   500 kB\n"


def values(gauges: CpuGauges) -> dict[str, float]:
    return {name: value for kind, name, _, [(_, _, value)] in gauges.read() if kind == "gauge"}


def test_idle_and_all_ticks() -> None:
    assert parse_stat(STAT) == (850, 1000)


@pytest.mark.parametrize("text", ["", "cpu 1 2", "cpu0 1 2 3 4 5 6 7 8", "cpu a b c d e f g h"])
def test_a_stat_file_that_says_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        parse_stat(text)


def test_memory_in_bytes() -> None:
    assert parse_meminfo(MEMORY) == (2000 * 1024, 500 * 1024)


@pytest.mark.parametrize(
    ("before", "after", "share"),
    [
        ((0, 0), (50, 100), 0.5),
        ((10, 100), (10, 200), 1.0),
        ((10, 100), (110, 200), 0.0),
        ((10, 100), (10, 100), 0.75),  # no tick: as before
        ((10, 100), (5, 90), 0.75),
        ((10, 100), (5, 110), 1.0),  # iowait may go backwards
    ],
)
def test_utilization(before: tuple[int, int], after: tuple[int, int], share: float) -> None:
    assert utilization(before, after, 0.75) == share


def test_readings_of_a_machine(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT)
    (tmp_path / "meminfo").write_text(MEMORY)
    gauges = CpuGauges(tmp_path)
    (tmp_path / "stat").write_text("cpu  130 0 50 870 50 0 0 0\n")
    assert values(gauges) == {
        "nv_cpu_utilization": pytest.approx(0.3),
        "nv_cpu_memory_total_bytes": 2000 * 1024,
        "nv_cpu_memory_used_bytes": 1500 * 1024,
    }


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert CpuGauges(tmp_path).read() == []


def test_this_machine() -> None:
    found = values(CpuGauges())
    assert 0 <= found["nv_cpu_utilization"] <= 1
    assert 0 < found["nv_cpu_memory_used_bytes"] < found["nv_cpu_memory_total_bytes"]
