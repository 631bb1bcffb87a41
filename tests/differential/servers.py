# SPDX-License-Identifier: Apache-2.0
"""A pair of servers on the same model repository: the real tritonserver and pyinfer, with the same flags."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from differential import repository
from differential.case import NO_ANSWER, Answer, Call, Case, Http
from differential.over_grpc import GrpcClient
from differential.over_http import HttpClient
from perf.peers import Triton, start_triton
from pyinfer.testing import RunningServer, run_server

__all__ = ["PAIRS", "Pair", "PairSpec", "free_ports", "run_pair"]


@dataclass(frozen=True)
class PairSpec:
    """What a pair serves, and with which flags."""

    models: tuple[repository.Model, ...]
    flags: tuple[str, ...] = ()
    #: those that only the peer, or only pyinfer, has or needs
    triton_flags: tuple[str, ...] = ()
    pyinfer_flags: tuple[str, ...] = ()


_EXPLICIT = ("--model-control-mode=explicit",)

PAIRS = {
    "open": PairSpec(repository.OPEN, (*_EXPLICIT, "--load-model=*")),
    "control": PairSpec(repository.CONTROL, (*_EXPLICIT, "--load-model=first")),
    "guarded": PairSpec(repository.GUARDED),
}


class Client:
    """One server over both protocols."""

    def __init__(self, http_address: str, grpc_address: str) -> None:
        self.http_address, self.grpc_address = http_address, grpc_address
        self._http, self._grpc = HttpClient(http_address), GrpcClient(grpc_address)

    def send(self, case: Case) -> Answer:
        request = case.request
        if isinstance(request, Http):
            return self._http.send(request)
        return self._grpc.call(request) if isinstance(request, Call) else self._grpc.stream(request)

    def close(self) -> None:
        self._http.close()
        self._grpc.close()


@dataclass(frozen=True)
class Pair:
    """Both servers of a pair, running."""

    triton: Client
    pyinfer: Client
    #: why one of them has ended, empty as long as both run
    fault: Callable[[], str]

    def ask(self, cases: Sequence[Case]) -> list[tuple[Case, Answer, Answer]]:
        """Send all cases to both, in order, at the same time. Raises RuntimeError where a server ends."""
        with ThreadPoolExecutor(2) as both:
            theirs, ours = (both.submit(self._ask, client, cases) for client in (self.triton, self.pyinfer))
            return list(zip(cases, theirs.result(), ours.result(), strict=True))

    def _ask(self, client: Client, cases: Sequence[Case]) -> list[Answer]:
        answers = []
        for case in cases:
            answers.append(client.send(case))
            if answers[-1]["status"] in NO_ANSWER and (fault := self.fault()):
                raise RuntimeError(f"case {case.name!r}: {fault}")
        return answers


@contextmanager
def run_pair(spec: PairSpec, folder: Path) -> Iterator[Pair]:
    """Both servers, ready, on the models of ``spec`` below ``folder``; stopped when the block is left.

    Raises PeerError where the peer is not installed, StartError or RuntimeError where a server does not start.
    """
    models = repository.write_repository(folder, spec.models)
    flags = ("--exit-on-error=false", *spec.flags)
    http, grpc, metrics = free_ports(3)
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(1))
        starting = pool.submit(
            start_triton, models, http_port=http, grpc_port=grpc, metrics_port=metrics, flags=flags + spec.triton_flags
        )
        stack.callback(lambda: starting.exception() or starting.result().close())
        ours = stack.enter_context(run_server(models, *flags, *spec.pyinfer_flags))
        theirs = starting.result()
        triton, pyinfer = Client(theirs.http, theirs.grpc), Client(ours.http, ours.grpc)
        stack.callback(triton.close)
        stack.callback(pyinfer.close)
        yield Pair(triton, pyinfer, lambda: _fault(theirs, ours))


def _fault(triton: Triton, pyinfer: RunningServer) -> str:
    if pyinfer.process.poll() is not None:
        return f"pyinfer has ended:\n{pyinfer.log[-16000:]}"
    return "" if triton.child.running() else f"tritonserver has ended:\n{triton.child.log_tail()}"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago; tritonserver can not choose them itself."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports
