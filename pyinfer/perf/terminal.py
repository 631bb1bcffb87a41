# SPDX-License-Identifier: Apache-2.0
"""What is shown while and after something is measured: plain lines, and on a terminal, with rich, what is going on now.

Progress goes to the error output, results go to the output, so that results can be kept without progress.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, TextIO

from pyinfer.perf.table import Table

__all__ = ["Terminal", "print_table"]


class Terminal:
    """The terminal, or whatever is in its place; use as a context manager. One thread."""

    def __init__(self) -> None:
        self._live: Any = None
        self._status = ""
        self._table: Table | None = None

    def __enter__(self) -> Terminal:
        console = _console(sys.stderr)
        if console is not None:
            from rich.live import Live

            self._live = Live(console=console, transient=True, refresh_per_second=8, redirect_stdout=False)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """A line that stays."""
        if self._live is not None:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()

    def complain(self, line: str, command: str = "pyinfer perf") -> None:
        """What went wrong, or has to be known."""
        self.say(f"{command}: {line}")

    def status(self, line: str) -> None:
        """What is going on: a terminal shows the last one, with the time it has taken; elsewhere it is a line."""
        if self._live is None:
            self.say(line)
            return
        self._status = line.strip()
        self._update()

    def show(self, table: Table) -> None:
        """What there is so far, while it goes on. Where there is no terminal the end will tell."""
        self._table = table
        if self._live is not None:
            self._update()

    def _update(self) -> None:
        from rich.console import Group
        from rich.spinner import Spinner
        from rich.text import Text

        table = self._table
        parts: list[Any] = [_rich_table(table)] if table is not None and _fits(table, self._live.console) else []
        self._live.update(Group(*parts, Spinner("dots", Text(self._status))))


def print_table(table: Table) -> None:
    """To the output: what was measured."""
    console = _console(sys.stdout)
    if console is None or not _fits(table, console):
        sys.stdout.write(table.text())
    else:
        console.print(_rich_table(table))


def _fits(table: Table, console: Any) -> bool:
    """rich would cut numbers off; a terminal goes on in the next line."""
    unlimited = console.options.update(width=10_000)
    return bool(console.measure(_rich_table(table), options=unlimited).maximum <= console.width)


def _console(stream: TextIO) -> Any:
    """rich's, for a stream that is a terminal; None where it is none, or rich is not installed."""
    if not stream.isatty():
        return None
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        return None
    return Console(file=stream)


def _rich_table(table: Table) -> Any:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    made = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(table.head):
        made.add_column(Text(name), justify="left" if i < table.named else "right", no_wrap=True)
    for row in table.rows:
        made.add_row(*map(Text, row))
    return made
