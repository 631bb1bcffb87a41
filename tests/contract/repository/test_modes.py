# SPDX-License-Identifier: Apache-2.0
"""The modes of the repository, as clients of both protocols see them."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

import waiting
from contract.conftest import add_model, identity
from pyinfer.config.messages import message
from pyinfer.testing import RunningServer, run_server

#: what polling finds takes seconds by itself
eventually = partial(waiting.eventually, timeout_s=60)

REFUSED = "explicit model load / unload is not allowed if polling is enabled"

PYTHON = identity("TYPE_FP32", "-1").replace('"identity"', '"python"')
#: answers with its input times ``factor``; ``rest`` is the rest of the class
MODEL = """
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"]).parents[1]

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy() * {factor})])
            for r in requests
        ]
"""


def python_model(factor: int = 1, rest: str = "") -> dict[str, str]:
    return {"model.py": MODEL.format(factor=factor) + rest}


class Clients:
    """One client of each protocol."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.http = triton_http.InferenceServerClient(server.http, concurrency=4)
        self.grpc = triton_grpc.InferenceServerClient(server.grpc)
        self.both: tuple[Any, Any] = (self.http, self.grpc)

    def close(self) -> None:
        self.http.close()
        self.grpc.close()

    def answers(self, model: str, value: float = 3.0) -> list[float | str]:
        """The one value of the output by each protocol, or the text of the error."""
        return [
            self._answer(kind, client, model, value)
            for kind, client in zip((triton_http, triton_grpc), self.both, strict=True)
        ]

    @staticmethod
    def _answer(kind: Any, client: Any, model: str, value: float) -> float | str:
        tensor = kind.InferInput("INPUT0", [1, 1], "FP32")
        tensor.set_data_from_numpy(np.array([[value]], np.float32))
        try:
            return float(client.infer(model, [tensor]).as_numpy("OUTPUT0")[0, 0])
        except InferenceServerException as error:
            return str(error.message())

    def states(self) -> dict[str, str]:
        """Model -> state of its lowest version, as HTTP tells it."""
        index = self.http.get_model_repository_index()
        return {entry["name"]: entry.get("state", "") for entry in reversed(index)}

    def both_tell_the_same(self) -> bool:
        by_grpc = self.grpc.get_model_repository_index(as_json=True)["models"]
        return self.http.get_model_repository_index() == by_grpc

    def errors(self, call: Callable[[Any], object]) -> list[tuple[str, str]]:
        """Status and text of the error that ``call`` gets from each protocol."""
        found = []
        for client in self.both:
            with pytest.raises(InferenceServerException) as caught:
                call(client)
            found.append((str(caught.value.status()), str(caught.value.message())))
        return found


@contextmanager
def serving(repository: Path, *flags: str) -> Iterator[Clients]:
    with run_server(repository, *flags) as server, ExitStack() as stack:
        clients = Clients(server)
        stack.callback(clients.close)
        yield clients
        assert server.process.poll() is None, server.log
        assert server.stop() == 0, server.log


def test_polling(tmp_path: Path) -> None:
    add_model(tmp_path, "changed", PYTHON, python_model(1))
    add_model(tmp_path, "removed", identity("TYPE_FP32", "-1"))
    with serving(tmp_path, "--model-control-mode=poll", "--repository-poll-secs=1") as clients:
        assert clients.answers("changed") == [3.0, 3.0]
        refusals = clients.errors(lambda client: client.load_model("changed"))
        refusals += clients.errors(lambda client: client.unload_model("changed"))
        assert refusals == [("503", REFUSED), ("StatusCode.UNAVAILABLE", REFUSED)] * 2
        add_model(tmp_path, "new", identity("TYPE_FP32", "-1"))
        shutil.rmtree(tmp_path / "removed")
        (tmp_path / "changed" / "1" / "model.py").write_text(python_model(2)["model.py"])
        eventually(
            lambda: (
                clients.states() == {"changed": "READY", "new": "READY"} and clients.answers("changed") == [6.0, 6.0]
            ),
            "the changes were not found",
        )
        eventually(clients.both_tell_the_same, "they differ")  # a version may be on its way out
        assert clients.answers("new") == [3.0, 3.0]
        gone = "Request for unknown model: 'removed' has no available versions"
        assert clients.answers("removed") == [gone, gone]
        (tmp_path / "changed" / "1" / "model.py").write_text("half of a fi")
        eventually(lambda: "'changed'" in clients.server.log and "SyntaxError" in clients.server.log, "nothing is said")
        assert clients.answers("changed") == [6.0, 6.0]
        assert [client.is_server_ready() for client in clients.both] == [True, True]
        (tmp_path / "changed" / "1" / "model.py").write_text(python_model(5)["model.py"])
        eventually(lambda: clients.answers("changed") == [15.0, 15.0], "not loaded again")
        assert (
            "Traceback (most recent call last)" not in clients.server.log.partition("SyntaxError")[2].partition("\n")[2]
        )


def test_mode_none_refuses(tmp_path: Path) -> None:
    add_model(tmp_path, "m", identity("TYPE_FP32", "-1"))
    with serving(tmp_path) as clients:
        for call in (lambda client: client.load_model("m"), lambda client: client.unload_model("m")):
            assert clients.errors(call) == [("503", REFUSED), ("StatusCode.UNAVAILABLE", REFUSED)]


def test_explicit_loads(tmp_path: Path) -> None:
    add_model(tmp_path, "a", PYTHON, python_model(1))
    add_model(tmp_path, "b", identity("TYPE_FP32", "-1"))
    config = json.dumps(
        {
            "backend": "python",
            "max_batch_size": 8,
            "input": [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
            "output": [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [-1]}],
        }
    )
    with serving(tmp_path, "--model-control-mode=explicit", "--load-model=a", "--load-model=b") as clients:
        assert clients.states() == {"a": "READY", "b": "READY"}
        for client in clients.both:
            files = {"file:7/model.py": python_model(10)["model.py"].encode()}
            client.load_model("a", config=config, files=files)
            assert clients.answers("a") == [30.0, 30.0]
            assert client.get_model_metadata("a", *([] if client is clients.http else ["", None, True]))[
                "versions"
            ] == ["7"]
            client.load_model("a")
            assert clients.answers("a") == [3.0, 3.0]
            client.unload_model("b")
            assert clients.states() == {"a": "READY", "b": "UNAVAILABLE"}
            eventually(clients.both_tell_the_same, "they differ")  # a version may be on its way out
            assert not client.is_model_ready("b")
            assert client.is_server_ready()
            client.load_model("b")
            client.unload_model("b", unload_dependents=True)
            assert clients.states()["b"] == "UNAVAILABLE"
            client.load_model("b")
            client.unload_model("never heard of")
        status, text = clients.errors(lambda client: client.load_model("never heard of"))[0]
        assert (status, text) == ("500", "failed to load 'never heard of', failed to poll from model repository")


def test_an_empty_explicit_server(tmp_path: Path) -> None:
    add_model(tmp_path, "a", identity("TYPE_FP32", "-1"))
    with serving(tmp_path, "--model-control-mode=explicit") as clients:
        assert clients.states() == {"a": ""}
        assert [client.is_server_ready() for client in clients.both] == [True, True]
        assert clients.answers("a") == ["Request for unknown model: 'a' is not found"] * 2


def test_namespaces(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    add_model(one, "both", identity("TYPE_FP32", "-1"))
    add_model(two, "both", identity("TYPE_FP32", "-1"))
    add_model(two, "single", identity("TYPE_FP32", "-1"))
    with serving(one, f"--model-repository={two}", "--model-namespacing=true") as clients:
        assert clients.answers("single") == [3.0, 3.0]
        text = (
            "There are 2 identifiers of model 'both' in global map, model namespace must be provided to resolve "
            "ambiguity."
        )
        assert clients.answers("both") == [text, text]
        refused = [("400", text), ("StatusCode.INVALID_ARGUMENT", text)]
        assert clients.errors(lambda client: client.get_model_metadata("both")) == refused
        assert clients.errors(lambda client: client.get_model_config("both")) == refused
        assert [client.is_model_ready("both") for client in clients.both] == [False, False]
        assert [client.is_server_ready() for client in clients.both] == [True, True]
        page = httpx.get(f"http://{clients.server.metrics}/metrics").text
        for repository in (one, two):
            assert f'nv_inference_request_success{{model="both",namespace="{repository}",version="1"}} 0\n' in page


def test_a_model_in_two_repositories(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for repository in (one, two):
        add_model(repository, "both", identity("TYPE_FP32", "-1"))
    with serving(one, f"--model-repository={two}", "--exit-on-error=false") as clients:
        assert clients.http.get_model_repository_index() == [
            {"name": "both", "state": "UNAVAILABLE", "reason": "model appears in two or more repositories"}
        ]
        index = f"http://{clients.server.http}/v2/repository/index"
        assert httpx.post(index, json={"ready": True}, timeout=60).json() == []
        eventually(clients.both_tell_the_same, "they differ")  # a version may be on its way out
        assert clients.answers("both") == ["Request for unknown model: 'both' is not found"] * 2


def test_a_configuration_by_name(tmp_path: Path) -> None:
    directory = add_model(tmp_path, "a", identity("TYPE_FP32", "-1"))
    (directory / "configs").mkdir()
    (directory / "configs" / "small.pbtxt").write_text(identity("TYPE_FP32", "-1", batch=2))
    add_model(tmp_path, "b", identity("TYPE_FP32", "-1"))
    with serving(tmp_path, "--model-config-name=small") as clients:
        assert [clients.http.get_model_config(name)["max_batch_size"] for name in ("a", "b")] == [2, 8]


def test_a_failed_load_is_tried_again(tmp_path: Path) -> None:
    flaky = """
    def initialize(self, args):
        tries = Path(args["model_repository"]).parents[1] / "tries"
        with tries.open("a") as file:
            file.write("x")
        if len(tries.read_text()) < 3:
            raise RuntimeError("not yet")
"""
    add_model(tmp_path / "models", "m", PYTHON, python_model(rest=flaky))
    with serving(tmp_path / "models", "--model-load-retry-count=2") as clients:
        assert clients.answers("m") == [3.0, 3.0]
    assert (tmp_path / "tries").read_text() == "xxx"


HOOK = """
    def is_ready(self):
        while (self.folder / "hold").exists():
            time.sleep(0.002)
        return not (self.folder / "tired").exists()
"""


def test_a_model_tells_whether_it_is_ready(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "m", PYTHON, python_model(rest=HOOK))
    add_model(tmp_path / "models", "other", identity("TYPE_FP32", "-1"))
    with serving(tmp_path / "models") as clients, grpc.insecure_channel(clients.server.grpc) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")

        def told() -> list[bool]:
            health = message("grpc.health.v1.HealthCheckResponse").FromString(check(b"", timeout=60))
            ready = [question("m") for question in (clients.http.is_model_ready, clients.grpc.is_model_ready)]
            return [*ready, *(client.is_server_ready() for client in clients.both), health.status == 1]

        assert told() == [True] * 5
        (tmp_path / "tired").touch()
        assert told() == [False] * 5
        assert [client.is_model_ready("other") for client in clients.both] == [True, True]
        assert clients.answers("m") == [3.0, 3.0]
        (tmp_path / "tired").unlink()
        # while the model thinks, everything else goes on
        (tmp_path / "hold").touch()
        answers: list[bool] = []
        page = f"http://{clients.server.http}/v2/health/ready"
        questions: list[Callable[[], bool]] = [
            clients.grpc.is_server_ready,
            lambda: httpx.get(page, timeout=60).status_code == 200,
        ]
        asking = [threading.Thread(target=lambda ask=ask: answers.append(ask())) for ask in questions]
        for thread in asking:
            thread.start()
        assert clients.answers("m") == [3.0, 3.0]
        assert [client.is_server_live() for client in clients.both] == [True, True]
        assert not answers
        (tmp_path / "hold").unlink()
        for thread in asking:
            thread.join()
        assert answers == [True, True]


SLOW_START = """
    def initialize(self, args):
        folder = Path(args["model_repository"]).parents[1]
        (folder / ("began-" + args["model_name"])).touch()
        while (folder / "hold").exists():
            time.sleep(0.002)
"""


def test_loads_that_last_hold_up_nothing_else(tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model(models, "quick", identity("TYPE_FP32", "-1"))
    add_model(models, "large", identity("TYPE_FP32", "-1", batch=0))
    for number in range(3):
        add_model(models, f"slow{number}", PYTHON, python_model(rest=SLOW_START))
    (tmp_path / "hold").touch()
    with serving(models, "--model-control-mode=explicit", "--load-model=quick", "--load-model=large") as clients:
        with ExitStack() as stack:
            loaders = []
            for number in range(3):
                client = triton_grpc.InferenceServerClient(clients.server.grpc)
                stack.callback(client.close)
                loaders.append(threading.Thread(target=client.load_model, args=(f"slow{number}",)))
                loaders[-1].start()
            eventually(lambda: list(tmp_path.glob("began-*")), "no model began")
            assert clients.answers("quick") == [3.0, 3.0]
            assert clients.states()["quick"] == "READY"
            clients.http.unload_model("quick")
            clients.grpc.load_model("quick")
            body = {"inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [300_000], "data": [0.5] * 300_000}]}
            answer = httpx.post(f"http://{clients.server.http}/v2/models/large/infer", json=body, timeout=60)
            assert answer.status_code == 200
            (tmp_path / "hold").unlink()
            for loader in loaders:
                loader.join()
        assert set(clients.states().values()) == {"READY"}
