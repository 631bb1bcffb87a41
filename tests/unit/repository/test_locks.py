# SPDX-License-Identifier: Apache-2.0
"""Locks of model names: who waits for whom, and where a ring of those who wait is broken."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import pytest

from pyinfer.errors import InvalidArgument
from pyinfer.repository.locks import NameLocks
from waiting import eventually

LIMIT_S = 60


class Operation:
    """Holds names on a thread of its own, until it is told to end."""

    def __init__(self, locks: NameLocks, names: str, asking: str = "") -> None:
        self._locks, self._names, self._asking = locks, names.split(), asking
        self._end = threading.Event()
        self._holds = threading.Event()
        self._outcome: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            with self._locks.hold(self._names, self._asking):
                self._holds.set()
                assert self._end.wait(LIMIT_S)
            self._outcome.set_result(None)
        except BaseException as error:
            self._outcome.set_exception(error)

    def holding(self) -> Operation:
        eventually(self._holds.is_set, f"{self._names} are held")
        return self

    def waiting(self) -> Operation:
        eventually(self._waits, f"a lock of {self._names} is waited for")
        assert not self._holds.is_set()
        return self

    def _waits(self) -> bool:
        frame = sys._current_frames().get(self._thread.ident or 0)
        names = []
        while frame is not None:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        return names[:1] == ["wait"] and "_take" in names

    def end(self) -> None:
        self._end.set()
        self._outcome.result(LIMIT_S)

    def fault(self) -> str:
        error = self._outcome.exception(LIMIT_S)
        assert isinstance(error, InvalidArgument)
        return str(error)


Begin = Callable[..., Operation]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Begins an operation; all of them have ended at the end, and nothing is left of them."""
    locks = NameLocks()
    begun: list[Operation] = []

    def begin(names: str, asking: str = "") -> Operation:
        begun.append(Operation(locks, names, asking))
        return begun[-1]

    yield begin
    for operation in begun:
        operation._end.set()
    for operation in begun:
        operation._thread.join(LIMIT_S)
    with within(locks):
        assert not locks._holders
        assert not locks._asked


@contextmanager
def within(locks: NameLocks) -> Iterator[None]:
    with locks._changed:
        yield


def test_a_name_is_held_by_one_at_a_time(begin: Begin) -> None:
    first = begin("a b").holding()
    other = begin("c").holding()
    second = begin("b d").waiting()
    third = begin("d").holding()  # names are taken in one order: the second has none of it yet
    third.end()
    first.end()
    second.holding().end()
    other.end()


def test_a_question_may_wait_for_what_does_not_wait_for_it(begin: Begin) -> None:
    """a is loaded and asks for b, which somebody else is loading; then b is there."""
    a = begin("a").holding()
    b = begin("b").holding()
    question = begin("b", asking="a").waiting()
    b.end()
    question.holding().end()
    a.end()


def test_two_that_ask_for_each_other(begin: Begin) -> None:
    a = begin("a").holding()
    b = begin("b").holding()
    waiting = begin("b", asking="a").waiting()
    assert begin("a", asking="b").fault() == (
        "model 'b' would wait for ever for model 'a', which is being loaded or unloaded and waits for 'b'"
    )
    waiting.waiting()
    b.end()  # its load fails or goes on without a
    waiting.holding().end()
    a.end()


def test_a_chain_of_questions_that_comes_back(begin: Begin) -> None:
    """a asks for b, and its load for c, and its load for a."""
    a = begin("a").holding()
    b = begin("b", asking="a").holding()
    c = begin("c", asking="b").holding()
    assert "model 'c' would wait for ever for model 'a'" in begin("a", asking="c").fault()
    for operation in (c, b, a):
        operation.end()


def test_who_closes_a_ring_without_a_question_is_not_refused(begin: Begin) -> None:
    """A load of an ensemble has a and comes to b, which is being loaded and asks for a: b is told, not the client."""
    between = begin("aa").holding()
    b = begin("b").holding()
    ensemble = begin("a aa b").waiting()
    question = begin("a", asking="b").waiting()
    between.end()
    assert "model 'b' would wait for ever for model 'a'" in question.fault()
    ensemble.waiting()
    b.end()
    ensemble.holding().end()


def test_an_operation_that_waits_for_a_question_is_part_of_the_ring(begin: Begin) -> None:
    """a has asked for b, and b's load wants more: the question of another model closes the ring, three long."""
    d = begin("d").holding()
    a = begin("a").holding()
    b = begin("b d", asking="a").waiting()  # has b, wants d
    question = begin("a", asking="d")
    assert "model 'd' would wait for ever for model 'a'" in question.fault()
    d.end()
    b.holding().end()
    a.end()
