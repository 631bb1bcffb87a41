# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf limit`` from its arguments to its exit status, and the file that ``pyinfer perf --limit`` reads."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pyinfer.config.flags import UsageError
from pyinfer.errors import InvalidArgument, PyinferError
from pyinfer.perf.arguments import Parser, attempt, cores, machine, numbers, understood, write_json
from pyinfer.perf.limit import Cell, Limit, OnnxModel, default_ways, measure_limit
from pyinfer.perf.options import PerfOptions, parse
from pyinfer.perf.table import Table
from pyinfer.perf.terminal import Terminal, print_table

__all__ = ["KnownLimit", "LimitCommand", "limit_document", "limit_table", "parse_limit", "read_limit", "run_limit"]

_COMMAND = "pyinfer perf limit"
_USAGE = f"""\
usage: {_COMMAND} MODEL.onnx [flags]

What this machine can do with a model at best: ONNX Runtime without a server. Rows a second for each batch size, and for
each number of instances and threads.

  --batch-sizes N,N,...   default 1,2,4,8,16,32,64; 1 for a model that does not batch
  --parallel IxT,IxT,...  I instances with T threads each; by default what fits the cores
  -p MS                   length of a window (default 500)
  --rounds N              windows of each; their median counts (default 3)
  --json FILE             write everything that was measured; 'pyinfer perf --limit FILE' shows results as shares of it

--shape, --input-data, --string-data, --string-length and --seed are those of 'pyinfer perf'. Needs 'pyinfer[onnx]'.
"""


@dataclass(frozen=True)
class LimitCommand:
    """A checked command line. Empty ``batch_sizes`` and ``ways``: what fits the model and the machine."""

    file: Path
    options: PerfOptions
    batch_sizes: tuple[int, ...]
    #: (instances, threads of each)
    ways: tuple[tuple[int, int], ...]
    rounds: int
    json_file: str

    def cells(self, batches: bool) -> list[Cell]:
        """What is measured, for a model that batches or does not."""
        sizes = self.batch_sizes or ((1, 2, 4, 8, 16, 32, 64) if batches else (1,))
        ways = self.ways or default_ways(cores())
        return [Cell(size, *way) for size in sizes for way in ways]


def parse_limit(argv: Sequence[str]) -> LimitCommand | None:
    """The command that ``argv`` (without the subcommand) asks for; None where it asks for help. Raises UsageError."""
    if {"-h", "--help"} & set(argv):
        return None
    if not argv or argv[0].startswith("-"):
        raise UsageError("name a model file, before all flags; see --help")
    parser = Parser(_COMMAND)
    parser.add_argument("--batch-sizes", default="")
    parser.add_argument("--parallel", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", default="")
    given, others = parser.parse_known_args(list(argv[1:]))
    options = parse(["-m", "model", "-p", "500", *others])
    assert options is not None
    if options.url or options.csv_file or options.export_file or options.report_file or options.batch_size != 1:
        raise UsageError("there is no server here: -u, -b, -f, --profile-export-file and --report have no meaning")
    if not re.fullmatch(r"([1-9]\d{0,2}x[1-9]\d{0,2}(,[1-9]\d{0,2}x[1-9]\d{0,2})*)?", given.parallel):
        raise UsageError(f"--parallel: '{given.parallel}' is not INSTANCESxTHREADS with commas between them")
    if given.rounds < 1:
        raise UsageError("--rounds must be 1 or more")
    sizes = tuple(map(int, numbers("--batch-sizes", given.batch_sizes))) if given.batch_sizes else ()
    pairs = [part.split("x") for part in given.parallel.split(",") if part]
    ways = tuple(dict.fromkeys((int(count), int(each)) for count, each in pairs))
    return LimitCommand(Path(argv[0]), options, sizes, ways, given.rounds, given.json)


def run_limit(argv: Sequence[str]) -> int:
    """Measure what ``argv`` names; the exit status."""
    command = understood(parse_limit, argv, _USAGE, _COMMAND)
    if isinstance(command, int):
        return command
    found = Limit()
    with Terminal() as terminal:

        def say(line: str) -> None:
            if found.rates:
                terminal.show(limit_table(found))
            terminal.status(line)

        def measure() -> None:
            model = OnnxModel(command.file)
            cells = command.cells(model.batches)
            seconds = command.options.interval_ms / 1e3
            measure_limit(model, cells, command.options, found, seconds=seconds, rounds=command.rounds, say=say)

        status = attempt(measure, terminal, _COMMAND)
        for cell, reason in found.failures.items():
            terminal.complain(f"{_name(cell)} with batch size {cell.batch_size}: {reason}", _COMMAND)
            status = 1
    if found.best is None:
        return 1
    print_table(limit_table(found))
    sys.stdout.write(
        "\nRows a second; 2x1: two instances with one thread each. *: the most. ms: of an execution, us: CPU time of "
        "a row, both of the best in the line.\n"
    )
    if command.json_file:
        try:
            write_json(command.json_file, limit_document(found, command))
        except PyinferError as error:
            Terminal().complain(str(error), _COMMAND)
            return 1
    return status


def _name(cell: Cell) -> str:
    return f"{cell.instances}x{cell.threads}"


def limit_table(found: Limit) -> Table:
    """A line for each batch size, a column for each way to run it."""
    ways = sorted({(cell.instances, cell.threads) for cell in found.rates})
    rows = []
    for size in sorted({cell.batch_size for cell in found.rates}):
        line = {(cell.instances, cell.threads): cell for cell in found.rates if cell.batch_size == size}
        best = max(line.values(), key=found.rate)
        row = [str(size)]
        for way in ways:
            mark = "*" if line.get(way) == found.best else ""
            row.append(f"{mark}{found.rate(line[way]):.1f}" if way in line else "-")
        rows.append([*row, f"{median(found.batch_ms[best]):.2f}", f"{median(found.row_cpu_us[best]):.1f}"])
    return Table(["batch size", *(f"{count}x{each}" for count, each in ways), "ms", "us"], rows)


def limit_document(found: Limit, command: LimitCommand) -> dict[str, Any]:
    """Everything, for programs. Of each cell the median of the rounds, and the rounds."""
    import onnxruntime

    cells = {
        cell: {
            "batch_size": cell.batch_size,
            "instances": cell.instances,
            "threads": cell.threads,
            "rows_per_s": found.rate(cell),
            "rows_per_s_of_rounds": rates,
            "execution_ms": median(found.batch_ms[cell]),
            "cpu_us_per_row": median(found.row_cpu_us[cell]),
        }
        for cell, rates in found.rates.items()
    }
    assert found.best is not None
    return {
        "model": command.file.name,
        "runtime": f"onnxruntime {onnxruntime.__version__}",
        "machine": machine(),
        "best": cells[found.best],
        "cells": list(cells.values()),
    }


@dataclass(frozen=True)
class KnownLimit:
    """Out of a file: the most rows a second, and what has to be known about it, if anything."""

    rows_per_s: float
    note: str = ""


def read_limit(file: str) -> KnownLimit:
    """Raises InvalidArgument where it can not be read, or is no such file."""
    try:
        document = json.loads(Path(file).read_bytes())
        rows, measured_on = document["best"]["rows_per_s"], document["machine"]
        if not isinstance(rows, int | float) or not rows > 0:
            raise ValueError
    except OSError as error:
        raise InvalidArgument(f"--limit={file}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise InvalidArgument(f"--limit={file} is not what 'pyinfer perf limit --json' writes") from None
    other = measured_on != machine()
    return KnownLimit(rows, f"{file} is of another machine: its shares say little here" if other else "")
