# SPDX-License-Identifier: Apache-2.0
"""Ratios of paired windows and the command line of ``pyinfer perf compare``, without a server."""

from __future__ import annotations

import json
import random
import re

import pytest

from pyinfer.config.flags import UsageError
from pyinfer.perf.compare import Comparison, Turn
from pyinfer.perf.compare_command import parse_compare
from pyinfer.perf.compare_report import compare_document, ratio_table
from pyinfer.perf.options import Range
from pyinfer.perf.process import ProcessUse
from pyinfer.perf.ratios import paired_ratio, student_t
from pyinfer.perf.turns import take_turns
from unit.perf.test_results import MS, window


@pytest.mark.parametrize(
    ("freedom", "confidence", "expected"),
    [(1, 0.95, 12.706), (2, 0.95, 4.303), (3, 0.9, 2.353), (9, 0.95, 2.262), (10, 0.99, 3.169), (100, 0.95, 1.984)],
)
def test_students_t(freedom: int, confidence: float, expected: float) -> None:
    assert student_t(freedom, confidence) == pytest.approx(expected, abs=6e-4)


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    draw, hits = random.Random(1), 0
    for _ in range(2000):
        base = [draw.lognormvariate(0, 1) for _ in range(8)]  # the neighbours are very busy
        found = paired_ratio(base, [1.5 * value * draw.lognormvariate(0, 0.05) for value in base], 0.9)
        assert found
        assert found.low is not None
        assert found.high is not None
        hits += found.low <= 1.5 <= found.high
    assert 0.88 < hits / 2000 < 0.92


def test_ratio_and_its_inverse_are_equally_sure() -> None:
    one, other = paired_ratio([1, 2, 3], [2, 5, 5]), paired_ratio([2, 5, 5], [1, 2, 3])
    assert one
    assert other
    assert one.value == pytest.approx(1 / other.value)
    assert one.low
    assert other.high
    assert one.low == pytest.approx(1 / other.high)
    assert one.is_certain == other.is_certain


def test_what_has_no_value_makes_no_pair() -> None:
    found = paired_ratio([1, 0, 2], [3, 4, 0])
    assert found
    assert (found.value, found.low, found.high, found.pairs) == (pytest.approx(3), None, None, 1)
    assert not found.is_certain
    assert paired_ratio([0], [1]) is None


def test_turns_meet_a_steady_drift_alike() -> None:
    order = list(take_turns("abc", 4))
    assert order[:6] == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]
    places = {name: sum(place for place, (_, one) in enumerate(order) if one == name) for name in "abc"}
    assert len(set(places.values())) == 1


def drifting(factor: float, rounds: int) -> Comparison:
    """A machine that becomes slower all the time, and a server that takes ``factor`` times as long."""
    found = Comparison(("a", "b"))
    for place, (number, name) in enumerate(take_turns(found.names, rounds)):
        took = round(MS * (1 + 0.1 * place) * (factor if name == "b" else 1))
        use = ProcessUse(0.2 if name == "b" else 0.1, 2**20)
        found.turns.append(Turn(number, name, window({took: 100}, process=use)))
    return found


def test_drift_is_in_no_ratio() -> None:
    found = drifting(3.0, 10)
    ratio = found.ratio("b", "latency p99")
    assert ratio
    assert ratio.low
    assert ratio.high
    assert ratio.low < 3 < ratio.high < 3.3
    assert ratio.pairs == 10
    equal = found.ratio("b", "throughput")
    assert equal
    assert not equal.is_certain
    assert equal.value == pytest.approx(1)
    cpu = found.ratio("b", "server CPU")
    assert cpu
    assert cpu.value == pytest.approx(2)
    assert cpu.is_certain


def test_a_round_that_is_not_whole_is_in_no_ratio() -> None:
    found = drifting(2.0, 3)
    assert found.turns[-1].name == "b"
    found.turns.pop()
    ratio = found.ratio("b", "latency avg")
    assert ratio
    assert ratio.pairs == 2


def test_no_difference_is_marked() -> None:
    (head, *_), rows = (
        ratio_table(drifting(1.0, 4)).head,
        {row[0]: row[1] for row in ratio_table(drifting(1.0, 4)).rows},
    )
    assert head == "ratio"
    assert rows["latency p50"].endswith("]~")
    assert rows["server CPU"].startswith("2.000 [")
    assert rows["server CPU"].endswith("] ")
    assert "b / a" in ratio_table(drifting(1.0, 4)).text()


def parsed(*argv: str) -> dict[str, tuple[str, str, str, str, int]]:
    command = parse_compare(argv)
    assert command
    return {
        name: (one.url, one.protocol, one.model, one.version, one.server_pid) for name, one in command.servers.items()
    }


def test_servers_of_a_command_line() -> None:
    assert parsed("h:1", "grpc://h:2", "-m", "m", "-i", "http") == {
        "h:1": ("h:1", "http", "m", "", 0),
        "grpc://h:2": ("h:2", "grpc", "m", "", 0),
    }
    assert parsed("new=http://h:1/a/2", "old=h:1/b", "-i", "grpc", "--server-pid", "old=7") == {
        "new": ("h:1", "http", "a", "2", 0),
        "old": ("h:1", "grpc", "b", "", 7),
    }
    command = parse_compare(["a=h:1", "b=h:2", "-m", "m", "--rounds=4", "--concurrency-range", "3", "-b", "2"])
    assert command
    one = command.servers["b"]
    assert (command.rounds, one.batch_size, one.concurrency, one.interval_ms) == (4, 2, Range(3, 3, 1), 1000)
    assert parse_compare(["a", "--help"]) is None


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("h:1 -m m", "at least two servers"),
        ("-m m", "at least two servers"),
        ("h:1 h:1 -m m", "two servers are called 'h:1'"),
        ("a=h:1 b= -m m", "'b=' is not [NAME=]"),
        ("a=h:1 b=h:2", "no model"),
        ("a=h:1 b=h:2 -m m --rounds 3", "even number"),
        ("a=h:1 b=h:2 -m m --rounds 0", "even number"),
        ("a=h:1 b=h:2 -m m --confidence 100", "below 100"),
        ("a=h:1 b=h:2 -m m --concurrency-range 1:4", "one level of load"),
        ("a=h:1 b=h:2 -m m --server-pid c=1", "names 'c', which is no server here"),
        ("a=h:1 b=h:2 -m m --server-pid 1", "not NAME=PID"),
        ("a=h:1 b=h:2 -m m -u h:3", "-u has no meaning"),
        ("a=h:1 b=h:2 -m m -f x.csv", "use --json"),
        ("a=h:1 b=h:2 -m m --nonsense", "unrecognized"),
    ],
)
def test_what_is_refused(argv: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        parse_compare(argv.split())


def test_document_holds_everything() -> None:
    command = parse_compare(["a=h:1", "b=h:2", "-m", "m"])
    assert command
    found = drifting(2.0, 4)
    found.failures["b"] = "gone"
    document = json.loads(json.dumps(compare_document(found, command.servers)))
    assert document["base"] == "a"
    assert document["servers"]["b"]["given_up"] == "gone"
    assert [one["round"] for one in document["servers"]["b"]["windows"]] == [0, 1, 2, 3]
    ratio = document["ratios"]["b"]["latency p50"]
    assert ratio["low"] <= ratio["ratio"] <= ratio["high"]
    assert ratio["pairs"] == 4
