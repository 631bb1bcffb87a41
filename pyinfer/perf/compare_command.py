# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf compare`` from its arguments to its exit status: 0 where all was measured without an error."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace

from pyinfer.config.flags import UsageError
from pyinfer.errors import PyinferError, Unavailable
from pyinfer.perf.arguments import Parser, attempt, understood, write_json
from pyinfer.perf.compare import Comparison, compare, open_session
from pyinfer.perf.compare_report import compare_document, notes_of, ratio_table, server_table
from pyinfer.perf.measure import Session
from pyinfer.perf.options import PerfOptions, parse
from pyinfer.perf.report import error_text
from pyinfer.perf.terminal import Terminal, print_table

__all__ = ["CompareCommand", "parse_compare", "run_compare"]

_COMMAND = "pyinfer perf compare"
_SERVER = re.compile(
    r"(?:(?P<name>[^=/]+)=)?(?:(?P<scheme>grpcs?|https?)://)?(?P<url>[^/=]+)(?:/(?P<model>[^/]+)(?:/(?P<version>\d+))?)?/?"
)
_USAGE = f"""\
usage: {_COMMAND} SERVER SERVER... -m MODEL [flags]

The same work against several servers in alternation (A B B A ...), and ratios to the first of them.

SERVER is [NAME=][grpc://|grpcs://|http://|https://]HOST:PORT[/MODEL[/VERSION]]: what it does not say is said by -i,
-m and -x.

  --rounds N            windows of each server (default 10); an even number
  --confidence PERCENT  of the intervals (default 95)
  --server-pid NAME=PID the process of a local server: CPU time and memory are compared; may be repeated
  --json FILE           write everything that was measured

All flags of 'pyinfer perf' that say what is sent, how, and for how long, hold as they are: -b, --input-data,
--concurrency-range N, --request-rate-range R, -p MS (window; default 1000), --request-count N (in its place), ...
"""


class CompareCommand:
    """A checked command line. ``servers``: name -> the options of its session."""

    def __init__(self, servers: dict[str, PerfOptions], rounds: int, confidence: float, json_file: str) -> None:
        self.servers, self.rounds, self.confidence, self.json_file = servers, rounds, confidence, json_file


def parse_compare(argv: Sequence[str]) -> CompareCommand | None:
    """The command that ``argv`` (without the subcommand) asks for; None where it asks for help. Raises UsageError."""
    if {"-h", "--help"} & set(argv):
        return None
    named = list(argv)
    first = next((i for i, argument in enumerate(named) if argument.startswith("-")), len(named))
    parser = Parser(_COMMAND)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--confidence", type=float, default=95.0)
    parser.add_argument("--server-pid", action="append", default=[])
    parser.add_argument("--json", default="")
    given, others = parser.parse_known_args(named[first:])
    if given.rounds < 2 or given.rounds % 2:
        raise UsageError("--rounds must be an even number from 2 on, so that a steady drift meets all servers alike")
    if not 50 <= given.confidence < 100:
        raise UsageError("--confidence must be from 50 to below 100")
    pids = dict(_pid(text) for text in given.server_pid)
    servers = _servers(named[:first], others, pids)
    return CompareCommand(servers, given.rounds, given.confidence / 100, given.json)


def _servers(named: Sequence[str], others: Sequence[str], pids: dict[str, int]) -> dict[str, PerfOptions]:
    matches = [_SERVER.fullmatch(text) for text in named]
    for text, match in zip(named, matches, strict=True):
        if match is None:
            raise UsageError(f"'{text}' is not [NAME=][grpc://|grpcs://|http://|https://]HOST:PORT[/MODEL[/VERSION]]")
    if len(named) < 2:
        raise UsageError("name at least two servers, before all flags; see --help")
    servers: dict[str, PerfOptions] = {}
    for text, match in zip(named, matches, strict=True):
        assert match is not None
        # a model that the server names stands in for -m
        own = ["-p", "1000", *(["-m", match["model"]] if match["model"] else []), *others]
        options = parse(own)
        assert options is not None
        _check(options)
        name = match["name"] or text
        if name in servers:
            raise UsageError(f"two servers are called '{name}': give them names, NAME={text}")
        scheme = match["scheme"] or ""
        servers[name] = replace(
            options,
            url=f"{scheme}://{match['url']}" if scheme.endswith("s") else match["url"],
            protocol=scheme.removesuffix("s") or options.protocol,
            model=match["model"] or options.model,
            version=match["version"] or options.version,
            server_pid=pids.pop(name, 0),
        )
    if pids:
        raise UsageError(f"--server-pid names '{min(pids)}', which is no server here; they are: {', '.join(servers)}")
    return servers


def _check(options: PerfOptions) -> None:
    spread = options.concurrency or options.request_rate
    if options.highest_rate or (spread is not None and not spread.is_single):
        raise UsageError("compare measures at one level of load: give a single concurrency or request rate")
    if options.url:
        raise UsageError("-u has no meaning here: servers are named before all flags")
    if options.csv_file or options.export_file or options.report_file:
        raise UsageError("-f, --profile-export-file and --report are for one server; use --json FILE")


def _pid(text: str) -> tuple[str, int]:
    name, _, pid = text.rpartition("=")
    if not name or not pid.isdigit() or not int(pid):
        raise UsageError(f"--server-pid: '{text}' is not NAME=PID")
    return name, int(pid)


def run_compare(argv: Sequence[str]) -> int:
    """Compare what ``argv`` names; the exit status."""
    command = understood(parse_compare, argv, _USAGE, _COMMAND)
    if isinstance(command, int):
        return command
    found = Comparison(tuple(command.servers), command.confidence)
    with Terminal() as terminal:

        def say(line: str) -> None:
            if found.turns:
                terminal.show(ratio_table(found))
            terminal.status(line)

        def measure() -> None:
            sessions = {name: _open(name, options) for name, options in command.servers.items()}
            compare(sessions, found, rounds=command.rounds, say=say)

        status = attempt(measure, terminal, _COMMAND)
        for name, reason in found.failures.items():
            terminal.complain(f"{name} is given up: {error_text(reason)}; this is what was measured before", _COMMAND)
            status = 1
    _report(found)
    if command.json_file:
        try:
            write_json(command.json_file, compare_document(found, command.servers))
        except PyinferError as error:
            Terminal().complain(str(error), _COMMAND)
            return 1
    return status or (1 if any(found.errors(name) for name in found.names) else 0)


def _open(name: str, options: PerfOptions) -> Session:
    try:
        return open_session(options)
    except PyinferError as error:
        raise Unavailable(f"{name}: {error}") from None


def _report(found: Comparison) -> None:
    if not found.turns:
        return
    print_table(server_table(found))
    sys.stdout.write("\n")
    print_table(ratio_table(found))
    sys.stdout.write("\n" + "".join(f"{line}\n" for line in notes_of(found)))
