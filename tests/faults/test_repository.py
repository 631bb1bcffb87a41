# SPDX-License-Identifier: Apache-2.0
"""Rows 49 and 51: models that change under load, and repositories that change while they are looked at."""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from contract.conftest import GATE, add_model, gate_config, identity
from contract.http.raw import HOST, Raw, post
from faults.client import Grpc, control, document, message, refused, tensor, times
from faults.guard import Guard
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

PYTHON = identity("TYPE_FP32", "4").replace('"identity"', '"python"')
THREADS = 'parameters { key: "ISOLATION" value { string_value: "thread" } }'
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        # {mark}
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""

STARTS = """
    def initialize(self, args):
        import time
        from pathlib import Path

        folder = Path(args["model_repository"])
        (folder / "began").touch()
        while not (folder / "go").exists():
            time.sleep(0.002)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("repository")
    for name in ("control", "native", "other"):
        add_model(made, name, identity("TYPE_FP32", "4"))
    add_model(made, "flat", identity("TYPE_FP32", "-1", batch=0))
    add_model(made, "scripted", PYTHON, {"model.py": MODEL.format(mark=0)})
    add_model(made, "in_threads", f"{PYTHON} {THREADS}", {"model.py": MODEL.format(mark=0)})
    add_model(made, "gate", gate_config(), {"model.py": GATE})
    return made


@pytest.fixture(scope="module")
def served(repository: Path) -> Iterator[tuple[RunningServer, Guard]]:
    with run_server(repository, "--model-control-mode=explicit", "--load-model=*") as server:
        with Guard(server) as guard:
            yield server, guard
        assert server.stop() == 0


@pytest.fixture
def server(served: tuple[RunningServer, Guard]) -> Iterator[RunningServer]:
    running, guard = served
    yield running
    guard.check()


def is_ready(server: RunningServer, model: str) -> bool:
    with Raw(server.http_port, timeout_s=60) as raw:
        raw.send(f"GET /v2/models/{model}/ready HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return raw.receive().status == 200


class Load:
    """Clients that ask one model over both protocols, for as long as this is entered; none may get a wrong answer."""

    def __init__(self, server: RunningServer, model: str) -> None:
        self.answers = 0
        self.errors: list[str] = []
        self._server = server
        self._model = model
        self._done = threading.Event()
        self._threads = [threading.Thread(target=ask) for ask in (self._http, self._grpc) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int) -> None:
        """Until ``more`` further requests were answered."""
        wanted = self.answers + more
        eventually(lambda: self.answers >= wanted or bool(self.errors), "the load stands still")

    def _http(self) -> None:
        with Raw(self._server.http_port, timeout_s=60) as raw:
            self._ask(lambda values: self._over_http(raw, values))

    def _grpc(self) -> None:
        with contextlib.closing(Grpc(self._server)) as channel:
            self._ask(lambda values: self._over_grpc(channel, values))

    def _ask(self, send: object) -> None:
        number = 0
        try:
            while not self._done.is_set():
                values = [number % 1000 + i / 4 for i in range(4)]
                assert send(values) == values  # type: ignore[operator]
                number += 1
                self.answers += 1  # a lost count does no harm
        except Exception as error:
            self.errors.append(repr(error))

    def _over_http(self, raw: Raw, values: list[float]) -> list[float]:
        answer = raw.send(post(f"/v2/models/{self._model}/infer", document(tensor((1, 4), values)))).receive()
        assert answer.status == 200, answer
        found: list[float] = answer.document["outputs"][0]["data"]
        return found

    def _over_grpc(self, channel: Grpc, values: list[float]) -> list[float]:
        request = message(self._model, ("INPUT0", "FP32", (1, 4)), raw=[np.array(values, "<f4").tobytes()])
        response = channel.infer(request)
        return [float(value) for value in np.frombuffer(response.raw_output_contents[0], "<f4")]


def change_native(directory: Path, number: int) -> None:
    (directory / "1" / "note").write_text("x" * (number + 1))


def change_scripted(directory: Path, number: int) -> None:
    (directory / "1" / "model.py").write_text(MODEL.format(mark="x" * (number + 1)))


def change_instances(directory: Path, number: int) -> None:
    text = (directory / "config.pbtxt").read_text()
    for count in range(1, 5):
        text = text.replace(f"count: {count}", "count: N")
    (directory / "config.pbtxt").write_text(text.replace("count: N", f"count: {number % 4 + 1}"))


def change_versions(directory: Path, number: int) -> None:
    version = directory / str(number + 2)
    version.mkdir(exist_ok=True)
    for file in (directory / "1").iterdir():
        (version / file.name).write_bytes(file.read_bytes())


@pytest.mark.parametrize(
    ("model", "change"),
    [
        ("native", change_native),
        ("scripted", change_scripted),
        ("native", change_instances),
        ("scripted", change_instances),
        ("native", change_versions),
        ("scripted", change_versions),
    ],
)
def test_row_49_no_request_fails_while_a_model_changes(
    server: RunningServer, repository: Path, model: str, change: object
) -> None:
    configuration = repository / model / "config.pbtxt"
    before = configuration.read_text()
    assert control(server, model, "load") == 200
    with Load(server, model) as load:
        load.wait(20)
        for number in range(12):
            change(repository / model, number)  # type: ignore[operator]
            assert control(server, model, "load") == 200
            load.wait(20)
    assert not load.errors, load.errors
    configuration.write_text(before)
    assert control(server, model, "load") == 200


def test_row_15_requests_for_a_model_that_is_being_loaded(server: RunningServer, repository: Path) -> None:
    """Not ready, whoever asks, until it is; then served."""
    directory = add_model(repository, "starting", PYTHON, {"model.py": MODEL.format(mark=0) + STARTS})
    loading = threading.Thread(target=control, args=(server, "starting", "load"))
    loading.start()
    eventually((directory / "began").exists, "never began")
    body = document(tensor((1, 4), [1, 2, 3, 4]))
    text, of_any = (
        f"Request for unknown model: 'starting' {state}"
        for state in ("version 1 is not at ready state", "has no available versions")
    )
    with contextlib.closing(Grpc(server)) as rpc:
        refused(server, "/v2/models/starting/versions/1/infer", body, status=503, text=text)
        refused(server, "starting", body, status=404, text=of_any)
        rpc.refused(message("starting", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)], version="1"), "UNAVAILABLE", text)
        rpc.refused(message("starting", ("INPUT0", "FP32", (1, 4)), raw=[bytes(16)]), "NOT_FOUND", of_any)
        assert not is_ready(server, "starting")
        (directory / "go").touch()
        loading.join()
        data = np.array([1, 2, 3, 4], "<f4").tobytes()
        answer = rpc.infer(message("starting", ("INPUT0", "FP32", (1, 4)), raw=[data], version="1"))
        assert answer.raw_output_contents[0] == data
    assert control(server, "starting", "unload") == 200


def test_row_49_a_failing_reload_is_not_noticed_by_requests(server: RunningServer, repository: Path) -> None:
    assert control(server, "scripted", "load") == 200
    file = max((repository / "scripted").iterdir(), key=lambda path: path.name.isdigit() and int(path.name))
    right = (file / "model.py").read_text()
    with Load(server, "scripted") as load:
        for number in range(5):
            (file / "model.py").write_text("half of a fi" + "x" * number)
            assert control(server, "scripted", "load") == 400
            load.wait(20)
        (file / "model.py").write_text(right + "#")
        assert control(server, "scripted", "load") == 200
        load.wait(20)
    assert not load.errors, load.errors


@pytest.mark.timeout(600)
def test_row_49_storm(server: RunningServer) -> None:
    """32 x 1024 loads, unloads, questions and requests at random: each gets one of its answers, nothing is left."""
    strange: list[object] = []
    shares = {"native": 8, "other": 8, "in_threads": 8, "scripted": 1}  # of which the last one starts a process
    answers = {"infer": {200, 404, 503}, "index": {200}, "load": {200}, "unload": {200}, "ready": {200, 400}}
    body = document(tensor((1, 4), [1, 2, 3, 4]))
    requests: dict[str, Callable[[str], bytes]] = {
        "infer": lambda model: post(f"/v2/models/{model}/infer", body),
        "index": lambda model: post("/v2/repository/index", b""),
        "load": lambda model: post(f"/v2/repository/models/{model}/load", b""),
        "unload": lambda model: post(f"/v2/repository/models/{model}/unload", b""),
        "ready": lambda model: b"GET /v2/models/%s/ready HTTP/1.1\r\n" % model.encode() + HOST + b"\r\n",
    }

    def act(seed: int) -> None:
        choose = random.Random(seed)
        with Raw(server.http_port, timeout_s=60) as raw:
            for _ in range(times(1024)):
                [model], kind = choose.choices(list(shares), shares.values()), choose.choice(list(requests))
                status = raw.send(requests[kind](model)).receive().status
                if status not in answers[kind]:
                    strange.append((kind, model, status))

    actors = [threading.Thread(target=act, args=(seed,)) for seed in range(32)]
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join()
    assert not strange
    for model in shares:
        assert control(server, model, "load") == 200
        with Load(server, model) as load:
            load.wait(4)
        assert not load.errors, load.errors


def test_row_49_an_unload_leaves_no_request_without_an_answer(server: RunningServer, repository: Path) -> None:
    directory = repository / "gate"
    body = document(tensor((1, 1), [7]))
    with contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(Raw(server.http_port, timeout_s=60)) for _ in range(40)]
        for raw in waiting:
            raw.send(post("/v2/models/gate/infer", body))
        eventually((directory / "began").exists, "never began")
        unloading = threading.Thread(target=control, args=(server, "gate", "unload"))
        unloading.start()
        eventually(lambda: not is_ready(server, "gate"), "still accepted")
        (directory / "open").touch()
        answers = [raw.receive() for raw in waiting]
        unloading.join()
    assert {answer.status for answer in answers} == {200}
    assert all(answer.document["outputs"][0]["data"] == [7] for answer in answers)


def test_row_51_a_poll_that_sees_half_of_a_model(tmp_path: Path) -> None:
    """A model is copied in pieces, removed in pieces and made a link to itself, while it is asked and polled."""
    add_model(tmp_path, "control", identity("TYPE_FP32", "4"))
    directory = add_model(tmp_path, "scripted", PYTHON, {"model.py": MODEL.format(mark=0)})
    with run_server(tmp_path, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        text = MODEL.format(mark="second")
        with Load(server, "scripted") as load:
            (directory / "1" / "model.py").write_text(text[: len(text) // 2])
            eventually(lambda: "failed to load" in server.log or "load failed" in server.log, "the poll did not see it")
            load.wait(20)
            (directory / "1" / "model.py").unlink()
            (directory / "1" / "model.py").symlink_to("model.py")
            eventually(lambda: server.log.count("load failed") >= 2, "the poll did not see the link")
            load.wait(20)
            (directory / "1" / "model.py").unlink()
            (directory / "1" / "model.py").write_text(text)
            eventually(
                lambda: "successfully loaded 'scripted' version 1" in server.log.rpartition("load failed")[2],
                "not taken",
            )
            load.wait(20)
        assert not load.errors, load.errors
        assert server.is_ready()
        assert server.process.poll() is None
        assert server.stop() == 0
