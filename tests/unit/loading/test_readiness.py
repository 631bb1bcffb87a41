# SPDX-License-Identifier: Apache-2.0
"""Questions to model code that may be slow, raise or never return."""

from __future__ import annotations

import threading

import pytest

from pyinfer.readiness import ReadinessProbe, all_ready


class Hook:
    """Answers when it is let; counts how many calls there are at the same time."""

    def __init__(self, answer: bool = True) -> None:
        self.answer = answer
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.calls = 0
        self.inside = 0
        self.most = 0

    def __call__(self) -> bool:
        self.calls += 1
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.gate.wait(60)
        self.inside -= 1
        return self.answer


def test_answers() -> None:
    assert all_ready([])
    assert all_ready([ReadinessProbe(lambda: True, "a"), ReadinessProbe(lambda: True, "b")])
    assert not all_ready([ReadinessProbe(lambda: True, "a"), ReadinessProbe(lambda: False, "b")])


def test_who_asks_meanwhile_waits_for_the_same_call() -> None:
    hook = Hook()
    probe = ReadinessProbe(hook, "a", limit_s=60)
    answers: list[bool] = []
    waits = [probe.begin() for _ in range(5)]
    threads = [threading.Thread(target=lambda wait=wait: answers.append(wait())) for wait in waits]
    for thread in threads:
        thread.start()
    hook.gate.set()
    for thread in threads:
        thread.join()
    assert answers == [True] * 5
    assert (hook.calls, hook.most) == (1, 1)
    assert probe.begin()()
    assert hook.calls == 2


def test_one_that_does_not_return_is_not_ready_and_is_not_called_again(caplog: pytest.LogCaptureFixture) -> None:
    hook = Hook()
    probe = ReadinessProbe(hook, "a_0", limit_s=0.01)
    for _ in range(3):
        assert not probe.begin()()
    assert hook.calls == 1
    assert caplog.text.count("instance 'a_0' is not ready: is_ready did not return within 0.01 s") == 1
    hook.gate.set()
    while hook.inside:
        threading.Event().wait(0.001)
    while not probe.begin()():
        threading.Event().wait(0.001)
    assert hook.most == 1


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt()])
def test_one_that_raises_is_not_ready(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    def hook() -> bool:
        raise error

    probe = ReadinessProbe(hook, "a")
    assert not probe.begin()()
    assert f"is_ready raised {type(error).__name__}" in caplog.text
    assert "secret" not in caplog.text


def test_only_what_is_new_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    answers = iter([True, False, False, True, True])
    probe = ReadinessProbe(lambda: next(answers), "a")
    assert [probe.begin()() for _ in range(5)] == [True, False, False, True, True]
    assert [record.getMessage() for record in caplog.records] == [
        "instance 'a' is not ready: is_ready said so",
        "instance 'a' is ready again",
    ]


def test_a_closed_one_is_not_called_any_more() -> None:
    hook = Hook()
    probe = ReadinessProbe(hook, "a", limit_s=60)
    wait = probe.begin()
    assert hook.entered.wait(60)
    closing = threading.Thread(target=probe.close)
    closing.start()
    assert not probe.begin()() or hook.calls == 1
    hook.gate.set()
    closing.join()
    assert hook.inside == 0, "closed while the hook was running"
    assert wait()
    assert not probe.begin()()
    assert hook.calls == 1
