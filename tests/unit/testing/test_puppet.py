# SPDX-License-Identifier: Apache-2.0
"""Puppet: the real scheduler, moved by hand."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from pyinfer._core import ModelSpec, TensorSpec
from pyinfer.testing import Puppet


@pytest.fixture
def puppet() -> Iterator[Puppet]:
    spec = ModelSpec(
        name="puppet",
        version=1,
        inputs=[TensorSpec("INPUT0", "FP32", [2])],
        outputs=[TensorSpec("OUTPUT0", "FP32", [2])],
        max_batch_size=4,
        dynamic_batching=True,
        preferred_batch_sizes=[4],
        max_queue_delay_us=1000,
    )
    made = Puppet(spec)
    yield made
    made.close()


def request(value: float, rows: int = 1) -> dict[str, tuple[str, np.ndarray]]:
    return {"INPUT0": ("FP32", np.full((rows, 2), value, np.float32))}


def test_waits_for_the_delay(puppet: Puppet) -> None:
    ticket = puppet.submit(request(1), request_id="one")
    assert puppet.take() is None
    assert puppet.wake_at_ns() == puppet.clock.now_ns() + 1_000_000
    puppet.advance(microseconds=999)
    assert puppet.take() is None
    puppet.advance(microseconds=1)
    batch = puppet.take()
    assert batch is not None
    assert (len(batch), batch.rows, batch.request_id(0)) == (1, 1, "one")
    assert puppet.answers() == {}
    batch.respond_packed({"OUTPUT0": batch.packed()["INPUT0"] * 2})
    batch.finish()
    answer = puppet.answers()[ticket]
    assert (answer.status, answer.error) == (200, "")
    np.testing.assert_array_equal(np.frombuffer(answer.outputs["OUTPUT0"], np.float32), [2, 2])


def test_a_preferred_batch_does_not_wait(puppet: Puppet) -> None:
    tickets = [puppet.submit(request(value)) for value in range(5)]
    batch = puppet.take()
    assert batch is not None
    assert len(batch) == 4
    assert puppet.take() is None
    batch.respond_packed({"OUTPUT0": batch.packed()["INPUT0"]})
    batch.finish()
    answers = puppet.answers()
    assert sorted(answers) == tickets[:4]
    for value, ticket in enumerate(tickets[:4]):
        np.testing.assert_array_equal(np.frombuffer(answers[ticket].outputs["OUTPUT0"], np.float32), [value] * 2)


def test_refused_and_cancelled_requests(puppet: Puppet) -> None:
    refused = puppet.submit(request(1, rows=5))
    assert puppet.answers()[refused].status == 400
    cancelled, kept = puppet.submit(request(1)), puppet.submit(request(2))
    puppet.cancel(cancelled)
    puppet.advance(microseconds=1000)
    batch = puppet.take()
    assert batch is not None
    live = [index for index in range(len(batch)) if not batch.is_cancelled(index)]
    assert len(live) == 1
    for index in range(len(batch)):
        batch.fail(index, "UNAVAILABLE", "held by a puppet")
    batch.finish()
    answers = puppet.answers()
    assert cancelled not in answers
    assert (answers[kept].status, answers[kept].error.endswith("held by a puppet")) == (503, True)


def test_close_answers_what_waits(puppet: Puppet) -> None:
    ticket = puppet.submit(request(1))
    puppet.close()
    assert puppet.answers()[ticket].status == 503
