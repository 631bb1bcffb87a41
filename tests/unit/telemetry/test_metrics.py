# SPDX-License-Identifier: Apache-2.0
"""How pages are asked for, and what is on them that belongs to no model. Models' families are tested with the core."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import pytest

from pyinfer import _core
from pyinfer.telemetry.families import Family, Polled, counter, gauge
from pyinfer.telemetry.metrics import Metrics, machine_families

CPU_GAUGES = ["nv_cpu_utilization", "nv_cpu_memory_total_bytes", "nv_cpu_memory_used_bytes"]
PINNED_GAUGES = ["nv_pinned_memory_pool_total_bytes", "nv_pinned_memory_pool_used_bytes"]


def names(families: list[Family]) -> list[str]:
    return [name for _, name, _, _ in families]


def test_the_machine_is_shown_in_tritons_order() -> None:
    families = [family for read in machine_families() for family in read()]
    shown = [name for name in names(families) if not name.startswith(("nv_gpu", "nv_energy"))]
    assert shown == [*PINNED_GAUGES, *CPU_GAUGES]


def test_parts_of_the_machine_can_be_left_out() -> None:
    families = [family for read in machine_families(cpu=False, gpu=False) for family in read()]
    assert names(families) == PINNED_GAUGES


def test_there_is_no_pool_of_pinned_memory() -> None:
    families = [family for read in machine_families(cpu=False, gpu=False) for family in read()]
    assert {name: [sample[-1] for sample in samples] for _, name, _, samples in families} == {
        name: [0] for name in PINNED_GAUGES
    }


def test_a_page_holds_models_and_families() -> None:
    engine = _core.Engine()
    model = engine.create(_core.ModelSpec(name="m", version=3, inputs=[], outputs=[]))
    labelled = _core.MetricModel(model)
    page = Metrics(lambda: [labelled], [lambda: [gauge("a", "what", 2.5)], lambda: [counter("b", "who", 3)]]).render()
    lines = page.decode().splitlines()
    assert 'nv_inference_count{model="m",version="3"} 0' in lines
    assert lines[-3:] == ["# HELP a what", "# TYPE a gauge", "a 2.5"]
    assert "b 3" in lines
    assert b"duration_us" in page
    assert b"duration_us" not in Metrics(lambda: [labelled], latency_counters=False).render()
    model.stop()


@pytest.fixture
def clock() -> Callable[..., float]:
    moments = [100.0]

    def now(*advance: float) -> float:
        moments[0] += sum(advance)
        return moments[0]

    return now


class Writing:
    """A family whose reading waits to be let go, and counts."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.count = 0

    def __call__(self) -> list[Family]:
        self.count += 1
        number = self.count
        self.begun.release()
        assert self.go.acquire(timeout=60)
        return [gauge("number", "", number)]


def ask(metrics: Metrics, pages: list[bytes]) -> threading.Thread:
    thread = threading.Thread(target=lambda: pages.append(metrics.render()))
    thread.start()
    return thread


def waits(thread: threading.Thread) -> bool:
    """Whether the thread has its place on a page, and waits for it to be written."""
    frame = sys._current_frames().get(thread.ident or 0)
    return frame is not None and frame.f_code.co_name == "render" and "page" in frame.f_locals


def test_those_who_ask_while_a_page_is_written_share_the_next() -> None:
    writing = Writing()
    metrics = Metrics(list, [writing])
    first: list[bytes] = []
    later: list[bytes] = []
    threads = [ask(metrics, first)]
    assert writing.begun.acquire(timeout=60)
    threads += [ask(metrics, later) for _ in range(20)]
    while not all(map(waits, threads[1:])):
        time.sleep(0.001)
    writing.go.release(2)
    for thread in threads:
        thread.join(30)
    assert [page.rpartition(b" ")[2] for page in first] == [b"1\n"]
    assert [page.rpartition(b" ")[2] for page in later] == [b"2\n"] * 20
    writing.go.release()
    assert metrics.render().endswith(b" 3\n"), "no page is older than the question"


def test_a_page_may_wait_where_the_machine_is_read_or_another_page_is_written(clock: Callable[..., float]) -> None:
    metrics = Metrics(list, [lambda: [gauge("a", "", 1)], Polled(list, 2.0, clock)])
    assert metrics.may_wait(), "the machine was not read yet"
    metrics.render()
    assert not metrics.may_wait()
    clock(2.0)
    assert metrics.may_wait()
    assert not Metrics(list, [list]).may_wait()

    writing = Writing()
    metrics = Metrics(list, [writing])
    thread = ask(metrics, [])
    assert writing.begun.acquire(timeout=60)
    assert metrics.may_wait()
    writing.go.release()
    thread.join(30)
    assert not metrics.may_wait()


def test_a_page_that_fails_fails_alone() -> None:
    failures = iter([ValueError("once")])

    def read() -> list[Family]:
        for failure in failures:
            raise failure
        return [gauge("a", "", 1)]

    metrics = Metrics(list, [read])
    with pytest.raises(ValueError, match="once"):
        metrics.render()
    assert metrics.render().endswith(b"a 1\n")


def test_what_is_polled_is_read_once_in_an_interval(clock: Callable[..., float]) -> None:
    count = 0

    def read() -> list[Family]:
        nonlocal count
        count += 1
        return [gauge("a", "", count)]

    polled = Polled(read, 2.0, clock)
    values = []
    for seconds in (0, 1.9, 0.1, 0, 10):
        clock(seconds)
        values.append(polled()[0][3][0][2])
    assert values == [1, 1, 2, 2, 3]
    always = Polled(read, 0, clock)
    assert [always()[0][3][0][2] for _ in range(2)] == [4, 5]
