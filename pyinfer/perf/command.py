# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` from its arguments to its exit status.

0: all levels were measured, stable and without an error. 1: the server or the requests failed, or Ctrl-C or SIGTERM;
what was measured is shown and written all the same. 2: the command line is wrong. 3: a level was not stable.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pyinfer import __version__
from pyinfer.errors import PyinferError
from pyinfer.perf.arguments import attempt, understood
from pyinfer.perf.levels import highest, highest_text, levels
from pyinfer.perf.measure import Level, Session
from pyinfer.perf.options import PerfOptions, help_text, parse
from pyinfer.perf.page import page_text
from pyinfer.perf.report import csv_text, export_text, level_table, level_tables, notes_text
from pyinfer.perf.signals import ended_as_by_ctrl_c
from pyinfer.perf.terminal import Terminal, print_table

__all__ = ["run"]


def run(argv: Sequence[str]) -> int:
    """Measure what ``argv`` (without the program and the subcommand) asks for; the exit status."""
    with ended_as_by_ctrl_c():
        return _run(argv)


def _run(argv: Sequence[str]) -> int:
    if argv[:1] == ["compare"]:
        from pyinfer.perf.compare_command import run_compare

        return run_compare(argv[1:])
    if argv[:1] == ["tune"]:
        from pyinfer.perf.tune.command import run_tune

        return run_tune(argv[1:])
    if argv[:1] == ["limit"]:
        from pyinfer.perf.limit_command import run_limit

        return run_limit(argv[1:])
    if "--version" in argv:
        sys.stdout.write(f"pyinfer perf {__version__}\n")
        return 0
    options = understood(parse, argv, help_text())
    if isinstance(options, int):
        return options
    if options.limit_file:
        from pyinfer.perf.limit_command import read_limit

        try:
            limit = read_limit(options.limit_file)
        except PyinferError as error:
            Terminal().complain(str(error))
            return 1
        notes = [*options.notes, *([limit.note] if limit.note else [])]
        options = replace(options, limit_rows_per_s=limit.rows_per_s, notes=tuple(notes))
    found: list[Level] = []
    with Terminal() as terminal:
        status = _measure(options, found, terminal)
    reported = _report(found, options)
    return status or reported


def _measure(options: PerfOptions, found: list[Level], terminal: Terminal) -> int:
    for note in options.notes:
        terminal.complain(note)

    def measure() -> None:
        session = Session(options, terminal.status)
        for level in levels(options, session, found):
            found.append(level)
            terminal.status(f"{level.kind.lower()} {level.value:g}")
            session.measure(level)
            table = level_table(found, options)
            if table is not None:
                terminal.show(table)

    return attempt(measure, terminal)


def _report(found: Sequence[Level], options: PerfOptions) -> int:
    tables = level_tables(found, options)
    for table in tables:
        print_table(table)
        sys.stdout.write("\n")
    if tables:
        sys.stdout.write(notes_text(found, options) + highest_text(found, options))
    files = (
        (options.csv_file, csv_text),
        (options.export_file, export_text),
        (options.report_file, page_text),
    )
    for name, text in files:
        if name:
            try:
                Path(name).write_text(text(found, options))
            except OSError as error:
                Terminal().complain(f"can not write {name}: {error.strerror}")
                return 1
    if options.highest_rate:  # beyond it servers may refuse, and need not be stable
        answer = highest(found, options)
        found = [answer] if answer else []
        if not answer:
            return 1
    results = [level.measured for level in found if level.measured is not None]
    if any(one.window.load.failed for one in results):
        return 1
    return 0 if all(one.is_stable for one in results) else 3
