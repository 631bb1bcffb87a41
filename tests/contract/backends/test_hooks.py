# SPDX-License-Identifier: Apache-2.0
"""The hooks of a Python model beside ``execute``, as a thread and as a process: what they may be, and may not do."""

from __future__ import annotations

import contextlib
import select
import threading
from pathlib import Path

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.backends.test_utils_module import config
from contract.conftest import add_model, identity, isolated
from contract.http.raw import Raw
from pyinfer.testing import run_server
from waiting import eventually

EXPLICIT = "--model-control-mode=explicit"
HEAD = """
import numpy as np
import triton_python_backend_utils as pb_utils


def answers(requests):
    return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""


READY = """

class TritonPythonModel:
    def initialize(self, args):
        self.folder = args["model_repository"]

    def execute(self, requests):
        return answers(requests)

    async def is_ready(self):
        import asyncio
        from pathlib import Path
        await asyncio.sleep(0)
        return not Path(self.folder, "tired").exists()
"""


def test_is_ready_may_be_a_coroutine(tmp_path: Path, isolation: str) -> None:
    model = add_model(tmp_path, "m", config("TYPE_FP32", "TYPE_FP32"), {"model.py": HEAD + READY})
    with (
        run_server(tmp_path, EXPLICIT, "--load-model=*", isolated(isolation)) as server,
        http_client.InferenceServerClient(server.http) as http,
        grpc_client.InferenceServerClient(server.grpc) as grpc,
    ):
        assert http.is_model_ready("m") and grpc.is_model_ready("m")
        (model / "tired").touch()
        assert not http.is_model_ready("m") and not grpc.is_model_ready("m")


SLOW_READY = """
import pathlib
import time


class TritonPythonModel:
    def initialize(self, args):
        self.folder = pathlib.Path(args["model_repository"])

    def execute(self, requests):
        return answers(requests)

    def is_ready(self):
        (self.folder / "asked").touch()
        while not (self.folder / "go").exists():
            time.sleep(0.001)
        return True
"""


def test_a_model_that_is_asked_keeps_nobody_waiting(tmp_path: Path, isolation: str) -> None:
    """Also where the same request was answered at once before: the connection knows its head, not what it takes."""
    model = add_model(tmp_path, "m", config("TYPE_FP32", "TYPE_FP32"), {"model.py": HEAD + SLOW_READY})
    ready, live = (b"GET /v2/%s HTTP/1.1\r\nHost: test\r\n\r\n" % path for path in (b"models/m/ready", b"health/live"))
    with (
        run_server(tmp_path, EXPLICIT, isolated(isolation)) as server,
        http_client.InferenceServerClient(server.http) as http,
        Raw(server.http_port) as asking,
        Raw(server.http_port) as other,
    ):
        assert asking.send(ready).receive().status == 404
        http.load_model("m")
        asking.send(ready)
        eventually((model / "asked").exists, "the model is asked")
        assert other.send(live).receive().status == 200
        assert not select.select([asking.socket], [], [], 0)[0], "the other one waited for the model"
        (model / "go").touch()
        asking.receive()


#: where a model must not ask the server for anything: it must not stand still, whatever it is answered
UNTIMELY = """

def tell(what):
    try:
        told = what()
        told = "nothing" if told is None else told
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    with open("{folder}/told", "a") as file:
        file.write(f"{told}\\n")


def ask():
    call = pb_utils.InferenceRequest(
        model_name="echo", requested_output_names=["OUTPUT0"], inputs=[pb_utils.Tensor("INPUT0", np.ones(1, "f4"))]
    )
    response = call.exec()
    return response.error().message() if response.has_error() else "answered"


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(given):
        if "{where}" == "auto_complete_config":
            tell(lambda: {what})
        return given

    def initialize(self, args):
        if "{where}" == "initialize":
            tell(lambda: {what})

    def execute(self, requests):
        return answers(requests)

    def finalize(self):
        if "{where}" == "finalize":
            tell(lambda: {what})
"""


ITSELF = "TritonModelException: model 'm' would wait for ever for itself"


@pytest.mark.parametrize("where", ["auto_complete_config", "initialize", "finalize"])
@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("pb_utils.load_model('spare')", "nothing"),
        ("pb_utils.unload_model('spare')", "nothing"),
        ("pb_utils.load_model('m')", ITSELF),
        ("pb_utils.unload_model('m')", ITSELF),
        ("ask()", "answered"),
    ],
)
def test_questions_at_the_wrong_time_hold_up_nothing(
    tmp_path: Path, isolation: str, where: str, what: str, expected: str
) -> None:
    source = HEAD + UNTIMELY.replace("{folder}", str(tmp_path)).replace("{where}", where).replace("{what}", what)
    models = tmp_path / "models"
    add_model(models, "m", config("TYPE_FP32", "TYPE_FP32"), {"model.py": source})
    for name in ("echo", "spare"):
        add_model(models, name, identity("TYPE_FP32", "-1", batch=0))
    with run_server(models, EXPLICIT, "--load-model=echo", isolated(isolation)) as server:
        done = threading.Event()

        def load_and_unload() -> None:
            with grpc_client.InferenceServerClient(server.grpc) as client:
                with contextlib.suppress(InferenceServerException):
                    client.load_model("m")
                client.unload_model("m")
            done.set()

        threading.Thread(target=load_and_unload, daemon=True).start()
        eventually(done.is_set, "the model is loaded and unloaded")
        eventually((tmp_path / "told").exists, "the model was told something")
        with grpc_client.InferenceServerClient(server.grpc) as client:
            client.load_model("spare")
            assert client.is_model_ready("spare")
            assert client.is_model_ready("echo")
        told = (tmp_path / "told").read_text()
        if where == "auto_complete_config":
            expected = "TritonModelException: "
        assert told.startswith(expected), told
        assert server.stop() == 0, server.log[-4000:]


OTHER = """
from helper import OWN


class TritonPythonModel:
    def initialize(self, args):
        if args["model_name"] == "first":
            pb_utils.load_model("second")
        import later  # what was put aside for the other one is there again
        assert later.OWN == OWN == args["model_name"], (later.OWN, OWN)

    def execute(self, requests):
        return answers(requests)
"""


def test_a_model_loads_another_one_while_it_is_loaded(tmp_path: Path, isolation: str) -> None:
    """Both are Python models and bring helpers of the same names: the first gives way, and finds its own again."""
    for name in ("first", "second"):
        helper = f"OWN = {name!r}\n"
        files = {"model.py": HEAD + OTHER, "helper.py": helper, "later.py": helper}
        add_model(tmp_path, name, config("TYPE_FP32", "TYPE_FP32"), files)
    with (
        run_server(tmp_path, EXPLICIT, isolated(isolation)) as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        client.load_model("first", client_timeout=60)
        assert client.is_model_ready("first") and client.is_model_ready("second")


RING = """

class TritonPythonModel:
    def initialize(self, args):
        pb_utils.load_model("b" if args["model_name"] == "a" else "a")

    def execute(self, requests):
        return answers(requests)
"""


def test_models_that_load_each_other_are_told(tmp_path: Path, isolation: str) -> None:
    for name in "ab":
        add_model(tmp_path, name, config("TYPE_FP32", "TYPE_FP32"), {"model.py": HEAD + RING})
    with (
        run_server(tmp_path, EXPLICIT, isolated(isolation)) as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        with pytest.raises(
            InferenceServerException, match="model 'b' would wait for ever for model 'a', which is being"
        ):
            client.load_model("a", client_timeout=60)
        assert not client.is_model_ready("a") and not client.is_model_ready("b")
        assert server.stop() == 0, server.log[-4000:]
