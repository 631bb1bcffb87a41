# SPDX-License-Identifier: Apache-2.0
"""Rows 17 to 20 and 59: clients that name memory that is not there, take it away, change it, or have none left.

Whatever a client does to its memory, it hurts its own requests only.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.conftest import add_model, identity
from faults.models import make_models
from faults.shared import WAYS, Asker, Part, mapped, memory
from faults.threads import all_succeed, on_prepared_thread
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

PAGE = 4096
GONE = "is not there any more"
UNKNOWN = "Unable to find shared memory region"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shared")
    make_models(made)
    slow = identity("TYPE_FP32", "-1", batch=0) + ' parameters { key: "execute_delay_ms" value { string_value: "20" } }'
    add_model(made, "unhurried", slow)
    return made


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    with run_server(repository, "--allow-client-shm=true") as running:
        yield running
        assert running.process.poll() is None, running.log[-4000:]
        assert mapped(running) == 0
        assert running.stop() == 0


pytestmark = pytest.mark.usefixtures("guarded")


@pytest.fixture(params=WAYS)
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Asker]:
    with Asker(server, request.param) as made:
        yield made
        made.unregister()


def numbers(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


FOUR = numbers(1, 2, 3, 4)
EDGES = (0, 1, PAGE - 1, PAGE, PAGE + 1, 2**31, 2**32, 2**63 - 1)


def test_row_17_parts_that_are_not_there(client: Asker) -> None:
    assert UNKNOWN in str(client.ask("flat", [4], Part("none", 16)))
    assert UNKNOWN in str(client.ask("flat", [4], FOUR, Part("none", 16)))
    with memory(PAGE) as region:
        assert not client.register("r", region)
        for offset in EDGES:
            for size in EDGES:
                if offset < PAGE and size <= PAGE - offset:
                    continue
                for source, place in ((Part("r", size, offset), None), (FOUR, Part("r", size, offset))):
                    assert "Invalid offset" in str(client.ask("flat", [4], source, place))
        assert "should be at least 16 bytes" in str(client.ask("flat", [4], FOUR, Part("r", 15)))
        assert client.register("larger", region, PAGE + 1)
        assert client.register("behind", region, 1, PAGE)
        assert client.register("r", region)  # already there
        region.map[16:32] = FOUR
        assert client.ask("flat", [4], Part("r", 16, 16)) == FOUR


class Executing:
    """One request of a model that is faulty on a thread of its own, from when it is being executed until ``answer``."""

    def __init__(
        self, server: RunningServer, way: str, gate: Path, source: Part, place: Part | None, model: str = "faulty"
    ) -> None:
        self._gate = gate
        self._answers: list[bytes | str] = []

        def ask() -> None:
            with Asker(server, way) as client:
                self._answers.append(client.ask(model, [1, 4], source, place, mode=f"wait {gate}"))

        self._thread = threading.Thread(target=ask)
        self._thread.start()
        eventually(lambda: Path(f"{gate}.began").exists(), "the model was never called")

    def answer(self) -> bytes | str:
        Path(f"{self._gate}.open").touch()
        self._thread.join()
        [answer] = self._answers
        return answer


@pytest.mark.parametrize("model", ["faulty", "faulty_in_threads"])
def test_row_18_input_is_taken_away_while_it_is_used(
    server: RunningServer, client: Asker, tmp_path: Path, model: str
) -> None:
    """What a thread has read may have been zeros: its request fails. A process was sent a copy before. Others go on."""
    with memory(PAGE) as region:
        region.map[:16] = FOUR
        assert not client.register("r", region)
        executing = Executing(server, client.way, tmp_path / "gate", Part("r", 16), None, model)
        region.cut(0)
        assert client.ask("flat", [4], FOUR) == FOUR
        answer = executing.answer()
        assert answer == numbers(2, 4, 6, 8) if model == "faulty" else GONE in str(answer)
        assert GONE in str(client.ask("flat", [4], Part("r", 16)))


def test_row_18_the_place_of_an_output_is_taken_away(server: RunningServer, client: Asker, tmp_path: Path) -> None:
    """What can not be put there fails that request, and no other region."""
    with memory(2 * PAGE) as region, memory(PAGE) as other:
        region.map[:16] = FOUR
        other.map[:16] = FOUR
        assert not client.register("r", region)
        assert not client.register("other", other)
        executing = Executing(server, client.way, tmp_path / "gate", Part("r", 16), Part("r", 16, PAGE))
        region.cut(PAGE)
        assert GONE in str(executing.answer())
        assert client.ask("faulty", [1, 4], Part("other", 16), Part("other", 16, 64)) == b""
        assert other.map[64:80] == numbers(2, 4, 6, 8)


def test_row_18_memory_that_comes_and_goes(server: RunningServer, client: Asker) -> None:
    """Cut and grown again while requests read it where it is: each is answered, right or with an error."""
    values = np.arange(4 * PAGE, dtype="<f4").tobytes()
    size = len(values)
    seen = set()
    for attempt in range(40):
        with memory(size) as region:
            region.map[:] = values
            assert not client.register("r", region)
            stop = threading.Event()

            def cut(region: object = region, attempt: int = attempt, stop: threading.Event = stop) -> None:
                stop.wait(attempt / 1000)
                os.truncate(region.path, size // 2)  # type: ignore[attr-defined]

            cutter = threading.Thread(target=cut)
            cutter.start()
            answer = client.ask("unhurried", [4 * PAGE], Part("r", size))
            stop.set()
            cutter.join()
            assert answer == values or GONE in str(answer)
            seen.add(isinstance(answer, str))
            client.unregister("r")
    assert True in seen
    assert server.process.poll() is None


def test_row_19_names_that_change_while_they_are_used(server: RunningServer, client: Asker, tmp_path: Path) -> None:
    """Unregistered, unlinked, and registered anew for other memory: the request ends where it began."""
    with memory(PAGE) as first, memory(PAGE) as second:
        first.map[:16] = FOUR
        assert not client.register("r", first)
        executing = Executing(server, client.way, tmp_path / "gate", Part("r", 16), Part("r", 16, 64))
        client.unregister("r")
        first.path.unlink()
        assert not client.register("r", second)
        assert mapped(server) == 2
        assert executing.answer() == b""
        assert first.map[64:80] == numbers(2, 4, 6, 8)
        assert second.map[64:80] == bytes(16)
        eventually(lambda: mapped(server) == 1, "the region is still mapped")


def test_row_19_one_object_by_two_names_and_parts_that_overlap(client: Asker) -> None:
    with memory(PAGE) as region:
        assert not client.register("a", region)
        assert not client.register("b", region)
        for shift in (-8, -4, 0, 4, 8):
            region.map[64:80] = FOUR
            assert client.ask("flat", [4], Part("a", 16, 64), Part("b", 16, 64 + shift)) == b""
            assert region.map[64 + shift : 80 + shift] == FOUR


def test_row_19_large_tensors_that_overlap_by_two_names(client: Asker) -> None:
    """Other addresses, and still the same memory: a copy that looks at addresses does not see that."""
    size, at = 64 * PAGE, 4 * PAGE
    good = np.arange(size // 4, dtype=np.float32)
    with memory(size + 2 * at) as region:
        assert not client.register("a", region)
        assert not client.register("b", region)
        for source, destination in itertools.product("ab", repeat=2):
            for shift in (-at, -64, 64, at):
                region.map[at : at + size] = good.tobytes()
                answer = client.ask("flat", [good.size], Part(source, size, at), Part(destination, size, at + shift))
                assert answer == b""
                assert region.map[at + shift : at + shift + size] == good.tobytes(), (source, destination, shift)


def test_row_20_lengths_that_change_while_they_are_read(client: Asker) -> None:
    """BYTES whose prefixes another thread rewrites: what is answered was consistent, or refused."""
    good = b"\4\0\0\0abcd" * 512
    changed = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x0c\0\0\0", b"\4\0\0\0"]
    with memory(len(good)) as region:
        region.map[:] = good
        assert not client.register("r", region)
        stop = threading.Event()

        def mutate() -> None:
            random_ = random.Random(20)
            while not stop.is_set():
                at = random_.randrange(512) * 8
                region.map[at : at + 4] = random_.choice(changed)

        thread = threading.Thread(target=mutate)
        thread.start()
        try:
            for _ in range(300):
                answer = client.ask("flat_text", [512], Part("r", len(good)), datatype="BYTES")
                if isinstance(answer, bytes):
                    assert len(elements(answer)) == 512
                else:
                    assert "'INPUT0'" in answer
        finally:
            stop.set()
            thread.join()
        region.map[:] = good
        assert client.ask("flat_text", [512], Part("r", len(good)), datatype="BYTES") == good


def elements(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        assert end <= len(data)
        found.append(data[at + 4 : end])
        at = end
    return found


def test_row_19_unregistered_under_load(server: RunningServer) -> None:
    """Three clients ask without a pause while the region goes and comes: right answers, or none by that name."""
    with memory(PAGE) as region, Asker(server, "http") as operator:
        region.map[:16] = FOUR
        stop = threading.Event()
        faults: list[object] = []

        def load(way: str, number: int) -> None:
            place = Part("r", 16, 64 * (number + 1))
            with Asker(server, way) as client:
                while not stop.is_set():
                    answer = client.ask("flat", [4], Part("r", 16), place)
                    if answer != b"" and UNKNOWN not in str(answer):
                        faults.append(answer)

        threads = [threading.Thread(target=load, args=(way, number)) for number, way in enumerate(WAYS)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(200):
                assert not operator.register("r", region)
                operator.unregister("r")
            assert not operator.register("r", region)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        operator.unregister()
        assert not faults, faults[:3]
        eventually(lambda: mapped(server) == 0, "the region is still mapped")


def test_row_19_storm_of_registrations(server: RunningServer) -> None:
    """Six clients register, use and forget regions of their own, and quarrel over one name."""
    faults: list[str] = []

    def quarrel(number: int) -> None:
        with Asker(server, WAYS[number % 3]) as client, memory(PAGE) as mine:
            mine.map[:16] = data = numbers(number, *range(3))
            for _ in range(60):
                if client.register(f"own {number}".replace(" ", "_"), mine):
                    faults.append("own name is taken")
                taken = client.register("common", mine)
                if taken and "already in manager" not in taken:
                    faults.append(taken)
                if client.ask("flat", [4], Part(f"own_{number}", 16)) != data:
                    faults.append("wrong data")
                common = client.ask("flat", [4], Part("common", 16))
                if isinstance(common, str) and UNKNOWN not in common:
                    faults.append(common)
                client.unregister("common")
                client.unregister(f"own_{number}")

    threads = [threading.Thread(target=quarrel, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults, faults[:3]
    eventually(lambda: mapped(server) == 0, "regions are still mapped")


CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 0x4000, 1 << 18


def in_small_memory(work: Callable[[], None]) -> None:
    """Run ``work`` on a thread that sees, as its children do, a /dev/shm of 64 KiB. Skips where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = (
        lambda: libc.unshare(CLONE_NEWNS),
        lambda: libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None),
        lambda: libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, b"size=64k"),
    )
    on_prepared_thread(lambda: all_succeed(steps), work, "no /dev/shm of its own can be mounted here")


@pytest.mark.parametrize("way", WAYS)
def test_row_59_no_memory_left(repository: Path, way: str) -> None:
    """A region that the file system has no room for: its object has the size, but its pages can not be written."""

    def work() -> None:
        with (
            run_server(repository, "--allow-client-shm=true") as small,
            Asker(small, way) as client,
            contextlib.ExitStack() as stack,
        ):
            large = stack.enter_context(memory(1 << 20))
            good = stack.enter_context(memory(PAGE))
            good.map[:16] = FOUR
            assert not client.register("large", large)
            assert not client.register("good", good)
            count = 40_000
            asked = np.arange(count, dtype="<f4").tobytes()
            for _ in range(3):
                text = str(client.ask("flat", [count], asked, Part("large", len(asked))))
                assert GONE in text
                assert large.key not in text
            assert client.ask("flat", [4], Part("good", 16), Part("good", 16, 64)) == b""
            assert good.map[64:80] == FOUR
            assert small.is_ready()
            assert small.stop() == 0

    in_small_memory(work)


def test_row_59_objects_that_can_not_be_opened(client: Asker) -> None:
    with memory(PAGE) as region:
        region.path.unlink()
        for spoil in (lambda: None, region.path.mkdir):
            spoil()
            assert client.register("r", region) == f"Unable to open shared memory region: '{region.key}'"
        region.path.rmdir()
