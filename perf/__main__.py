# SPDX-License-Identifier: Apache-2.0
"""``python -m perf``: run the benches, render the page, check the goals, install the peer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from perf.benches import FULL, QUICK, run_scenario
from perf.goals import describe
from perf.load import LoadError
from perf.peers import PeerError, find_triton, install_triton
from perf.procs import StartError
from perf.render import PAGE, render, verdicts
from perf.results import Result, machine_facts, read_results, write_result
from perf.scenarios import SCENARIOS, scenario_named

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(dest="command", help="without one: run, render and check, of everything")
    run = commands.add_parser("run", help="measure and write perf/results/*.json")
    run.add_argument(
        "--only", default="", help=f"names, separated by commas, of: {', '.join(s.name for s in SCENARIOS)}"
    )
    run.add_argument("--peer", choices=("triton", "none"), default="triton", help="measured in the same run (triton)")
    run.add_argument("--quick", action="store_true", help="one short window each: a glance, not a record")
    commands.add_parser("render", help="write docs/perf/README.md from perf/results/*.json")
    commands.add_parser("check", help="compare perf/results/*.json with the goals; exit 1 where one is missed")
    commands.add_parser("install-triton", help="install the peer into .venv-triton")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "run":
            return _run(options.only, options.peer, options.quick)
        if options.command is None:
            failed = _run("", "triton", quick=False)
            _render()
            _check()
            return failed
        if options.command == "install-triton":
            print(f"tritonserver: {install_triton().server}")
    except (FileNotFoundError, LoadError, PeerError, StartError, ValueError) as error:
        print(f"perf: {error}", file=sys.stderr)
        return 2
    if options.command == "render":
        _render()
    if options.command == "check":
        return _check()
    return 0


def _run(only: str, peer: str, quick: bool) -> int:
    chosen = [scenario_named(name) for name in only.split(",")] if only else list(SCENARIOS)
    peers = [] if peer == "none" else [peer]
    if peers and any("triton" in scenario.peers for scenario in chosen):
        _need_triton()  # before anything is measured
    machine, failed = machine_facts(), 0
    for scenario in chosen:
        print(f"{scenario.name}: {scenario.title}", flush=True)
        try:
            figures = run_scenario(scenario, QUICK if quick else FULL, peers)
        except (LoadError, StartError) as error:  # the other scenarios may still have something to say
            print(f"  failed: {error}", flush=True)
            failed += 1
            continue
        write_result(Result(scenario.name, quick, figures, machine))
        for server, numbers in figures.items():
            print(f"  {server}: " + ", ".join(f"{k} {v:.5g}" for k, v in numbers.items() if not isinstance(v, list)))
    return 1 if failed else 0


def _need_triton() -> None:
    try:
        find_triton()
    except PeerError as error:
        print(f"{error}: doing so", flush=True)
        install_triton()


def _render() -> None:
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(read_results()))
    print(f"wrote {PAGE}")


def _check() -> int:
    marks = {True: "met", False: "MISSED", None: "not measured"}
    rows = verdicts(read_results())
    for scenario, verdict in rows:
        value = "-" if verdict.value is None else f"{verdict.value:.5g}"
        limit = "-" if verdict.limit is None else f"{verdict.limit:.5g}"
        print(f"{marks[verdict.met]:13} {scenario.name:15} {describe(verdict.goal):45} is {value}, limit {limit}")
    return 0 if all(verdict.met is True for _, verdict in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
