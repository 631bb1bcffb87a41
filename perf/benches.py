# SPDX-License-Identifier: Apache-2.0
"""Run one scenario and return its figures: ``{server: {figure: number}}``.

Servers of one scenario are all up at once and take turns (A B A B), so that a slow minute of the machine hits all.
Windows in which the hypervisor took too much CPU time are run again, and those with the least of it are kept.
"""

from __future__ import annotations

import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from perf.bodies import Body, Protocol, datatype_of, fp32_rows, make_body, string_rows
from perf.clients import run_agreement, run_clients
from perf.core_load import CoreLoad, Difference, compare
from perf.events import measure_events
from perf.in_process import measure_in_process, run_once
from perf.json_readers import measure_json_readers
from perf.kills import KILLED, OTHER, measure_kills
from perf.load import LoadError, Window, measure_window, send_all
from perf.padding import build_padding_repository, measure_padding
from perf.peer_servers import PEERS, peer_body, read_answer, start_peer
from perf.polled import measure_polled
from perf.procs import cpu_seconds, memory
from perf.python_calls import measure_calls
from perf.queue_depth import measure_queue
from perf.scenarios import Scenario
from perf.servers import Server, build_repository, start_echo, start_server
from perf.shared_memory import by_grpc, by_shared_memory, measure_exchange
from perf.slo_runs import run_batching_hurts, run_goodput
from perf.turns import in_turns, medians
from pyinfer.perf.turns import take_turns

__all__ = ["FULL", "KINDS", "QUICK", "Effort", "keep_calmest", "run_scenario", "summarise"]

_Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Effort:
    """How long to look: windows of ``seconds``, ``rounds`` kept of at most ``tries``, and so on."""

    seconds: int
    rounds: int
    tries: int
    max_stolen: float
    starts: int
    growth_requests: int
    kills: int


FULL = Effort(seconds=3, rounds=4, tries=8, max_stolen=0.05, starts=5, growth_requests=1_000_000, kills=1000)
QUICK = Effort(seconds=1, rounds=1, tries=2, max_stolen=0.10, starts=1, growth_requests=100_000, kills=20)


def run_scenario(scenario: Scenario, effort: Effort, peers: Sequence[str]) -> _Figures:
    """Measure pyinfer and those of the scenario's peers that are in ``peers`` (``echo`` is always run)."""
    names = ["pyinfer", *(peer for peer in scenario.peers if peer == "echo" or peer in peers)]
    with tempfile.TemporaryDirectory(prefix="perf-") as directory:
        models = [] if scenario.model == "wide_mlp" else [scenario.model]  # that one is made
        repository = build_repository(Path(directory) / "models", models)
        return KINDS[scenario.kind](scenario, effort, names, repository)


def _load(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_start(name, repository, scenario)) for name in names}
        bodies = {name: _body(scenario, scenario.protocol, name) for name in names}

        def window(name: str, seconds: float) -> Window:
            return measure_window(servers[name], bodies[name], scenario.connections, scenario.streams, seconds)

        for name, server in servers.items():
            _check_answer(server, bodies[name], scenario, repository)
            window(name, 1)
        windows: dict[str, list[Window]] = {name: [] for name in names}
        for _, name in take_turns(names, effort.tries):
            windows[name].append(window(name, effort.seconds))
            calm = (sum(w.stolen <= effort.max_stolen for w in of_one) for of_one in windows.values())
            if min(calm) >= effort.rounds:
                break
        figures = {name: summarise(keep_calmest(windows[name], effort.rounds)) for name in names}
        for name, server in servers.items():
            figures[name]["rss_mib"] = memory(server.pid).rss_mib
    if scenario.in_process:
        batch = max(1, round(figures["pyinfer"]["mean_batch"]))
        figures["in_process"] = measure_in_process(
            _onnx_file(scenario, repository),
            scenario.input,
            scenario.elements,
            batch,
            seconds=effort.seconds / 2,
            rounds=effort.rounds,
        )
    return figures


def _json(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    """Servers that take the request and give its like back; then readers of its body, in this process."""
    loads = _load(scenario, effort, names, repository)
    shown = ("cpu_us", "requests_per_s", "p50_us", "rss_mib", "failures", "stolen", "windows")
    readers = measure_json_readers(_body(scenario, scenario.protocol).content, turns=effort.tries)
    return {name: {key: row[key] for key in shown} for name, row in loads.items()} | readers


def _start_stop(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    def once(name: str) -> dict[str, float]:
        with _start(name, repository, scenario) as server:
            time.sleep(1)  # what start-up left to do
            cpu = cpu_seconds(server.pid)
            time.sleep(1)
            idle, size = cpu_seconds(server.pid) - cpu, memory(server.pid)
            start = time.perf_counter()
            server.child.stop()
            return {
                "ready_s": server.ready_s,
                "rss_mib": size.rss_mib,
                "pss_mib": size.pss_mib,
                "idle_cpu_ms_per_s": 1000 * idle,
                "stop_s": time.perf_counter() - start,
            }

    return {name: medians(runs) for name, runs in in_turns(names, effort.starts, once).items()}


def _polled(scenario: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    body = _body(scenario, scenario.protocol)
    with _start("pyinfer", repository, scenario) as server:

        def window() -> Window:
            return measure_window(server, body, scenario.connections, scenario.streams, effort.seconds)

        return measure_polled(server, scenario.model, window, 2 * effort.tries)


def _growth(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    """RSS before and after ``growth_requests``, in ten parts that take turns between gRPC and HTTP JSON."""
    figures: _Figures = {}
    for name in names:
        with _start(name, repository, scenario) as server:
            bodies = [_body(scenario, "grpc"), _body(scenario, "http_json")]
            _check_answer(server, bodies[0], scenario, repository)
            part = effort.growth_requests // 10
            for body in bodies:
                send_all(server, body, scenario.connections, scenario.streams, part // 2)
            sizes = [memory(server.pid).rss_mib]
            before = server.counts(scenario.model)
            for turn in range(10):
                send_all(server, bodies[turn % 2], scenario.connections, scenario.streams, part)
                sizes.append(memory(server.pid).rss_mib)
            answered = server.counts(scenario.model).inferences - before.inferences
        figures[name] = {
            "growth_mib": sizes[-1] - sizes[0],
            "requests": answered,
            "rss_mib": sizes[-1],
            "sizes_mib": sizes,
        }
    return figures


def _shared_memory(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    tensor = fp32_rows(scenario.elements)
    ways = {"grpc": by_grpc, "shm": by_shared_memory}

    def once(server: Server) -> dict[str, float]:
        row: dict[str, float] = {}
        for way, open_way in ways.items():
            with open_way(server, scenario.model, tensor) as exchange:
                figures = measure_exchange(server, exchange, tensor, effort.seconds)
            row |= {f"{way}_{key}": value for key, value in figures.items()}
        return row | {"shm_over_grpc": row["shm_mb_per_s"] / row["grpc_mb_per_s"]}

    return _alternate(scenario, effort, names, repository, once)


def _events(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    def once(server: Server) -> dict[str, float]:
        return measure_events(server, scenario.model, scenario.elements, effort.seconds)

    return _alternate(scenario, effort, names, repository, once)


def _alternate(
    scenario: Scenario,
    effort: Effort,
    names: Sequence[str],
    repository: Path,
    measure: Callable[[Server], Mapping[str, float]],
) -> _Figures:
    """What ``measure`` finds of each server, all of them up at once."""
    with contextlib.ExitStack() as stack:
        servers = {name: stack.enter_context(_start(name, repository, scenario)) for name in names}
        seen = in_turns(names, effort.rounds, lambda name: measure(servers[name]))
    return {name: medians(rows) for name, rows in seen.items()}


def _histograms(scenario: Scenario, effort: Effort, _names: Sequence[str], _repository: Path) -> _Figures:
    """The core with and without them, and twice without, which tells the error. The calmest tries are kept."""
    seen = [_compare_cores(scenario, 1500, histograms=True) for _ in range(effort.tries)]
    alike = [_compare_cores(scenario, 1500, histograms=False) for _ in range(effort.tries)]
    kept, null = (sorted(tries, key=lambda one: one.spread_ns)[: effort.rounds] for tries in (seen, alike))
    base, added = (statistics.median(values) for values in zip(*((d.base_us, d.added_ns) for d in kept), strict=True))
    noise = statistics.median(abs(one.added_ns) for one in null)
    row = {
        "cpu_us": base + added / 1000,
        "added_ns": added,
        "noise_ns": noise,
        "windows": [asdict(one) for one in seen],
    }
    return {"pyinfer": row, "without_histograms": {"cpu_us": base}}


#: models of the ensemble that is measured
_STEPS = 3
#: requests that wait
_DEPTHS = (1, 1_000, 1_000_000)


def _ensemble(scenario: Scenario, effort: Effort, _names: Sequence[str], _repository: Path) -> _Figures:
    """A chain of identity models beside one of them. All that the ensemble costs is laid on the steps beyond the first,
    executions included. The calmest tries are kept."""
    seen = []
    for _ in range(effort.tries):
        with (
            contextlib.closing(CoreLoad(scenario.elements, ensemble_steps=_STEPS)) as chain,
            contextlib.closing(CoreLoad(scenario.elements)) as alone,
        ):
            if min(chain.burst(), alone.burst()) < 4 * scenario.elements:
                raise LoadError("the core does not answer as it should")
            seen.append(compare(chain, alone, 300))
    kept = sorted(seen, key=lambda one: one.spread_ns)[: effort.rounds]
    base, added = (statistics.median(values) for values in zip(*((d.base_us, d.added_ns) for d in kept), strict=True))
    row = {
        "cpu_us": base + added / 1000,
        "step_us": added / 1000 / (_STEPS - 1),
        "windows": [asdict(one) for one in seen],
    }
    return {"pyinfer": row, "one_model": {"cpu_us": base}}


def _queue(_scenario: Scenario, effort: Effort, _names: Sequence[str], _repository: Path) -> _Figures:
    """Depths take turns. CPU time is only ever added to by what else the machine does: the calmest tries are kept."""
    seen: dict[int, list[float]] = {depth: [] for depth in _DEPTHS}
    expired: dict[int, float] = {}
    for _ in range(effort.tries):
        for depth in _DEPTHS:
            one = measure_queue(depth)
            seen[depth].append(one.request_us)
            expired[depth] = one.expired
    return {
        f"waiting_{depth}": {
            "request_us": statistics.median(sorted(tries)[: effort.rounds]),
            "expired": expired[depth],
            "windows": tries,
        }
        for depth, tries in seen.items()
    }


def _goodput(scenario: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    """Windows are long enough for a queue to grow beyond what a fixed delay could still answer in time; there are many
    of them.
    """
    return run_goodput(repository, scenario.model, 1.5 * effort.seconds, max(1, effort.rounds // 2))


def _batching_hurts(_: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    return run_batching_hurts(repository, 2 * effort.seconds, effort.rounds)


def _calls(_scenario: Scenario, effort: Effort, _names: Sequence[str], _repository: Path) -> _Figures:
    """CPU time is only ever added to by what else the machine does: the calmest tries are kept."""
    seen = [measure_calls() for _ in range(effort.tries)]
    kept = sorted(seen, key=lambda one: one.calls_us)[: effort.rounds]
    fields = {"pyinfer": "calls_us", "own_threads": "own_threads_us", "executions": "executions_us"}
    rows = {row: {"cpu_us": statistics.median(getattr(one, field) for one in kept)} for row, field in fields.items()}
    return rows | {"pyinfer": {**rows["pyinfer"], "windows": [asdict(one) for one in seen]}}


def _compare_cores(scenario: Scenario, turns: int, *, histograms: bool) -> Difference:
    with (
        contextlib.closing(CoreLoad(scenario.elements, histograms=histograms)) as one,
        contextlib.closing(CoreLoad(scenario.elements, histograms=False)) as other,
    ):
        if one.burst() < 4 * scenario.elements or one.burst() != other.burst():
            raise LoadError("the core does not answer as it should")
        return compare(one, other, turns)


def _padding(scenario: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    """Windows are long enough for hundreds of answers, of which the slowest tell."""
    models = build_padding_repository(repository.parent / "padding")
    with start_server("pyinfer", models) as server:
        return measure_padding(server, scenario.texts, scenario.connections, 5 * effort.seconds, effort.rounds)


def _kills(_: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    models = build_repository(repository.parent / "killed", [KILLED, OTHER])
    with start_server("pyinfer", models) as server:
        return {"pyinfer": measure_kills(server, effort.kills)}


def _clients(scenario: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    return run_clients(scenario, repository, 2 * effort.seconds / 3, effort.rounds)


def _agreement(scenario: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    return run_agreement(scenario, repository, 2 * effort.seconds / 3, effort.rounds)


KINDS: Mapping[str, Callable[[Scenario, Effort, Sequence[str], Path], _Figures]] = {
    "load": _load,
    "json": _json,
    "start": _start_stop,
    "growth": _growth,
    "shared_memory": _shared_memory,
    "events": _events,
    "polled": _polled,
    "histograms": _histograms,
    "ensemble": _ensemble,
    "goodput": _goodput,
    "batching_hurts": _batching_hurts,
    "padding": _padding,
    "queue": _queue,
    "kills": _kills,
    "clients": _clients,
    "agreement": _agreement,
    "calls": _calls,
}


def keep_calmest(windows: Sequence[Window], count: int) -> list[Window]:
    """The ``count`` windows of which the hypervisor took the least."""
    return sorted(windows, key=lambda window: window.stolen)[:count]


def summarise(windows: Sequence[Window]) -> dict[str, Any]:
    """Medians over the windows, the sum of failures, the spread of the rate, and the windows themselves."""
    rows = [window.as_dict() for window in windows]
    summary: dict[str, Any] = {key: statistics.median(row[key] for row in rows) for key in rows[0]}
    summary["failures"] = sum(window.failures for window in windows)
    rates = [window.requests_per_s for window in windows]
    summary["requests_per_s_range"] = [min(rates), max(rates)]
    summary["windows"] = rows
    return summary


def _start(name: str, repository: Path, scenario: Scenario) -> Server:
    if name == "echo":
        return start_echo()
    if name in PEERS:
        return start_peer(name, _onnx_file(scenario, repository))
    return start_server(name, repository)


def _onnx_file(scenario: Scenario, repository: Path) -> Path:
    return repository / scenario.model / "1" / "model.onnx"


def _rows(scenario: Scenario) -> NDArray[Any]:
    return string_rows(scenario.elements) if scenario.datatype == "BYTES" else fp32_rows(scenario.elements)


def _body(scenario: Scenario, protocol: Protocol, server: str = "pyinfer") -> Body:
    tensor = _rows(scenario)
    if server in PEERS:
        return peer_body(server, scenario.model, tensor, input_name=scenario.input, output=scenario.output)
    return make_body(protocol, scenario.model, tensor, name=scenario.input, output=scenario.output)


def _check_answer(server: Server, body: Body, scenario: Scenario, repository: Path) -> None:
    """One request, whose answer must be right: a fast server that errs is of no interest."""
    if server.name == "echo":
        return
    tensor = _rows(scenario)
    wanted = tensor
    if scenario.model == "simple_mlp":
        wanted = run_once(_onnx_file(scenario, repository), scenario.input, tensor)
    answer = read_answer(server, body) if server.name in PEERS else _ask(server, scenario, tensor)
    is_text = scenario.datatype == "BYTES"
    if answer is None or not (np.array_equal(answer, wanted) if is_text else np.allclose(answer, wanted, atol=1e-5)):
        raise LoadError(f"{server.name} gives a wrong answer for {scenario.model}")


def _ask(server: Server, scenario: Scenario, tensor: NDArray[Any]) -> Any:
    import tritonclient.http as client

    given = client.InferInput(scenario.input, list(tensor.shape), datatype_of(tensor))
    given.set_data_from_numpy(tensor)
    with contextlib.closing(client.InferenceServerClient(server.http)) as connection:
        return connection.infer(scenario.model, [given]).as_numpy(scenario.output)
