# SPDX-License-Identifier: Apache-2.0
"""A pair of servers on the same model repository: the real tritonserver and pyinfer, with the same flags."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from differential import repository
from differential.case import NO_ANSWER, Answer, Call, Case, Http
from differential.corpus import guarded, instances
from differential.examples import EXAMPLES
from differential.over_grpc import GrpcClient
from differential.over_http import HttpClient
from perf.peers import Triton, start_triton
from perf.procs import StartError
from pyinfer.testing import RunningServer, run_server

__all__ = ["PAIRS", "Pair", "PairSpec", "PeerLost", "free_ports", "run_pair"]


class PeerLost(RuntimeError):
    """tritonserver has ended, or does not answer any more: of a fault of its own, at times."""


@dataclass(frozen=True)
class PairSpec:
    """What a pair serves, and with which flags."""

    models: tuple[repository.Model, ...]
    flags: tuple[str, ...] = ()
    #: those that only the peer, or only pyinfer, has or needs
    triton_flags: tuple[str, ...] = ()
    pyinfer_flags: tuple[str, ...] = ()


#: tritonserver starts a process for each Python model: seconds on an idle machine, minutes on a busy one
_START_S = 300.0

#: all requests of a section; where a server stops to answer, each request takes as long as its client waits
_SECTION_S = 120.0

#: from a server's last answer to the end of its process
_END_S = 20.0

#: how often a request with a condition is sent at most; what comes last is compared
_ATTEMPTS = 1000
_PAUSE_S = 0.005

#: to complete a configuration the peer starts one more process for each model: only where it is asked for
_AS_WRITTEN = ("--disable-auto-complete-config",)

_EXPLICIT = ("--model-control-mode=explicit",)

_LIMITER = "--rate-limit=execution_count"

PAIRS = {
    "open": PairSpec(
        repository.OPEN, (*_EXPLICIT, "--load-model=*", *_AS_WRITTEN), pyinfer_flags=("--allow-client-shm=true",)
    ),
    "control": PairSpec(repository.CONTROL, (*_EXPLICIT, "--load-model=first", "--load-model=completes")),
    "versionless": PairSpec(repository.VERSIONLESS, (*_EXPLICIT, "--load-model=first")),
    "scheduling": PairSpec((*repository.SCHEDULING, *repository.ENSEMBLES), _AS_WRITTEN),
    "ensemble-graphs": PairSpec(
        repository.GRAPHS,
        (*_EXPLICIT, *(f"--load-model={name}" for name in ("nested", "fork", "optionals")), *_AS_WRITTEN),
    ),
    "limits": PairSpec(
        repository.LIMITS,
        (
            *_EXPLICIT,
            *(f"--load-model={name}" for name in ("holder", "often", "seldom", "free")),
            *_AS_WRITTEN,
            _LIMITER,
        ),
    ),
    "limited": PairSpec(
        repository.LIMITED,
        (*_EXPLICIT, *_AS_WRITTEN, _LIMITER, *(f"--rate-limit-resource={what}" for what in ("R:5", "R:2:0", "G:3"))),
    ),
    "instances": PairSpec(instances.MODELS, (*_EXPLICIT, *_AS_WRITTEN)),
    "guarded": PairSpec(repository.GUARDED, guarded.FLAGS),
    "examples": PairSpec(EXAMPLES),
}


@dataclass(frozen=True)
class Addresses:
    """Where one server listens: ``host:port``."""

    http: str
    grpc: str
    metrics: str


class Client:
    """One server over both protocols, to be used in a block."""

    def __init__(self, server: Addresses) -> None:
        self._http = {"http": HttpClient(server.http), "metrics": HttpClient(server.metrics)}
        self._grpc = GrpcClient(server.grpc)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *unused: object) -> None:
        for client in self._http.values():
            client.close()
        self._grpc.close()

    def send(self, case: Case) -> Answer:
        request = case.request
        if isinstance(request, Http):
            return self._http[request.port].send(request)
        return self._grpc.call(request) if isinstance(request, Call) else self._grpc.stream(request)


@dataclass(frozen=True)
class Pair:
    """Both servers of a pair, running."""

    triton: Addresses
    pyinfer: Addresses
    #: why one of them has ended, None as long as both run
    fault: Callable[[], RuntimeError | None]

    def ask(self, cases: Sequence[Case]) -> list[tuple[Case, Answer, Answer]]:
        """Send all cases to both at the same time, those of one lane in order.

        Raises PeerLost or RuntimeError where a server has ended, RuntimeError where it takes longer than a section may.
        """
        lanes: dict[str, list[Case]] = {}
        for case in cases:
            lanes.setdefault(case.lane, []).append(case)
        until = time.monotonic() + _SECTION_S
        with ThreadPoolExecutor(2 * len(lanes) or 1) as pool:
            asked = [
                (
                    lane,
                    pool.submit(self._ask, self.triton, lane, until),
                    pool.submit(self._ask, self.pyinfer, lane, until),
                )
                for lane in lanes.values()
            ]
            return [
                answers
                for lane, theirs, ours in asked
                for answers in zip(lane, theirs.result(), ours.result(), strict=True)
            ]

    def _ask(self, server: Addresses, cases: Sequence[Case], until: float) -> list[Answer]:
        with Client(server) as client:
            answers = []
            for case in cases:
                answers.append(self._answer(client, case, until))
                if answers[-1]["status"] in NO_ANSWER:
                    self._raise_if_lost(server)
            return answers

    def _raise_if_lost(self, server: Addresses) -> None:
        """Called where ``server`` has said nothing. That its process runs proves nothing: the sockets of a process are
        closed before it can be waited for.
        """
        with HttpClient(server.http) as client:
            if client.send(Http("GET", "/v2/health/live"))["status"] not in NO_ANSWER:
                return
        until = time.monotonic() + _END_S
        while time.monotonic() < until:
            if fault := self.fault():
                raise fault
            time.sleep(_PAUSE_S)
        if server is self.triton:
            raise PeerLost("tritonserver does not answer any more")
        raise RuntimeError("pyinfer does not answer any more")

    def _answer(self, client: Client, case: Case, until: float) -> Answer:
        for _ in range(_ATTEMPTS):
            answer = client.send(case)
            if time.monotonic() > until:
                raise RuntimeError(f"case {case.name!r}: the section takes longer than {_SECTION_S:.0f} s")
            if case.until is None or case.until(answer):
                break
            time.sleep(_PAUSE_S)
        return answer


@contextmanager
def run_pair(spec: PairSpec, folder: Path) -> Iterator[Pair]:
    """Both servers, ready, on the models of ``spec`` below ``folder``; stopped when the block is left.

    Raises PeerError where the peer is not installed, StartError or RuntimeError where a server does not start.
    """
    models = repository.write_repository(folder, spec.models)
    flags = ("--exit-on-error=false", "--exit-timeout-secs=2", *spec.flags)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        starting = pool.submit(_start_triton, models, flags + spec.triton_flags)
        stack.callback(lambda: starting.exception() or starting.result().close())
        ours = stack.enter_context(run_server(models, *flags, *spec.pyinfer_flags))
        theirs = starting.result()
        triton, pyinfer = (Addresses(server.http, server.grpc, server.metrics) for server in (theirs, ours))
        yield Pair(triton, pyinfer, lambda: _fault(theirs, ours))


def _start_triton(models: Path, flags: tuple[str, ...]) -> Triton:
    """The peer, ready. It is started again where its lock of shared memory fails while it starts models, or a port is
    taken by then.
    """
    for left in (2, 1, 0):
        http, grpc, metrics = free_ports(3)
        try:
            return start_triton(
                models, http_port=http, grpc_port=grpc, metrics_port=metrics, flags=flags, seconds=_START_S
            )
        except StartError as error:
            if not left or not any(fault in str(error) for fault in ("lock_exception", "already in use")):
                raise
    raise AssertionError("the last attempt returns or raises")


def _fault(triton: Triton, pyinfer: RunningServer) -> RuntimeError | None:
    if pyinfer.process.poll() is not None:
        return RuntimeError(f"pyinfer has ended:\n{pyinfer.log[-16000:]}")
    return None if triton.child.running() else PeerLost(f"tritonserver has ended:\n{triton.child.log_tail()}")


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; tritonserver can not choose them itself.

    They are none of those that Linux gives to clients, of which one may be taken until a slow server gets to it.
    """
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice([port for port in range(15000, 32000) if port not in ports])
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            ports.append(port)
    return ports
