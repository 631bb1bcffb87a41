# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf tune`` without a server: what is tried, who is better, what is kept, and what is written."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from pyinfer.config.flags import UsageError
from pyinfer.config.messages import message
from pyinfer.config.pbtxt import parse as parse_pbtxt
from pyinfer.errors import InvalidArgument
from pyinfer.perf.tune.command import parse_tune
from pyinfer.perf.tune.goal import Figures, Goal, Outcome, combined, kept, pareto, rungs
from pyinfer.perf.tune.recommend import MARK, config_text, failures, pareto_table, reasons
from pyinfer.perf.tune.search import Tried
from pyinfer.perf.tune.space import Settings, Space, applied, default_space
from pyinfer.perf.tune.state import State


def figures(throughput: float, p99_ms: float, **more: Any) -> Figures:
    return Figures(more.pop("level", 4), throughput, p99_ms / 2, p99_ms / 3, p99_ms, **more)


def outcome(throughput: float, p99_ms: float, **more: Any) -> Outcome:
    return Outcome([figures(throughput, p99_ms, **more)])


# --- space ---------------------------------------------------------------------------------------------------------


def test_combinations_without_effect_are_left_out() -> None:
    space = Space((1, 2), (1, 8), (4, 16), (0, 500), (9.0,), (1, 2))
    found = space.candidates(cores=2)
    assert found[0].is_own
    assert len(found) == len(set(found))
    # a batch of one waits for nobody
    assert {(one.queue_delay_us, one.latency_slo_ms) for one in found if one.max_batch_size == 1} == {(0, None)}
    eight = {
        (one.preferred_batch_size, one.queue_delay_us, one.latency_slo_ms) for one in found if one.max_batch_size == 8
    }
    assert eight == {(None, 0, None), (None, 500, None), (4, 500, None), (None, None, 9.0)}
    # two instances with two threads each are more than two cores
    assert {(one.instances, one.threads) for one in found[1:]} == {(1, 1), (1, 2), (2, 1)}


def test_what_is_given_is_tried_even_where_it_is_more_than_the_cores() -> None:
    assert {one.instances for one in Space(instances=(8,), threads=(4,)).candidates(2)} == {None, 8}


def test_defaults_follow_the_model() -> None:
    onnx = default_space({"backend": "onnxruntime", "max_batch_size": 4}, 2, 50)
    assert onnx.max_batch_sizes == [1, 4, 16, 64]
    assert (onnx.instances, onnx.threads, onnx.latency_slos_ms) == ([1, 2], [1, 2], (45,))
    python = default_space({"backend": "python", "max_batch_size": 6}, 2, 0)
    # its author knows what it takes
    assert python.max_batch_sizes == [1, 4, 6]
    assert (python.instances, python.threads, python.latency_slos_ms) == ([1, 2, 4], (), ())
    single = default_space({"backend": "python", "max_batch_size": 0}, 1, 50)
    assert (single.max_batch_sizes, single.queue_delays_us, single.latency_slos_ms) == ([], (), ())
    assert default_space({"backend": "onnxruntime", "max_batch_size": 0}, 64, 0).threads == [1, 4, 16, 64]


def config(text: str) -> Any:
    return parse_pbtxt(text)


def test_settings_change_what_they_name_and_nothing_else() -> None:
    own = config(
        'name: "m" backend: "onnxruntime" max_batch_size: 4 instance_group [ { count: 3 kind: KIND_CPU } ] '
        'dynamic_batching { preferred_batch_size: [ 2, 4 ] } parameters { key: "a" value { string_value: "b" } }'
    )
    before = own.SerializeToString(deterministic=True)
    made = applied(own, Settings(2, 8, None, 500, None, 1))
    assert own.SerializeToString(deterministic=True) == before
    assert (made.max_batch_size, made.instance_group[0].count, made.instance_group[0].kind) == (8, 2, 2)
    assert made.dynamic_batching.max_queue_delay_microseconds == 500
    assert not made.dynamic_batching.preferred_batch_size
    assert {key: one.string_value for key, one in made.parameters.items()} == {"a": "b", "intra_op_thread_count": "1"}
    assert applied(own, Settings()) == own
    # sizes above the largest are an error to the server
    assert list(applied(own, Settings(max_batch_size=2)).dynamic_batching.preferred_batch_size) == [2]


def test_an_slo_and_a_delay_stand_in_for_each_other() -> None:
    own = config("max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 7 }")
    slo = applied(own, Settings(latency_slo_ms=45.5))
    assert slo.parameters["latency_slo_ms"].string_value == "45.5"
    assert slo.dynamic_batching.max_queue_delay_microseconds == 0
    delay = applied(slo, Settings(queue_delay_us=9))
    assert "latency_slo_ms" not in delay.parameters
    assert delay.dynamic_batching.max_queue_delay_microseconds == 9


# --- goal ----------------------------------------------------------------------------------------------------------


def test_limits_come_before_the_objective() -> None:
    goal = Goal(max_p99_ms=10, max_memory_mib=100)
    slow, large, fit, failed = outcome(900, 20), outcome(800, 5, memory_mib=150), outcome(100, 9), Outcome(failure="x")
    wrong = outcome(999, 1, errors={"no": 1})
    ranked = kept(goal, {"slow": slow, "large": large, "fit": fit, "failed": failed, "wrong": wrong}, 9)
    assert ranked == ["fit", "large", "slow", "wrong"]
    assert [goal.keeps(one) for one in (slow, large, fit, failed, wrong)] == [False, False, True, False, False]
    assert goal.winner({"slow": slow, "large": large}) is None


def test_the_level_that_keeps_the_limits_counts() -> None:
    both = Outcome([figures(100, 5, level=1), figures(500, 50, level=16)])
    best = Goal(max_p99_ms=10).best(both)
    assert best
    assert best.level == 1
    best = Goal().best(both)
    assert best
    assert best.level == 16


def test_of_equal_throughputs_the_lower_latency_wins() -> None:
    some = {"a": outcome(1000, 30), "b": outcome(985, 10), "c": outcome(900, 1)}
    assert Goal().winner(some) == "b"
    assert Goal("p99").winner(some) == "c"
    assert Goal("p99", min_throughput=950).winner(some) == "b"


def test_rungs_are_longer_and_fewer() -> None:
    stages = rungs(30, 500)
    assert [(one.candidates, one.interval_ms, one.rounds) for one in stages] == [
        (30, 500, 1),
        (10, 1500, 1),
        (4, 4500, 2),
    ]
    assert [one.candidates for one in rungs(3, 500)] == [3]
    cost = sum(one.candidates * one.interval_ms * one.rounds for one in rungs(243, 500))
    assert cost < 0.05 * 243 * rungs(243, 500)[-1].interval_ms * 2  # of measuring everything for as long


def test_rounds_together_are_as_slow_as_the_slowest() -> None:
    (one,) = combined([outcome(100, 10, memory_mib=5), outcome(200, 30, errors={"e": 2})]).figures
    assert (one.throughput, one.p99_ms, one.memory_mib, one.errors) == (150, 30, 5, {"e": 2})
    assert combined([outcome(1, 1), Outcome(failure="gone")]).failure == "gone"


def test_pareto() -> None:
    points = {"a": figures(100, 10), "b": figures(90, 11), "c": figures(80, 5), "d": figures(80, 6), "e": figures(9, 1)}
    assert pareto(points) == ["a", "c", "e"]


# --- state ---------------------------------------------------------------------------------------------------------


def test_state_comes_back_from_its_file(tmp_path: Path) -> None:
    file, work = tmp_path / "state.json", {"model": "m", "levels": (("Concurrency", 4.0),)}
    settings = Settings(instances=2, latency_slo_ms=0.5)
    State(file, work).keep(settings, 500, 1, outcome(5, 6, errors={"x": 1}))
    again = State(file, work)
    assert again.find(settings, 500, 1) == outcome(5, 6, errors={"x": 1})
    for other in (again.find(settings, 500, 0), again.find(settings, 1500, 1), again.find(Settings(), 500, 1)):
        assert other is None
    with pytest.raises(InvalidArgument, match="model was 'm', is 'n'"):
        State(file, {**work, "model": "n"})


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pyinfer_perf_tune": 1}'])
def test_a_file_that_is_no_state_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "precious"
    file.write_text(text)
    with pytest.raises(InvalidArgument, match="is no state of"):
        State(file, {})
    assert file.read_text() == text


# --- recommendation ------------------------------------------------------------------------------------------------


def tried() -> tuple[Tried, Settings]:
    one, eight, many = (Settings(instances=1, max_batch_size=size) for size in (1, 8, 64))
    first = {
        Settings(): outcome(90, 9),
        one: outcome(100, 10),
        eight: outcome(800, 12),
        many: Outcome(failure="no\nway"),
    }
    last = {Settings(): outcome(95, 9), eight: outcome(820, 12, memory_mib=70)}
    return Tried([first, last], finished=True), eight


def test_reasons_are_what_was_measured() -> None:
    found, winner = tried()
    (line,) = list(reasons(found, Goal(), winner))
    assert line == "max_batch_size 8: 1 gives at best 0.12 of the throughput, p99 10.0 ms; 64 fails (no\nway)"


def test_table_has_what_nobody_beats_and_the_model_as_it_is() -> None:
    found, winner = tried()
    rows = {row[0]: row for row in pareto_table(found, Goal(max_p99_ms=11), winner).rows}
    assert set(rows) == {"as it is", "instances=1 max_batch_size=1", winner.text()}
    assert [row[1] for row in rows.values()] == ["*", "", ""]
    assert failures(found.latest()) == ["instances=1 max_batch_size=64: no\nway"]


def test_what_is_written_is_a_configuration() -> None:
    own = config('name: "m" backend: "python" max_batch_size: 4')
    text = config_text(applied(own, Settings(2, 8)), ["one", 'a server\'s words }\nname: "other"'])
    assert text.startswith(MARK)
    read: Any = config(text)
    assert (read.name, read.max_batch_size, read.instance_group[0].count) == ("m", 8, 2)
    assert isinstance(read, message("ModelConfig"))


# --- command line --------------------------------------------------------------------------------------------------


def test_command_line() -> None:
    argv = ["models/m", "--instances", "1,2", "--queue-delays", "-", "--max-p99-ms", "9", "--serve=--id=x"]
    command = parse_tune([*argv, "--concurrency-range", "2:6:2", "-i", "grpc", "-b", "2"])
    assert command
    assert [value for _, value in command.levels] == [2, 4, 6]
    assert (command.space["instances"], command.space["queue_delays_us"], command.space["threads"]) == (
        (1, 2),
        (),
        None,
    )
    assert (command.goal.max_p99_ms, command.options.protocol, command.options.model) == (9, "grpc", "m")
    assert (command.state_file, command.output_file, command.flags) == ("m.tune.json", "m.config.pbtxt", ("--id=x",))
    plain = parse_tune(["m"])
    assert plain
    assert [value for _, value in plain.levels] == [4, 16, 64]
    rate = parse_tune(["m", "--request-rate-range=100", "--objective=p99"])
    assert rate
    assert rate.levels == (("Request Rate", 100.0),)
    assert parse_tune(["--help"]) is None


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        ("", "name a model"),
        ("--instances 1", "name a model"),
        ("m --instances 0", "--instances: '0' is not whole numbers from 1 on"),
        ("m --instances 1,,2", "is not whole numbers"),
        ("m --objective memory", "invalid choice"),
        ("m --objective p99", "needs one level of load"),
        ("m --concurrency-range 1:0 -l 5", "with an end"),
        ("m --periodic-concurrency-range 1:3", "with an end"),
        ("m --fixed-schedule --input-data a.json", "with an end"),
        ("m --conc 1:0 -l 5", "with an end"),
        ("m -m n", "-m has no meaning"),
        ("m -f a.csv", "single measurement"),
        ("m --max-memory -1", "must be a number from 0 on"),
        ("m --max-p99-ms nan", "must be a number from 0 on"),
        ("m --max-memory 9 -u h:1", "needs its --server-pid"),
        ("m --server-pid 1", "give its -u"),
        ("m -u h:1 --model-repository d", "for servers that are started"),
    ],
)
def test_what_is_refused(argv: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        parse_tune(argv.split())


def test_no_outcome_is_worse_than_any() -> None:
    assert Goal().rank(Outcome(failure="x")) == (math.inf, math.inf)
