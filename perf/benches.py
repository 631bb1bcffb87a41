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

from perf.bodies import Body, fp32_rows, write_body
from perf.core_load import CoreLoad, Difference, compare
from perf.events import measure_events
from perf.in_process import measure_in_process, run_once
from perf.json_readers import measure_json_readers
from perf.load import LoadError, Window, measure_window, run_h2load
from perf.padding import build_padding_repository, measure_padding
from perf.procs import cpu_seconds, memory
from perf.queue_depth import measure_queue
from perf.scenarios import Scenario
from perf.servers import Server, build_repository, start_echo, start_server
from perf.shared_memory import by_grpc, by_shared_memory, measure_exchange
from perf.slo_runs import run_batching_hurts, run_goodput

__all__ = ["FULL", "QUICK", "Effort", "keep_calmest", "run_scenario", "summarise"]

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


FULL = Effort(seconds=3, rounds=4, tries=8, max_stolen=0.05, starts=5, growth_requests=1_000_000)
QUICK = Effort(seconds=1, rounds=1, tries=2, max_stolen=0.10, starts=1, growth_requests=100_000)


def run_scenario(scenario: Scenario, effort: Effort, peers: Sequence[str]) -> _Figures:
    """Measure pyinfer and those of the scenario's peers that are in ``peers`` (``echo`` is always run)."""
    names = ["pyinfer", *(peer for peer in scenario.peers if peer == "echo" or peer in peers)]
    with tempfile.TemporaryDirectory(prefix="perf-") as directory:
        repository = build_repository(Path(directory) / "models", [scenario.model])
        return _KINDS[scenario.kind](scenario, effort, names, repository)


def _load(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_start(name, repository)) for name in names]
        bodies = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perf-")))
        body = _body(scenario, scenario.protocol, bodies)
        for server in servers:
            _check_answer(server, scenario, repository)
            measure_window(server, body, scenario.connections, scenario.streams, 1)
        windows: dict[str, list[Window]] = {name: [] for name in names}
        for _ in range(effort.tries):
            for server in servers:
                window = measure_window(server, body, scenario.connections, scenario.streams, effort.seconds)
                _check_size(server, scenario, window)
                windows[server.name].append(window)
            calm = (sum(w.stolen <= effort.max_stolen for w in of_one) for of_one in windows.values())
            if min(calm) >= effort.rounds:
                break
        figures = {s.name: summarise(keep_calmest(windows[s.name], effort.rounds)) for s in servers}
        for server in servers:
            figures[server.name]["rss_mib"] = memory(server.pid).rss_mib
    if scenario.in_process:
        batch = max(1, round(figures["pyinfer"]["mean_batch"]))
        model = repository / scenario.model / "1" / "model.onnx"
        figures["in_process"] = measure_in_process(
            model, scenario.input, scenario.elements, batch, seconds=effort.seconds / 2, rounds=effort.rounds
        )
    return figures


def _json(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    """Servers that take the request and give its like back; then readers of its body, in this process."""
    loads = _load(scenario, effort, names, repository)
    shown = ("cpu_us", "requests_per_s", "p50_us", "rss_mib", "failures", "stolen", "windows")
    with tempfile.TemporaryDirectory(prefix="perf-") as folder:
        body = _body(scenario, scenario.protocol, Path(folder)).path.read_bytes()
    readers = measure_json_readers(body, turns=effort.tries)
    return {name: {key: row[key] for key in shown} for name, row in loads.items()} | readers


def _start_stop(_: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for _turn in range(effort.starts):
        for name in names:
            with _start(name, repository) as server:
                time.sleep(1)  # what start-up left to do
                cpu = cpu_seconds(server.pid)
                time.sleep(1)
                idle, size = cpu_seconds(server.pid) - cpu, memory(server.pid)
                start = time.perf_counter()
                server.child.stop()
                seen[name].append(
                    {
                        "ready_s": server.ready_s,
                        "rss_mib": size.rss_mib,
                        "pss_mib": size.pss_mib,
                        "idle_cpu_ms_per_s": 1000 * idle,
                        "stop_s": time.perf_counter() - start,
                    }
                )
    return {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]} | {"windows": runs}
        for name, runs in seen.items()
    }


def _growth(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    """RSS before and after ``growth_requests``, in ten parts that take turns between gRPC and HTTP JSON."""
    figures: _Figures = {}
    for name in names:
        with _start(name, repository) as server, tempfile.TemporaryDirectory(prefix="perf-") as folder:
            bodies = [_body(scenario, protocol, Path(folder)) for protocol in ("grpc", "http_json")]
            _check_answer(server, scenario, repository)
            part = effort.growth_requests // 10
            for body in bodies:
                _send(server, body, scenario, part // 2)
            sizes = [memory(server.pid).rss_mib]
            before = server.counts(scenario.model)
            for turn in range(10):
                _send(server, bodies[turn % 2], scenario, part)
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
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_start(name, repository)) for name in names]
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(effort.rounds):
            for server in servers:
                row: dict[str, float] = {}
                for way, open_way in ways.items():
                    with open_way(server, scenario.model, tensor) as exchange:
                        figures = measure_exchange(server, exchange, tensor, effort.seconds)
                    row |= {f"{way}_{key}": value for key, value in figures.items()}
                seen[server.name].append(row | {"shm_over_grpc": row["shm_mb_per_s"] / row["grpc_mb_per_s"]})
    return {
        name: {key: statistics.median(one[key] for one in rows) for key in rows[0]} | {"windows": rows}
        for name, rows in seen.items()
    }


def _events(scenario: Scenario, effort: Effort, names: Sequence[str], repository: Path) -> _Figures:
    with contextlib.ExitStack() as stack:
        servers = [stack.enter_context(_start(name, repository)) for name in names]
        seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(effort.rounds):
            for server in servers:
                seen[server.name].append(measure_events(server, scenario.model, scenario.elements, effort.seconds))
    return {
        name: {key: statistics.median(one[key] for one in rows) for key in rows[0]} | {"windows": rows}
        for name, rows in seen.items()
    }


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


def _goodput(_: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    return run_goodput(repository, 3 * effort.seconds, effort.rounds)


def _batching_hurts(_: Scenario, effort: Effort, _names: Sequence[str], repository: Path) -> _Figures:
    return run_batching_hurts(repository, 2 * effort.seconds, effort.rounds)


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


_KINDS: Mapping[str, Callable[[Scenario, Effort, Sequence[str], Path], _Figures]] = {
    "load": _load,
    "json": _json,
    "start": _start_stop,
    "growth": _growth,
    "shared_memory": _shared_memory,
    "events": _events,
    "histograms": _histograms,
    "ensemble": _ensemble,
    "goodput": _goodput,
    "batching_hurts": _batching_hurts,
    "padding": _padding,
    "queue": _queue,
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


def _start(name: str, repository: Path) -> Server:
    return start_echo() if name == "echo" else start_server(name, repository)


def _body(scenario: Scenario, protocol: Any, directory: Path) -> Body:
    tensor = fp32_rows(scenario.elements)
    return write_body(directory, protocol, scenario.model, tensor, name=scenario.input, output=scenario.output)


def _send(server: Server, body: Body, scenario: Scenario, requests: int) -> None:
    http1 = body.protocol != "grpc"
    address = server.http if http1 else server.grpc
    connections, streams = (
        (scenario.connections * scenario.streams, 1) if http1 else (scenario.connections, scenario.streams)
    )
    report = run_h2load(body, address, connections, streams, requests=requests, http1=http1)
    if report.failures or report.requests < requests:
        raise LoadError(f"{server.name} answered {report.requests} of {requests} requests over {body.protocol}")


def _check_answer(server: Server, scenario: Scenario, repository: Path) -> None:
    """One request by tritonclient, whose answer must be right: a fast server that errs is of no interest."""
    if server.name == "echo":
        return
    import tritonclient.http as client

    tensor = fp32_rows(scenario.elements)
    given = client.InferInput(scenario.input, list(tensor.shape), "FP32")
    given.set_data_from_numpy(tensor)
    with contextlib.closing(client.InferenceServerClient(server.http)) as connection:
        answer = connection.infer(scenario.model, [given]).as_numpy(scenario.output)
    wanted = tensor
    if scenario.model == "simple_mlp":
        wanted = run_once(repository / scenario.model / "1" / "model.onnx", scenario.input, tensor)
    if answer is None or not np.allclose(answer, wanted, atol=1e-5):
        raise LoadError(f"{server.name} gives a wrong answer for {scenario.model}")


def _check_size(server: Server, scenario: Scenario, window: Window) -> None:
    """An error over gRPC is a 200 with no data, so the size of the answers tells."""
    least = 4 * (10 if scenario.model == "simple_mlp" else scenario.elements)
    if scenario.protocol in ("grpc", "grpc_stream") and window.bytes_per_answer < least:
        raise LoadError(
            f"{server.name} answered {window.bytes_per_answer:.0f} bytes a request, wanted at least {least}"
        )
