# SPDX-License-Identifier: Apache-2.0
"""Rows 49, 51 and 52: models that change under load, and names that are attacks."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as pb

from contract.conftest import GATE, add_model, gate_config, identity
from contract.http.raw import Raw, post
from faults.client import Grpc, check_text, document, http, message, tensor
from faults.guard import Guard, eventually
from pyinfer.testing import RunningServer, run_server

PYTHON = identity("TYPE_FP32", "4").replace('"identity"', '"python"')
MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        # {mark}
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""
CONFIG = {
    "backend": "identity",
    "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
    "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [4]}],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``models``, and ``scratch`` for whatever the server puts aside."""
    made = tmp_path_factory.mktemp("repository")
    (made / "scratch").mkdir()
    for name in ("control", "good"):
        add_model(made / "models", name, identity("TYPE_FP32", "4"))
    add_model(made / "models", "flat", identity("TYPE_FP32", "-1", batch=0))
    for name in ("native", "other"):
        add_model(made / "models", name, identity("TYPE_FP32", "4"))
    add_model(made / "models", "scripted", PYTHON, {"model.py": MODEL.format(mark=0)})
    add_model(made / "models", "gate", gate_config(), {"model.py": GATE})
    return made


@pytest.fixture(scope="module")
def served(root: Path) -> Iterator[tuple[RunningServer, Guard]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(root / "scratch"))
        with run_server(root / "models", "--model-control-mode=explicit", "--load-model=*") as server:
            guard = Guard(server)
            try:
                yield server, guard
            finally:
                guard.control.stop()
            guard.finish()
            assert server.stop() == 0
    assert list((root / "scratch").iterdir()) == [], "what was put aside was not removed"


@pytest.fixture
def server(served: tuple[RunningServer, Guard]) -> Iterator[RunningServer]:
    running, guard = served
    yield running
    guard.check()


def control(server: RunningServer, model: str, action: str, parameters: object = None) -> int:
    path = f"/v2/repository/models/{urllib.parse.quote(model, safe='')}/{action}"
    body = b"" if parameters is None else json.dumps({"parameters": parameters}).encode()
    return http(server, path, body).status


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
    server: RunningServer, root: Path, model: str, change: object
) -> None:
    configuration = root / "models" / model / "config.pbtxt"
    before = configuration.read_text()
    assert control(server, model, "load") == 200
    with Load(server, model) as load:
        load.wait(20)
        for number in range(12):
            change(root / "models" / model, number)  # type: ignore[operator]
            assert control(server, model, "load") == 200
            load.wait(20)
    assert not load.errors, load.errors
    configuration.write_text(before)
    assert control(server, model, "load") == 200


def test_row_49_a_failing_reload_is_not_noticed_by_requests(server: RunningServer, root: Path) -> None:
    assert control(server, "scripted", "load") == 200
    file = max((root / "models" / "scripted").iterdir(), key=lambda path: path.name.isdigit() and int(path.name))
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


def test_row_49_storm(server: RunningServer) -> None:
    """8 x 40 loads, unloads, questions and requests at random: each gets one of its answers, and nothing is left."""
    strange: list[object] = []
    answers = {"infer": {200, 404, 503}, "index": {200}, "load": {200}, "unload": {200}, "ready": {200, 400}}

    def act(seed: int) -> None:
        choose = random.Random(seed)
        for _ in range(40):
            model = choose.choice(["native", "other", "scripted"])
            kind = choose.choice(["load", "unload", "infer", "infer", "index", "ready"])
            if kind == "index":
                status = http(server, "/v2/repository/index", b"").status
            elif kind == "infer":
                status = http(server, f"/v2/models/{model}/infer", document(tensor((1, 4), [1, 2, 3, 4]))).status
            elif kind == "ready":
                status = 200 if is_ready(server, model) else 400
            else:
                status = control(server, model, kind)
            if status not in answers[kind]:
                strange.append((kind, model, status))

    actors = [threading.Thread(target=act, args=(seed,)) for seed in range(8)]
    for actor in actors:
        actor.start()
    for actor in actors:
        actor.join()
    assert not strange
    for model in ("native", "other", "scripted"):
        assert control(server, model, "load") == 200
        with Load(server, model) as load:
            load.wait(4)
        assert not load.errors, load.errors


def test_row_49_an_unload_leaves_no_request_without_an_answer(server: RunningServer, root: Path) -> None:
    directory = root / "models" / "gate"
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


def _attacks() -> list[str]:
    """200 names that lead out of a directory, or pretend to."""
    targets = ["x", "etc/passwd", "models/good/1/model.onnx", "models/good/config.pbtxt", "scratch/x"]
    ups = [
        "../",
        "../../",
        "../../../",
        "1/../../",
        "1/../",
        "a/b/../../../",
        "./../",
        "1/./../../",
        ".././../",
        "..//",
    ]
    names = [up + target for up in ups for target in targets]
    names += [name.replace("/", "\\") for name in names[:40]]
    names += ["/" + target for target in targets] + ["//" + target for target in targets]
    names += [f"/proc/self/cwd/{target}" for target in targets] + [f"1/../{up}x" for up in ups]
    names += [
        "..",
        ".",
        "",
        "/",
        "//",
        "./",
        "../",
        "1/..",
        "1/../",
        "1/../..",
        "a/..",
        "..\\..",
        "C:\\x",
        "\\\\host\\x",
    ]
    names += [f"1/{sign}x" for sign in "\0\n\r\t\x1b\x7f\x85\u2028\u202e\ud800"]
    names += [f"..{sign}/x" for sign in "\0\n\x1b"] + [f"1/x{sign}/../../y" for sign in "\0\n"]
    names += [
        "1/" + "n" * 256,
        "n" * 256 + "/x",
        "1/" + "n" * 4096,
        "1/" + "n" * 65536,
        "d/" * 12 + "x",
        "d/" * 5000 + "x",
    ]
    names += ["1/" + "\u00e9" * 128, "../" * 1000 + "x", "1/" + "../" * 1000 + "x"]
    names += [
        f"{up}{target}" for up in ("1/1/1/../../../../", "....//../", "%2e%2e/../", "..;/../") for target in targets
    ]
    names += [f"1/good/../../{number}/x" for number in range(200)]
    return list(dict.fromkeys(names))[:200]


ATTACKS = _attacks()


def tree(folder: Path) -> set[tuple[str, int]]:
    """What is in a directory, however deep; sizes tell of changes."""
    return {(str(path), path.lstat().st_size if path.is_file() else 0) for path in folder.rglob("*")}


def test_row_52_there_are_two_hundred() -> None:
    assert len(set(ATTACKS)) == len(ATTACKS) == 200


def test_row_52_files_of_a_load(server: RunningServer, root: Path) -> None:
    before = tree(root.parent)
    content = base64.b64encode(b"planted").decode()
    with contextlib.closing(Grpc(server)) as rpc:
        for name in ATTACKS:
            parameters = {"config": json.dumps(CONFIG), f"file:{name}": content, "file:1/x": content}
            path = "/v2/repository/models/planted/load"
            body = json.dumps({"parameters": parameters}).encode()
            answer = http(server, path, body)
            assert answer.status == 400, name
            if "\ud800" in name:
                continue  # no text that protobuf could carry
            request = pb.RepositoryModelLoadRequest(model_name="planted")
            request.parameters["config"].string_param = json.dumps(CONFIG)
            request.parameters[f"file:{name}"].bytes_param = b"planted"
            request.parameters["file:1/x"].bytes_param = b"planted"
            rpc.refused(request.SerializeToString(), "INVALID_ARGUMENT", name="RepositoryModelLoad")
    assert tree(root.parent) == before
    assert not [entry for entry in http(server, "/v2/repository/index", b"").document if entry["name"] == "planted"]


def test_row_52_names_of_models(server: RunningServer, root: Path) -> None:
    before = tree(root.parent)
    with contextlib.closing(Grpc(server)) as rpc:
        for name in ATTACKS:
            if "\ud800" in name:
                continue
            for action in ("Load", "Unload"):
                kind = getattr(pb, f"RepositoryModel{action}Request")
                request = kind(model_name=name).SerializeToString()
                rpc.refused(request, "INVALID_ARGUMENT", name=f"RepositoryModel{action}")
                with Raw(server.http_port, timeout_s=60) as raw:
                    quoted = urllib.parse.quote(name, safe="")[:60_000]
                    path = f"/v2/repository/models/{quoted}/{action.lower()}"
                    answer = raw.send(post(path, b"{}")).receive()
                assert answer.status in (400, 404, 414), (name, answer)
                check_text(answer.document["error"])
    assert tree(root.parent) == before


@pytest.mark.parametrize("field", ["default_model_filename", "name", "backend", "platform"])
def test_row_52_fields_of_a_configuration(server: RunningServer, root: Path, field: str) -> None:
    before = tree(root.parent)
    for name in ATTACKS[:60]:
        config = json.dumps({**CONFIG, "backend": "python", field: name})
        assert control(server, "good", "load", {"config": config}) in (400, 500), name
    assert tree(root.parent) == before
    assert http(server, "/v2/models/good/infer", document(tensor((1, 4), [1, 2, 3, 4]))).status == 200


def test_row_52_links_in_a_repository_are_the_operators(server: RunningServer, root: Path) -> None:
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "secret").write_text("secret")
    (root / "models" / "linked").mkdir()
    (root / "models" / "linked" / "1").symlink_to(root / "elsewhere")
    (root / "models" / "linked" / "config.pbtxt").write_text(identity("TYPE_FP32", "4"))
    assert control(server, "linked", "load") == 200
    # a client's files never meet them: they get a directory of their own
    content = base64.b64encode(b"planted").decode()
    parameters = {"config": json.dumps(CONFIG), "file:1/secret": content}
    assert control(server, "linked", "load", parameters) == 200
    assert (root / "elsewhere" / "secret").read_text() == "secret"
    assert control(server, "linked", "unload") == 200


@pytest.mark.parametrize(
    "content", ["aGk", "aGk==", "a", "!!!!", "aGk=\n", " aGk=", "aGk=aGk=", "äöü", 5, None, True, [], {}]
)
def test_row_52_contents_that_are_not_base64(server: RunningServer, content: object) -> None:
    assert control(server, "planted", "load", {"config": json.dumps(CONFIG), "file:1/x": content}) == 400


def test_row_52_many_files(server: RunningServer, root: Path) -> None:
    """Two thousand files in one request are a model directory like any other."""
    parameters = {"config": json.dumps(CONFIG)} | {f"file:1/{number}": "aGk=" for number in range(2000)}
    assert control(server, "many", "load", parameters) == 200
    assert sum(1 for _ in (root / "scratch").rglob("1/*")) == 2000
    assert control(server, "many", "unload") == 200


def test_row_52_a_load_over_grpc_takes_bytes(server: RunningServer) -> None:
    with contextlib.closing(Grpc(server)) as rpc:
        request = pb.RepositoryModelLoadRequest(model_name="by-grpc")
        request.parameters["config"].string_param = json.dumps(CONFIG)
        request.parameters["file:1/x"].bytes_param = bytes(range(256))
        rpc.call(request.SerializeToString(), "RepositoryModelLoad")
        infer = message("by-grpc", ("INPUT0", "FP32", (4,)), raw=[bytes(16)])
        assert rpc.infer(infer).raw_output_contents[0] == bytes(16)
        rpc.call(pb.RepositoryModelUnloadRequest(model_name="by-grpc").SerializeToString(), "RepositoryModelUnload")
        with pytest.raises(grpc.RpcError):
            rpc.infer(infer)
