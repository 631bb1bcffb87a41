# SPDX-License-Identifier: Apache-2.0
"""The running pairs of servers, one of each kind for the whole session, and what their sections have shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from differential.outcome import Outcome, run_section
from differential.sections import SECTIONS
from differential.servers import PAIRS, Pair, run_pair
from perf.peers import PeerError, find_triton
from perf.procs import StartError

_SKIPPED = pytest.StashKey[str]()


class Session:
    """Runs each section once, starts each pair of servers when the first section needs it."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self._folders = folders
        self._stack = ExitStack()
        self._pairs: dict[str, Pair | Exception] = {}
        self._outcomes: dict[str, Outcome] = {}

    def outcome(self, name: str) -> Outcome:
        if name not in self._outcomes:
            section = SECTIONS[name]
            self._outcomes[name] = run_section(section, self._pair(section.pair))
        return self._outcomes[name]

    def _pair(self, name: str) -> Pair:
        if name not in self._pairs:
            try:
                self._pairs[name] = self._stack.enter_context(run_pair(PAIRS[name], self._folders.mktemp(name)))
            except (RuntimeError, StartError) as error:  # it would not start for the next section either
                self._pairs[name] = error
        pair = self._pairs[name]
        if isinstance(pair, Exception):
            raise pair
        return pair

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="session")
def differential(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Session]:
    try:
        find_triton()
    except PeerError as error:
        request.config.stash[_SKIPPED] = str(error)
        pytest.skip(f"NOT COMPARED WITH TRITON: {error}")
    session = Session(tmp_path_factory)
    yield session
    session.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A suite that could not run says so where nobody overlooks it."""
    if reason := config.stash.get(_SKIPPED, ""):
        terminalreporter.section("NOT COMPARED WITH TRITON", red=True, bold=True)
        terminalreporter.write_line(f"The differential suite was skipped: {reason}")
