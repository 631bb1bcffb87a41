# SPDX-License-Identifier: Apache-2.0
"""A client gives up, in each way there is, while its request is at each place it can be at.

It is gone from there at once, though nothing else moves; it is counted; whoever executes it sees it; and others, who
waited before and behind it, are answered right.
"""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract.calls.callers import passing_on
from contract.conftest import add_model, identity, isolated
from contract.scheduling.leavers import CallLeaver, HttpLeaver, Leaver, RawLeaver, StreamLeaver
from faults.client import document, message, tensor
from faults.guard import Control, counter
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

COMMON = """
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


class Notes:
    def initialize(self, args):
        self.notes = Path(args["model_repository"]).parent.parent / "notes" / args["model_name"]
        self.notes.mkdir()

    def hold(self, request, is_cancelled):
        # a request of [number, 1] is held until there is a file, or it is cancelled
        number, held = request.inputs()[0].as_numpy()[0]
        (self.notes / f"began{number}").touch()
        while held and not (self.notes / f"open{number}").exists():
            if is_cancelled():
                (self.notes / f"saw{number}").touch()
                return
            time.sleep(0.005)


def answer(request):
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())])
"""
HOLDS = """

class TritonPythonModel(Notes):
    def execute(self, requests):
        for request in requests:
            self.hold(request, request.is_cancelled)
        return [answer(request) for request in requests]
"""
STREAMS = """

class TritonPythonModel(Notes):
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            sender.send(answer(request))
            self.hold(request, sender.is_cancelled)
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""
TENSOR = '{kind} [ {{ name: "{name}" data_type: TYPE_INT32 dims: [ 2 ] }} ] '
TENSORS = TENSOR.format(kind="input", name="INPUT0") + TENSOR.format(kind="output", name="OUTPUT0")
CONFIG = f'backend: "python" max_batch_size: 1 {TENSORS}'
RESOURCE = 'instance_group [ { count: 1 kind: KIND_CPU rate_limiter { resources [ { name: "R" count: 1 } ] } } ]'
ONE = "instance_group [ { count: 1 kind: KIND_CPU } ] "
MAPS = 'input_map { key: "INPUT0" value: "INPUT0" } output_map { key: "OUTPUT0" value: "OUTPUT0" }'


@dataclass(frozen=True)
class Place:
    """Where a request is that its client gives up."""

    model: str
    #: of whom one holds up all that come behind it
    behind: str = ""
    #: in whose queue it is (with a cache, on its way there), or who executes it
    queue: str = ""
    executes: str = ""


PLACES = {
    "queue": Place("holds", behind="holds", queue="holds"),
    "backlog": Place("slot", queue="slot"),
    "limiter": Place("limited", behind="holder", queue="limited"),
    "cache": Place("cached"),
    "execution": Place("holds", executes="holds"),
    "step's queue": Place("graph", behind="holds", queue="holds"),
    "step": Place("graph", executes="holds"),
    "call's queue": Place("calls", behind="holds", queue="holds"),
    "call": Place("calls", executes="holds"),
    "stream": Place("streams", executes="streams"),
}
SOURCES = ("http disconnect", "grpc cancel", "stream cancel", "stream disconnect", "deadline")


class StalledCache:
    """Speaks as much of Redis as a cache without entries needs; says nothing to lookups while it is stalled."""

    def __init__(self) -> None:
        self.lookups = 0
        self._flows = threading.Event()
        self._flows.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @contextmanager
    def stalled(self) -> Iterator[None]:
        self._flows.clear()
        try:
            yield
        finally:
            self._flows.set()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as commands:
            while head := commands.readline():
                words = []
                for _ in range(int(head[1:])):
                    size = int(commands.readline()[1:])
                    words.append(commands.read(size + 2)[:-2])
                if words[0].upper() != b"GETRANGE":
                    hello = words[0].upper() == b"HELLO"
                    connection.sendall(b"%1\r\n$5\r\nproto\r\n:3\r\n" if hello else b"+OK\r\n")
                    continue
                self.lookups += 1
                self._flows.wait()
                connection.sendall(b"$0\r\n\r\n")


class House:
    """The server, and clients whose requests are told apart by their numbers."""

    def __init__(self, server: RunningServer, notes: Path, cache: StalledCache) -> None:
        self.server, self.notes, self.cache = server, notes, cache
        self.pool = ThreadPoolExecutor(32)
        self._numbers = itertools.count(1)

    def number(self) -> int:
        return next(self._numbers)

    def accounted(self, model: str) -> tuple[int, int]:
        """Requests that are over, and those of them that were cancelled."""
        cancelled = counter(self.server, "nv_inference_request_failure", model, reason="CANCELED")
        failed = counter(self.server, "nv_inference_request_failure", model)
        return counter(self.server, "nv_inference_request_success", model) + failed, cancelled

    def pending(self, model: str) -> int:
        return counter(self.server, "nv_inference_pending_request_count", model)

    def note(self, model: str, what: str, number: int) -> Path:
        return self.notes / model / f"{what}{number}"

    # Clients that stay

    def ask(
        self, model: str, number: int, *, held: bool = False, sequence: dict[str, Any] | None = None
    ) -> Future[Any]:
        return self.pool.submit(self._ask, model, [number, int(held)], sequence)

    def _ask(self, model: str, values: list[int], sequence: dict[str, Any] | None) -> None:
        url = f"http://{self.server.http}/v2/models/{model}/"
        if model == "streams":
            text = httpx.post(url + "generate_stream", json={"INPUT0": values}, timeout=120).text
            assert text.count('"OUTPUT0":') == 1
            assert str(values).replace(" ", "") in text
            return
        body = document(tensor((1, 2), values, datatype="INT32"), parameters=sequence or {})
        assert httpx.post(url + "infer", content=body, timeout=120).json()["outputs"][0]["data"] == values

    # One that goes

    def leaver(self, source: str, place: Place, number: int, seconds: float) -> Leaver:
        sequence = {"sequence_id": number, "sequence_start": True} if place.model == "slot" else {}
        if source == "http disconnect":
            return HttpLeaver(self.server, place.model, number, sequence)
        request = message(place.model, ("INPUT0", "INT32", (1, 2)), raw=[np.array([number, 1], "<i4").tobytes()])
        if sequence:
            request.parameters["sequence_id"].int64_param = number
            request.parameters["sequence_start"].bool_param = True
        if source == "stream cancel" or (source == "grpc cancel" and place.model == "streams"):
            return StreamLeaver(self.server, request)
        if source == "grpc cancel":
            return CallLeaver(self.server, request)
        rpc = "ModelStreamInfer" if source == "stream disconnect" or place.model == "streams" else "ModelInfer"
        return RawLeaver(self.server, request, rpc, seconds if source == "deadline" else 0)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, isolation: str) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("cancellation")
    (folder / "notes").mkdir()
    models = folder / "models"
    add_model(models, "control", identity("TYPE_FP32", "4"))
    graph = f'ensemble_scheduling {{ step [ {{ model_name: "holds" model_version: -1 {MAPS} }} ] }}'
    add_model(models, "graph", f'platform: "ensemble" max_batch_size: 1 {TENSORS} {graph}')
    for name, code, more in (
        ("holds", HOLDS, ONE + "dynamic_batching { }"),
        ("slot", HOLDS, ONE + "sequence_batching { max_sequence_idle_microseconds: 600000000 }"),
        ("holder", HOLDS, RESOURCE),
        ("limited", HOLDS, RESOURCE),
        ("cached", HOLDS, ONE + "response_cache { enable: true }"),
        ("streams", STREAMS, ONE + "model_transaction_policy { decoupled: true }"),
        ("calls", passing_on("holds"), ONE),
    ):
        add_model(models, name, CONFIG + more, {"model.py": COMMON + code})
    with closing(StalledCache()) as cache:
        patience = ("wait_timeout", "socket_timeout", "connect_timeout")
        settings = {"host": "127.0.0.1", "port": str(cache.port), **dict.fromkeys(patience, "120000")}
        flags = [f"--cache-config=redis,{name}={value}" for name, value in settings.items()]
        with run_server(models, "--rate-limit=execution_count", isolated(isolation), *flags) as server:
            made = House(server, folder / "notes", cache)
            control = Control(server)
            yield made
            control.stop()
            made.pool.shutdown()
            assert not control.errors, control.errors
            assert control.answers
            assert server.stop() == 0, server.log[-4000:]


@contextmanager
def held_up(house: House, place: Place) -> Iterator[None]:
    """Somebody is before the place; once he is gone, he and who came behind it have their answers."""
    first, last = house.number(), house.number()
    if place.model == "cached":
        with house.cache.stalled():
            yield
            behind = house.ask("cached", last)
    elif place.model == "slot":
        house.ask("slot", first, sequence={"sequence_id": first, "sequence_start": True}).result(timeout=60)
        yield
        behind = house.ask("slot", last, sequence={"sequence_id": last, "sequence_start": True, "sequence_end": True})
        eventually(lambda: house.pending("slot") == 1, "the next sequence never waited")
        house.ask("slot", first, sequence={"sequence_id": first, "sequence_end": True}).result(timeout=60)
    elif place.behind:
        before = house.ask(place.behind, first, held=True)
        eventually(house.note(place.behind, "began", first).exists, "nobody is before it")
        yield
        behind = house.ask(place.model, last)
        eventually(lambda: house.pending(place.queue) == 1, "the next one never waited")
        assert not before.done()
        house.note(place.behind, "open", first).touch()
        before.result(timeout=60)
    else:
        yield
        behind = house.ask(place.model, last)
    behind.result(timeout=60)


def arrive(house: House, source: str, place: Place) -> tuple[Leaver, int]:
    """A request that is at the place, and its number. One whose time is up too early is sent again, with more."""
    for seconds in (1, 4, 16, 64):
        number, lookups = house.number(), house.cache.lookups
        leaver = house.leaver(source, place, number, seconds)

        def is_there(number: int = number, lookups: int = lookups) -> bool:
            if place.executes:
                return house.note(place.executes, "began", number).exists()
            return house.pending(place.queue) == 1 if place.queue else house.cache.lookups > lookups

        eventually(lambda at=is_there, one=leaver: at() or one.is_over(), "it never got there")
        if not leaver.is_over():
            return leaver, number
        leaver.leave()
    raise AssertionError("its time was always up before it was there")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("at", PLACES)
def test_who_gives_up_is_gone_at_once(house: House, at: str, source: str) -> None:
    place = PLACES[at]
    with held_up(house, place):
        leaver, number = arrive(house, source, place)
        waits_for = place.queue or place.model
        over, cancelled = house.accounted(place.model)[0], house.accounted(waits_for)[1]
        leaver.leave()
        eventually(lambda: house.accounted(place.model)[0] == over + 1, "it is not over")
        if place.executes:
            eventually(house.note(place.executes, "saw", number).exists, "who executes it does not see it")
        else:
            eventually(lambda: house.accounted(waits_for)[1] == cancelled + 1, "it is not counted")
        if place.queue:
            eventually(lambda: house.pending(place.queue) == 0, "it is still queued")
    if not place.executes:
        assert not house.note(waits_for, "began", number).exists()
