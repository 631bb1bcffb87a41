# SPDX-License-Identifier: Apache-2.0
"""The same work against several servers in alternation, and what each is against the first.

Servers are loaded one at a time, A B B A A B ..., so that what slows the machine down for a while, or more and more,
meets all of them alike. Each window is held against the window of the first server in the same round.

To compare servers from Python::

    base = PerfOptions(model="mlp", protocol="grpc", concurrency=Range(16, 16, 1), interval_ms=1000)
    sessions = {name: open_session(replace(base, url=url)) for name, url in urls.items()}
    comparison = Comparison(tuple(sessions))
    compare(sessions, comparison, rounds=10)
    print(comparison.ratio("b", "throughput"))
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from statistics import fmean

from pyinfer.errors import PyinferError, Unavailable
from pyinfer.perf.levels import levels
from pyinfer.perf.measure import Session
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.ratios import Ratio, paired_ratio
from pyinfer.perf.results import Window, merged
from pyinfer.perf.turns import take_turns

__all__ = ["METRICS", "Comparison", "Turn", "compare", "open_session"]

_PERCENTILES = (50, 90, 95, 99)
#: name -> its value in a window; 0 where there is none
METRICS: Mapping[str, Callable[[Window], float]] = {
    "throughput": lambda window: window.throughput,
    "latency avg": lambda window: window.latency_us(),
    **{f"latency p{each}": lambda window, each=each: window.latency_us(each) for each in _PERCENTILES},  # type: ignore[misc]
    "server CPU": lambda window: window.server_cpu_us,
    "memory": lambda window: float(window.process.memory_bytes) if window.process else 0.0,
}


@dataclass(frozen=True)
class Turn:
    """One window of one server. ``round`` counts from 0."""

    round: int
    name: str
    window: Window


@dataclass
class Comparison:
    """What was met so far: also what is left of one that ended early.

    The first of ``names`` is the one that others are held against. ``failures``: name -> why its server, and with it
    the comparison, was given up.
    """

    names: tuple[str, ...]
    confidence: float = 0.95
    #: the level of load, as :class:`Measured` has it
    kind: str = "Concurrency"
    value: float = 0.0
    turns: list[Turn] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def windows(self, name: str) -> list[Window]:
        """Of one server, in order."""
        return [turn.window for turn in self.turns if turn.name == name]

    def total(self, name: str) -> Window | None:
        """All windows of one server as one; None where there is none. Its throughput is that of its own windows."""
        windows = self.windows(name)
        return merged(windows) if windows else None

    def errors(self, name: str) -> Counter[str]:
        """The texts of failed requests, and how many there were of each. They are in no latency and no throughput."""
        found: Counter[str] = Counter()
        for window in self.windows(name):
            found.update(window.load.errors)
        return found

    def ratio(self, name: str, metric: str) -> Ratio | None:
        """``metric`` of ``name`` over that of the first server; None where no round has both."""
        value = METRICS[metric]
        base, other = ({t.round: value(t.window) for t in self.turns if t.name == one} for one in (self.names[0], name))
        rounds = sorted(base.keys() & other.keys())
        return paired_ratio([base[each] for each in rounds], [other[each] for each in rounds], self.confidence)

    def mean(self, name: str, metric: str) -> float:
        """The average of ``metric`` over the windows of a server; 0 where it has none."""
        values = [value for window in self.windows(name) if (value := METRICS[metric](window)) > 0]
        return fmean(values) if values else 0.0


def open_session(options: PerfOptions) -> Session:
    """A session whose every measurement is one window: of ``interval_ms``, or of ``request_count`` requests.

    Raises PyinferError where the server can not be asked.
    """
    return Session(replace(options, max_trials=1))


def compare(
    sessions: Mapping[str, Session],
    found: Comparison,
    *,
    rounds: int,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Load the servers in turn, at the level that their options have, and fill ``found``.

    ``found`` keeps what there is when this is interrupted. All take one turn before that, which warms them up and does
    not count. It ends early, with ``found.failures``, when a server does not answer any more: what is measured of the
    others after that has no pair.
    """
    name = ""
    try:
        for number, name in take_turns(found.names, rounds + 1):
            say(f"round {number} of {rounds}, {name}" if number else f"warming up {name}")
            window = _measure(sessions[name], found)
            if number:
                found.turns.append(Turn(number - 1, name, window))
                say(f"  {window.throughput:.1f} infer/s, latency {window.latency_us():.0f} us")
    except Unavailable as error:
        found.failures[name] = str(error)


def _measure(session: Session, found: Comparison) -> Window:
    """Raises Unavailable where the server is gone, or was by the end: what it did until then is no whole window."""
    (level,) = islice(levels(session.options, session, []), 1)
    found.kind, found.value = level.kind, level.value
    session.measure(level)
    window = level.windows[0]
    if window.load.failed:
        try:
            session.target.metadata()
        except PyinferError as error:
            raise Unavailable(f"{error} ({window.load.failed} requests have failed)") from None
    if not window.load.latency.count:
        raise Unavailable(f"no request was answered for {window.seconds:.1f} s")
    return window
