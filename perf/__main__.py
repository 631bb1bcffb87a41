# SPDX-License-Identifier: Apache-2.0
"""``python -m perf``: run the benches, render the page, check the goals, install the peer."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from perf.benches import FULL, QUICK, run_scenario
from perf.load import LoadError
from perf.peer_servers import PEERS, find_peer, install_peer
from perf.peers import PeerError, find_triton, install_triton
from perf.procs import StartError, children_ended
from perf.render import pages, verdicts
from perf.request_path import write_request_path
from perf.results import Result, machine_facts, read_results, write_result
from perf.scenarios import SCENARIOS, scenario_named
from pyinfer.perf.signals import raise_if_interrupted

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m perf", description=__doc__)
    commands = parser.add_subparsers(dest="command", help="without one: run, render and check, of everything")
    run = commands.add_parser("run", help="measure and write perf/results/*.json")
    run.add_argument(
        "--only", default="", help=f"names, separated by commas, of: {', '.join(s.name for s in SCENARIOS)}"
    )
    run.add_argument("--peer", choices=("installed", "none"), default="installed", help="measured in the same run")
    run.add_argument("--quick", action="store_true", help="one short window each: a glance, not a record")
    commands.add_parser("render", help="write docs/perf/ and the table of README.md from perf/results/*.json")
    commands.add_parser("check", help="compare perf/results/*.json with the goals; exit 1 where one is missed")
    commands.add_parser("request-path", help="write csrc/request_path.ld: needs valgrind and a module with symbols")
    commands.add_parser("install-triton", help="install tritonserver into .venv-triton")
    peers = commands.add_parser("install-peers", help="install optional peers, each into .venv-NAME")
    peers.add_argument("names", nargs="*", default=list(PEERS), metavar="NAME", help=f"of {', '.join(PEERS)}; all")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status. Servers that it has started are gone by then."""
    options = _parser().parse_args(arguments)
    try:
        with children_ended():
            return _command(options)
    except KeyboardInterrupt:
        print("perf: interrupted", file=sys.stderr)
        return 130


def _command(options: argparse.Namespace) -> int:
    try:
        if options.command == "run":
            return _run(options.only, options.peer, options.quick)
        if options.command is None:
            failed = _run("", "installed", quick=False)
            _render()
            _check()
            return failed
        if options.command == "request-path":
            print(write_request_path())
        if options.command == "install-triton":
            print(f"tritonserver: {install_triton().server}")
        if options.command == "install-peers":
            for name in options.names:
                print(f"{name}: {install_peer(name)}")
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
    peers = []
    if peer == "installed":
        peers = [name for name in PEERS if find_peer(name)]
        if any("triton" in scenario.peers for scenario in chosen):
            _need_triton()  # before anything is measured
            peers.append("triton")
    machine, failed = machine_facts(), 0
    for scenario in chosen:
        print(f"{scenario.name}: {scenario.title}", flush=True)
        try:
            figures = run_scenario(scenario, QUICK if quick else FULL, peers)
        except (LoadError, StartError) as error:  # the other scenarios may still have something to say
            print(f"  failed: {error}", flush=True)
            failed += 1
            continue
        raise_if_interrupted()
        write_result(Result(scenario.name, quick, figures, machine, "pyinfer perf"))
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
    for path, text in pages(read_results()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"wrote {path}")


def _check() -> int:
    marks = {True: "met", False: "MISSED", None: "not measured"}
    rows = verdicts(read_results())
    for scenario, verdict in rows:
        value = "-" if verdict.value is None else f"{verdict.value:.5g}"
        limit = "-" if verdict.limit is None else f"{verdict.limit:.5g}"
        print(f"{marks[verdict.met]:13} {scenario.name:15} {verdict.goal.text:60} is {value}, limit {limit}")
    return 0 if all(verdict.met is True for _, verdict in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
