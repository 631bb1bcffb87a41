# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf tune`` from its arguments to its exit status.

0: there is a recommendation. 1: nothing that was tried keeps the limits, the search could not go on, or Ctrl-C. 2: the
command line is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyinfer import __version__
from pyinfer.config.flags import UsageError
from pyinfer.errors import PyinferError
from pyinfer.perf.arguments import Parser, cores, machine, numbers, understood
from pyinfer.perf.options import LOADS, PerfOptions, parse
from pyinfer.perf.report import error_text
from pyinfer.perf.target import open_target
from pyinfer.perf.terminal import Terminal, print_table
from pyinfer.perf.tune.goal import Goal, rungs
from pyinfer.perf.tune.hosts import Host, OwnServers, Place, RunningServer, locate, model_name
from pyinfer.perf.tune.recommend import MARK, config_text, failures, pareto_table, reasons, result_line
from pyinfer.perf.tune.search import Search, Tried
from pyinfer.perf.tune.space import Settings, Space, applied, default_space
from pyinfer.perf.tune.state import State

__all__ = ["TuneCommand", "parse_tune", "run_tune"]

_COMMAND = "pyinfer perf tune"
_LEVELS = (4.0, 16.0, 64.0)
_INTERVAL_MS = "500"
_USAGE = f"""\
usage: {_COMMAND} MODEL [flags]

Finds the configuration that serves a load best, and writes it as config.pbtxt with the measured reasons.

MODEL is the directory of a model, a bare model file, or a name in --model-repository DIR: then a server is started for
each configuration. With -u HOST:PORT it is the name of a model on a server that runs in mode explicit.

Goal
  --objective throughput|p99  what is to be best (default throughput)
  --max-p99-ms MS             limits: what exceeds one is not recommended
  --max-memory MIB            of the server's processes
  --min-throughput N          inferences a second
What is tried (values with commas between them; by default what fits the model and the machine; '-': leave it)
  --instances, --max-batch-sizes, --queue-delays US, --preferred-batch-sizes, --latency-slos MS, --thread-counts
Load: as for 'pyinfer perf'; each configuration is judged by the best level that keeps the limits
  --concurrency-range S:E:N | --request-rate-range S:E:N (default 4, 16 and 64 requests in flight)
  -p MS                       length of the first, shortest windows (default {_INTERVAL_MS})
  -i, -b, --input-data, --shape, ...
Files
  --state FILE                what was measured (default MODEL.tune.json); the same command goes on from it
  --output FILE               the recommendation (default MODEL.config.pbtxt)
  --overwrite                 write over a file that is not a recommendation, such as the model's config.pbtxt
Server
  --serve FLAG                a flag for servers that are started, such as --serve=--load-model=other; may be repeated
  --server-pid PID            with -u: the process of a local server, for CPU time and memory
"""


@dataclass(frozen=True)
class TuneCommand:
    """A checked command line. ``space``: None where the default is tried, () where nothing is."""

    model: str
    repository: str
    options: PerfOptions
    levels: tuple[tuple[str, float], ...]
    goal: Goal
    space: dict[str, tuple[float, ...] | None]
    state_file: str
    output_file: str
    overwrite: bool
    flags: tuple[str, ...]

    @property
    def is_running(self) -> bool:
        """Whether a server that runs is to be used."""
        return bool(self.options.url)


#: options that make no difference to what is measured, or are said in another way
_NO_WORK = {
    *("url", "server_pid", "notes", "concurrency", "request_rate", "binary_search", "latency_threshold_ms"),
    *("interval_ms", "max_trials", "stability_percent", "percentile", "count_windows", "window_requests"),
    "request_count",
    *("csv_file", "verbose_csv", "export_file", "report_file", "limit_file", "limit_rows_per_s"),
}
#: flag -> field of Space, the least value, whether a whole number
_SPACE = {
    "--instances": ("instances", 1, True),
    "--max-batch-sizes": ("max_batch_sizes", 1, True),
    "--preferred-batch-sizes": ("preferred_batch_sizes", 1, True),
    "--queue-delays": ("queue_delays_us", 0, True),
    "--latency-slos": ("latency_slos_ms", 0.001, False),
    "--thread-counts": ("threads", 0, True),
}


def parse_tune(argv: Sequence[str]) -> TuneCommand | None:
    """The command that ``argv`` (without the subcommand) asks for; None where it asks for help. Raises UsageError."""
    if {"-h", "--help"} & set(argv):
        return None
    if not argv or argv[0].startswith("-"):
        raise UsageError("name a model, before all flags; see --help")
    given, others = _parser().parse_known_args(list(argv[1:]))
    model = argv[0]
    name = model_name(model)
    options = parse(["-m", name, "-p", _INTERVAL_MS, *others])
    assert options is not None
    if options.model != name:
        raise UsageError("-m has no meaning here: the model is named before all flags")
    if options.csv_file or options.export_file or options.report_file or options.request_count:
        raise UsageError("-f, --profile-export-file, --report and --request-count are for a single measurement")
    names = [argument.split("=")[0] for argument in others]
    # flags may be abbreviated
    has_load = any(flag.startswith(name) for flag in LOADS for name in names if name.startswith("--"))
    levels = _levels(options) if has_load else tuple(("Concurrency", level) for level in _LEVELS)
    goal = Goal(given.objective, given.max_p99_ms, given.max_memory, given.min_throughput)
    _check(given, options, levels, goal)
    space = {
        field: None if (text := getattr(given, field)) is None else () if text == "-"
        else numbers(flag, text, low, whole=whole)
        for flag, (field, low, whole) in _SPACE.items()
    }  # fmt: skip
    state, output = given.state or f"{name}.tune.json", given.output or f"{name}.config.pbtxt"
    repository, flags = given.model_repository, tuple(given.serve)
    return TuneCommand(model, repository, options, levels, goal, space, state, output, given.overwrite, flags)


def _parser() -> Parser:
    parser = Parser(_COMMAND)
    parser.add_argument("--objective", choices=["throughput", "p99"], default="throughput")
    for name in ("--max-p99-ms", "--max-memory", "--min-throughput"):
        parser.add_argument(name, type=float, default=0.0)
    for flag, (field, _, _) in _SPACE.items():
        parser.add_argument(flag, dest=field, default=None)
    for name in ("--model-repository", "--state", "--output"):
        parser.add_argument(name, default="")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--serve", action="append", default=[])
    return parser


def _levels(options: PerfOptions) -> tuple[tuple[str, float], ...]:
    spread = options.concurrency or options.request_rate
    if spread is None or not spread.end:
        raise UsageError("tune takes levels of load with an end: --concurrency-range or --request-rate-range")
    kind = "Concurrency" if options.concurrency else "Request Rate"
    count = int((spread.end - spread.start) / spread.step + 1e-9) + 1
    return tuple((kind, spread.start + spread.step * number) for number in range(count))


def _check(given: Any, options: PerfOptions, levels: Sequence[tuple[str, float]], goal: Goal) -> None:
    for name in ("max_p99_ms", "max_memory", "min_throughput"):
        if not 0 <= getattr(given, name) < 2**31:
            raise UsageError(f"--{name.replace('_', '-')} must be a number from 0 on")
    if goal.objective == "p99" and len(levels) > 1 and not goal.min_throughput:
        raise UsageError(
            "--objective p99 needs one level of load (--concurrency-range N or --request-rate-range R), or "
            "--min-throughput: with less load everything is faster"
        )
    if options.url and (given.model_repository or given.serve):
        raise UsageError("--model-repository and --serve are for servers that are started; -u names one that runs")
    if options.server_pid and not options.url:
        raise UsageError("--server-pid is for a server that runs: give its -u")
    if goal.max_memory_mib and options.url and not options.server_pid:
        raise UsageError("--max-memory of a server that runs needs its --server-pid")


def run_tune(argv: Sequence[str]) -> int:
    """Search what ``argv`` asks for; the exit status."""
    command = understood(parse_tune, argv, _USAGE, _COMMAND)
    if isinstance(command, int):
        return command
    tried = Tried()
    with Terminal() as terminal:
        try:
            _check_output(command)
            host, place = _open(command)
            try:
                _search(command, host, place, tried, terminal)
            finally:
                host.close()
        except (PyinferError, UsageError) as error:
            terminal.complain(error_text(str(error)), _COMMAND)
        except KeyboardInterrupt:
            terminal.complain(f"interrupted; the same command goes on from {command.state_file}", _COMMAND)
    try:
        return _report(command, host.base, tried) if tried.stages else 1
    except OSError as error:
        Terminal().complain(f"can not write {command.output_file}: {error.strerror}", _COMMAND)
        return 1


def _check_output(command: TuneCommand) -> None:
    """Before anything is measured."""
    file = Path(command.output_file)
    if file.exists() and not command.overwrite and not file.read_text(errors="replace").startswith(MARK):
        raise UsageError(f"{file} is there already, and no recommendation: name another --output, or give --overwrite")
    if not file.parent.is_dir():
        raise UsageError(f"{file}: there is no directory {file.parent}")


def _open(command: TuneCommand) -> tuple[Host, Place | None]:
    options = command.options
    if command.is_running:
        target = open_target(options.protocol, options.url, command.model, options.version, options.tls)
        return RunningServer(target, options.url, options.server_pid), None
    place = locate(command.model, command.repository)
    try:
        return OwnServers(place, options.protocol, command.flags), place
    except BaseException:
        place.close()
        raise


def _search(command: TuneCommand, host: Host, place: Place | None, tried: Tried, terminal: Terminal) -> None:
    candidates = _space(command, host).candidates(cores())
    interval = command.options.interval_ms
    state = State(Path(command.state_file), _work(command, host, place))
    if len(state):
        terminal.say(f"{len(state)} measurements are in {command.state_file}")
    stages = rungs(len(candidates), interval)
    seconds = sum(rung.candidates * rung.rounds * (1 + len(command.levels) * rung.interval_ms / 1e3) for rung in stages)
    terminal.say(f"{len(candidates)} configurations, {len(stages)} stages, about {_time(seconds)}")

    def say(line: str) -> None:
        if any(tried.stages):
            terminal.show(pareto_table(tried, command.goal, None))
        terminal.status(line)

    Search(host, command.options, command.levels, command.goal, state, say).run(candidates, interval, tried)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _space(command: TuneCommand, host: Host) -> Space:
    """Raises UsageError where there is nothing to be tried."""
    kinds = {"ensemble_scheduling": "an ensemble", "sequence_batching": "a model with sequences"}
    for field, kind in kinds.items():
        if field in host.completed:
            raise UsageError(f"{command.options.model} is {kind}, whose batching can not be tuned")
    default = default_space(host.completed, cores(), command.goal.max_p99_ms)
    given = {name: values for name, values in command.space.items() if values is not None}
    space = Space(**{**vars(default), **given})
    sizes = [size for size in space.max_batch_sizes if size >= command.options.batch_size]
    return Space(**{**vars(space), "max_batch_sizes": sizes})


def _work(command: TuneCommand, host: Host, place: Place | None) -> dict[str, Any]:
    """What has to be the same for measurements to be comparable."""
    return {
        **{name: value for name, value in asdict(command.options).items() if name not in _NO_WORK},
        "files": place.files() if place else None,
        "server": command.options.url or list(command.flags),
        "levels": command.levels,
        "machine": machine(),
        "pyinfer": __version__,
    }


def _report(command: TuneCommand, base: Any, tried: Tried) -> int:
    goal = command.goal
    winner = goal.winner(tried.stages[-1]) if tried.finished else None
    print_table(pareto_table(tried, goal, winner))
    sys.stdout.write(
        "\nNobody beats these in both infer/s and p99. *: recommended. !: exceeds a limit, or had errors.\n"
    )
    for line in failures(tried.latest()):
        sys.stdout.write(f"failed: {line}\n")
    if not tried.finished:
        return 1
    if winner is None:
        sys.stdout.write("Nothing that was tried keeps the limits; nothing is recommended.\n")
        return 1
    text = config_text(applied(base, winner), _lines(command, tried, winner))
    Path(command.output_file).write_text(text)
    sys.stdout.write(f"Recommended: {winner.text()}, written to {command.output_file}\n")
    return 0


def _lines(command: TuneCommand, tried: Tried, winner: Settings) -> list[str]:
    goal, here, last = command.goal, machine(), tried.stages[-1]
    kind = command.levels[0][0].lower()
    limits = [f"{name} {value:g}" for name, value in vars(goal).items() if name != "objective" and value]
    ours, own = goal.best(last[winner]), goal.best(last[Settings()])
    levels = ", ".join(f"{value:g}" for _, value in command.levels)
    lines = [
        f"{command.options.model}, {time.strftime('%Y-%m-%d')}, pyinfer {__version__}",
        f"on {here['cores']} cores of {here['cpu']}",
        f"objective: {goal.objective}; limits: {', '.join(limits) or 'none'}",
        f"load: {kind} {levels} over {command.options.protocol}, batch size {command.options.batch_size}",
        f"recommended ({winner.text()}): {result_line(ours, kind) if ours else ''}",
    ]
    if own is not None and not winner.is_own:
        lines.append(f"as it was: {result_line(own, kind)}")
    return [*lines, *reasons(tried, goal, winner)]
