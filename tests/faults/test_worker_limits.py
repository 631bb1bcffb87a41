# SPDX-License-Identifier: Apache-2.0
"""Row 46: Python models that fail or hang in all that is not a batch; settings of their limits that make no sense."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from contract.processes.test_workers import alive, descendants
from faults.test_python_models import PLAIN, ask, python
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

CLIENTS = {"http": http_client, "grpc": grpc_client}
EXPLICIT = "--model-control-mode=explicit"


def setting(name: str, value: object) -> str:
    return f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}'


@contextlib.contextmanager
def client_of(server: RunningServer, protocol: str) -> Iterator[Any]:
    with CLIENTS[protocol].InferenceServerClient(getattr(server, protocol)) as client:
        yield client


HANGING = """
    {decorator}
    def {method}({arguments}):
        import time
        from pathlib import Path
        while not Path(r"{folder}", "go").exists():
            time.sleep(0.01)
        return {result}
"""


def hanging(method: str, folder: Path) -> str:
    """A model that hangs there until the file "go" is in the folder."""
    complete = method == "auto_complete_config"
    return PLAIN + HANGING.format(
        decorator="@staticmethod" if complete else "",
        method=method,
        arguments={"initialize": "self, args", "auto_complete_config": "given"}.get(method, "self"),
        folder=folder,
        result={"auto_complete_config": "given", "is_ready": "True"}.get(method, "None"),
    )


@pytest.mark.parametrize("protocol", CLIENTS)
@pytest.mark.parametrize(
    ("method", "text"),
    [
        ("initialize", "the worker process of model instance 'm_0_0' did not initialize the model within 0.5 s"),
        ("auto_complete_config", "the process that was asked did not complete the configuration within 0.5 s"),
    ],
)
def test_row_46_a_model_that_hangs_while_it_is_loaded(tmp_path: Path, protocol: str, method: str, text: str) -> None:
    models = tmp_path / "models"
    add_model(
        models, "m", python(setting("INITIALIZATION_LIMIT_SECONDS", 0.5)), {"model.py": hanging(method, tmp_path)}
    )
    add_model(models, "plain", python(), {"model.py": PLAIN})
    with run_server(models, EXPLICIT, "--load-model=plain", isolated("process")) as server:
        others = len(descendants(server.pid))
        with client_of(server, "grpc") as asking:
            faults: list[InferenceServerException] = []

            def load() -> None:
                with client_of(server, protocol) as client, pytest.raises(InferenceServerException) as caught:
                    client.load_model("m")
                faults.append(caught.value)

            loading = threading.Thread(target=load)
            loading.start()
            while loading.is_alive():
                assert ask(server, "plain") == [1, 2, 3]
            loading.join()
            assert text in str(faults[0].message())
            (reason,) = [e.reason for e in asking.get_model_repository_index().models if e.name == "m"]
            assert text in reason
            eventually(lambda: len(descendants(server.pid)) == others, "the process that hangs is gone")
            (tmp_path / "go").touch()
            asking.load_model("m")
            assert ask(server, "m") == [1, 2, 3]
        assert server.stop() == 0, server.log[-4000:]


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_row_46_a_load_without_a_limit_does_not_keep_the_server(tmp_path: Path, isolation: str) -> None:
    models = tmp_path / "models"
    add_model(models, "m", python(), {"model.py": hanging("initialize", tmp_path)})
    add_model(models, "plain", python(), {"model.py": PLAIN})
    flags = (EXPLICIT, "--load-model=plain", isolated(isolation), "--exit-timeout-secs=1")
    with run_server(models, *flags) as server, client_of(server, "grpc") as client:
        children = set(descendants(server.pid))

        def load() -> None:
            with contextlib.suppress(InferenceServerException):
                client.load_model("m")

        loading = threading.Thread(target=load)
        loading.start()
        if isolation == "process":
            eventually(lambda: set(descendants(server.pid)) - children, "its worker is there")
        children |= set(descendants(server.pid))
        assert ask(server, "plain") == [1, 2, 3]
        server.stop()
        loading.join()
        eventually(lambda: not any(map(alive, children)), "no process is left")


@pytest.mark.parametrize("protocol", CLIENTS)
def test_row_46_a_model_that_hangs_in_finalize(tmp_path: Path, protocol: str) -> None:
    models = tmp_path / "models"
    config = python(setting("FINALIZATION_LIMIT_SECONDS", 0.3))
    add_model(models, "m", config, {"model.py": hanging("finalize", tmp_path)})
    add_model(models, "plain", python(), {"model.py": PLAIN})
    with run_server(models, EXPLICIT, "--load-model=*", isolated("process")) as server:
        before = descendants(server.pid)
        assert ask(server, "m") == [1, 2, 3]
        with client_of(server, protocol) as client:
            client.unload_model("m")
            eventually(lambda: len(list(filter(alive, before))) == len(before) - 1, "its worker is killed")
            assert ask(server, "plain") == [1, 2, 3]
            client.load_model("m")
            assert ask(server, "m") == [1, 2, 3]
        assert server.stop() == 0, server.log[-4000:]


FAILING: dict[str, str] = {
    "finalize": "    def finalize(self):\n        raise OSError('no such thing')",
    "is_ready": "    def is_ready(self):\n        raise OSError('no such thing')",
}


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_row_46_a_model_that_raises_in_finalize_and_is_ready(tmp_path: Path, isolation: str) -> None:
    for name, source in FAILING.items():
        add_model(tmp_path, name, python(), {"model.py": f"{PLAIN}\n{source}\n"})
    with run_server(tmp_path, EXPLICIT, "--load-model=*", isolated(isolation)) as server:
        for protocol in CLIENTS:
            with client_of(server, protocol) as client:
                assert not client.is_model_ready("is_ready")
                assert client.is_model_ready("finalize")
                assert ask(server, "is_ready") == [1, 2, 3]
                client.unload_model("finalize")
                eventually(lambda: "model instance 'finalize_0_0' failed to finalize" in server.log, "it is logged")
                client.load_model("finalize")
                assert ask(server, "finalize") == [1, 2, 3]
        assert server.stop() == 0, server.log[-4000:]


def test_row_46_a_model_that_hangs_in_is_ready(tmp_path: Path) -> None:
    models = tmp_path / "models"
    add_model(models, "m", python(), {"model.py": hanging("is_ready", tmp_path)})
    with run_server(models, EXPLICIT, "--load-model=*", isolated("process")) as server:
        answers: list[bool] = []

        def question(protocol: str) -> None:
            with client_of(server, protocol) as client:
                answers.append(client.is_model_ready("m"))

        asking = [threading.Thread(target=question, args=(protocol,)) for protocol in CLIENTS]
        for thread in asking:
            thread.start()
        while any(thread.is_alive() for thread in asking):
            assert ask(server, "m") == [1, 2, 3]
        assert answers == [False, False]
        (tmp_path / "go").touch()

        def ready() -> bool:
            with client_of(server, "http") as client:
                return bool(client.is_model_ready("m"))

        eventually(ready, "it is ready once it says so")


WARMUP = """
model_warmup [ { name: "sample" batch_size: 1
  inputs { key: "INPUT0" value { data_type: TYPE_FP32 dims: [ 3 ] zero_data: true } } } ]
"""
#: what execute does of the first request
WARMING: dict[str, tuple[str, str]] = {
    "raises": ("raise OSError('no such thing')", "OSError: no such thing"),
    "exits": ("os._exit(7)", "exited with status 7 while it executed the request"),
    "hangs": ("time.sleep(600)", "did not execute the request within 500 ms"),
}


@pytest.mark.parametrize("how", WARMING)
def test_row_46_a_model_that_fails_in_its_warm_up(tmp_path: Path, how: str) -> None:
    code, text = WARMING[how]
    source = PLAIN.replace("import", "import os, time\nimport", 1).replace(
        "def execute(self, requests):", f"def execute(self, requests):\n        {code}"
    )
    add_model(tmp_path, "m", python(WARMUP, setting("EXECUTION_LIMIT_SECONDS", 0.5)), {"model.py": source})
    add_model(tmp_path, "plain", python(), {"model.py": PLAIN})
    with run_server(tmp_path, EXPLICIT, "--load-model=plain", isolated("process")) as server:
        others = len(descendants(server.pid))
        for protocol in CLIENTS:
            with client_of(server, protocol) as client, pytest.raises(InferenceServerException) as caught:
                client.load_model("m")
            assert text in str(caught.value.message())
        eventually(lambda: len(descendants(server.pid)) == others, "nothing is left of it")
        assert ask(server, "plain") == [1, 2, 3]
        assert server.stop() == 0, server.log[-4000:]


@pytest.mark.parametrize(
    ("more", "flag", "text"),
    [
        (setting("MEMORY_LIMIT_MIB", "much"), "", "model parameter MEMORY_LIMIT_MIB must be a whole number of MiB"),
        ("", "execution-limit-seconds=x", "option execution-limit-seconds of the python backend must be a number of"),
    ],
)
def test_settings_are_refused_alike_in_threads_and_processes(tmp_path: Path, more: str, flag: str, text: str) -> None:
    add_model(tmp_path, "m", python(more), {"model.py": PLAIN})
    told = set()
    for isolation in ("thread", "process"):
        flags = [EXPLICIT, isolated(isolation), *([f"--backend-config=python,{flag}"] if flag else [])]
        with run_server(tmp_path, *flags) as server:
            for protocol in CLIENTS:
                with client_of(server, protocol) as client, pytest.raises(InferenceServerException) as caught:
                    client.load_model("m")
                assert caught.value.status() in ("500", "StatusCode.INTERNAL")  # a configuration that is wrong
                told.add(caught.value.message())
    (message,) = told
    assert text in message


def test_an_unload_waits_for_a_batch_longer_than_for_finalize(tmp_path: Path) -> None:
    source = PLAIN.replace("import", "import time\nfrom pathlib import Path\nimport", 1).replace(
        "requests):", f"requests):\n        Path(r'{tmp_path}', 'began').touch()\n        time.sleep(1.5)", 1
    )
    add_model(tmp_path / "models", "m", python(setting("FINALIZATION_LIMIT_SECONDS", 0.2)), {"model.py": source})
    with run_server(tmp_path / "models", EXPLICIT, "--load-model=*", isolated("process")) as server:
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(ask(server, "m")))
        asking.start()
        eventually((tmp_path / "began").exists, "the request is being executed")
        with client_of(server, "grpc") as client:
            client.unload_model("m")
        asking.join()
        assert answers == [[1, 2, 3]]
