# SPDX-License-Identifier: Apache-2.0
"""The running pairs of servers, one of each kind for the whole session, and what their sections have shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from differential.outcome import Outcome, run_section
from differential.sections import SECTIONS
from differential.servers import PAIRS, Pair, PeerLost, run_pair
from perf.peers import PeerError, find_triton

#: how often a section is sent at most, where the peer is lost
_ATTEMPTS = 3

_REPEATED = pytest.StashKey[list[str]]()
_SKIPPED = pytest.StashKey[str]()


class Session:
    """Runs each section once, on pairs of servers that start side by side: they wait for the processes of models."""

    def __init__(self, folders: pytest.TempPathFactory, pairs: Iterable[str]) -> None:
        self._pool = ThreadPoolExecutor(len(PAIRS))
        self._stacks = {name: ExitStack() for name in pairs}
        self._folders = folders
        self._pairs = {name: self._start(name) for name in self._stacks}
        self._outcomes: dict[str, Outcome] = {}
        #: why sections were sent more than once
        self.repeated: list[str] = []

    def outcome(self, name: str) -> Outcome:
        """Raises RuntimeError or StartError where a server does not start, or ends.

        Where the peer is lost, the section is sent again, to a new pair.
        """
        left = _ATTEMPTS
        while name not in self._outcomes:
            section, left = SECTIONS[name], left - 1
            try:
                self._outcomes[name] = run_section(section, self._pairs[section.pair].result())
            except PeerLost as error:
                if not left:
                    raise
                self.repeated.append(f"section {name!r} was sent again: {str(error).partition(chr(10))[0]}")
                self._stacks[section.pair].close()
                self._pairs[section.pair] = self._start(section.pair)
        return self._outcomes[name]

    def _start(self, pair: str) -> Future[Pair]:
        return self._pool.submit(self._stacks[pair].enter_context, run_pair(PAIRS[pair], self._folders.mktemp(pair)))

    def close(self) -> None:
        for pair in self._pairs.values():
            pair.exception()  # what is still starting can not be stopped
        with self._pool:
            list(self._pool.map(ExitStack.close, self._stacks.values()))


@pytest.fixture(scope="session")
def differential(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Session]:
    try:
        find_triton()
    except PeerError as error:
        request.config.stash[_SKIPPED] = str(error)
        pytest.skip(f"NOT COMPARED WITH TRITON: {error}")
    session = Session(tmp_path_factory, _pairs_of(request.session.items))
    request.config.stash[_REPEATED] = session.repeated
    yield session
    session.close()


def _pairs_of(items: Iterable[pytest.Item]) -> list[str]:
    """The pairs that these tests need, in the order of their sections; all where a test needs all sections."""
    wanted = [
        item.callspec.params.get("name") if hasattr(item, "callspec") else None
        for item in items
        if "differential" in getattr(item, "fixturenames", ())
    ]
    return list(dict.fromkeys(section.pair for name, section in SECTIONS.items() if name in wanted or None in wanted))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """A suite that could not run, or whose peer was lost, says so where nobody overlooks it."""
    if reason := config.stash.get(_SKIPPED, ""):
        terminalreporter.section("NOT COMPARED WITH TRITON", red=True, bold=True)
        terminalreporter.write_line(f"The differential suite was skipped: {reason}")
    if repeated := config.stash.get(_REPEATED, []):
        terminalreporter.section("tritonserver was lost and started again", yellow=True)
        for line in repeated:
            terminalreporter.write_line(line)
