# SPDX-License-Identifier: Apache-2.0
"""What ``pyinfer perf`` and the commands below it have in common: arguments, the machine, files of results."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pyinfer.config.flags import UsageError
from pyinfer.errors import InvalidArgument, PyinferError
from pyinfer.perf.report import error_text
from pyinfer.perf.terminal import Terminal

__all__ = ["Parser", "attempt", "cores", "machine", "numbers", "understood", "write_json"]


_Command = TypeVar("_Command")


def understood(
    parse: Callable[[Sequence[str]], _Command | None], argv: Sequence[str], usage: str, command: str = "pyinfer perf"
) -> _Command | int:
    """What ``parse`` makes of ``argv``, or an exit status: 2 where it raises UsageError, 0 where help is asked for.

    The error, or ``usage``, has been shown then.
    """
    try:
        given = parse(argv)
    except UsageError as error:
        Terminal().complain(str(error), command)
        return 2
    if given is None:
        sys.stdout.write(usage)
        return 0
    return given


def attempt(work: Callable[[], None], terminal: Terminal, command: str = "pyinfer perf") -> int:
    """Do ``work``; the exit status, 1 where a PyinferError or Ctrl-C has ended it, which is told."""
    try:
        work()
    except PyinferError as error:
        terminal.complain(error_text(str(error)), command)
        return 1
    except KeyboardInterrupt:
        terminal.complain("interrupted; this is what was measured so far", command)
        return 1
    return 0


class Parser(argparse.ArgumentParser):
    """Takes its own flags out of a command line and leaves the rest to ``pyinfer perf``. Raises UsageError."""

    def __init__(self, command: str) -> None:
        super().__init__(prog=command, add_help=False, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see --help")


def numbers(flag: str, text: str, low: float = 1, *, whole: bool = True) -> tuple[float, ...]:
    """Out of ``1,2,4``, each once. Raises UsageError."""
    found: dict[float, None] = {}
    for part in text.split(","):
        try:
            value: float = int(part) if whole else float(part)
        except ValueError:
            value = low - 1
        if not low <= value < 2**31:
            kind = "whole numbers" if whole else "numbers"
            raise UsageError(f"{flag}: '{text}' is not {kind} from {low:g} on with commas between them")
        found[value] = None
    return tuple(found)


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def machine() -> dict[str, Any]:
    """What makes figures comparable: the processor and how many of its cores this process may use."""
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return {"cpu": found[1] if found else platform.processor() or platform.machine(), "cores": cores()}


def write_json(file: str, document: Mapping[str, Any]) -> None:
    """Raises InvalidArgument where it can not be written."""
    try:
        Path(file).write_text(json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise InvalidArgument(f"can not write {file}: {error.strerror}") from None
