# SPDX-License-Identifier: Apache-2.0
"""Python models in processes of their own: what a client sees of workers that answer, die, hang and are replaced."""

from __future__ import annotations

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

THREADS = 'parameters { key: "ISOLATION" value { string_value: "thread" } }'
MODEL = """
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import triton_python_backend_utils as pb_utils


def die(number):
    os.kill(os.getpid(), number)
    time.sleep(60)


def child(request):
    Path(json.loads(request.parameters())["note"]).write_text(str(subprocess.Popen(["sleep", "600"]).pid))


def modules(request):
    Path(json.loads(request.parameters())["note"]).write_text(json.dumps(list(sys.modules)))


MODES = {
    "modules": modules,
    "": lambda request: None,
    "SIGSEGV": lambda request: die(signal.SIGSEGV),
    "SIGABRT": lambda request: os.abort(),
    "SIGKILL": lambda request: die(signal.SIGKILL),
    "exit": lambda request: os._exit(0),
    "close": lambda request: os.closerange(0, 64),
    "hang": lambda request: time.sleep(600),
    "spin": lambda request: exec("while True: pass"),
    "child": child,
    "log": lambda request: pb_utils.Logger.log_warn("a line of the model"),
    "overwrite": lambda request: request.inputs()[0].as_numpy().__setitem__(slice(None), 7),
    "raise": lambda request: 1 / 0,
}


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            MODES[json.loads(request.parameters()).get("mode", "")](request)
            tensor = pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())
            responses.append(pb_utils.InferenceResponse([tensor], parameters={"pid": os.getpid()}))
        return responses
"""
READY = """
from pathlib import Path


class TritonPythonModel:
    def initialize(self, args):
        self.gate = Path(args["model_repository"], "not_ready")

    def execute(self, requests):
        return []

    def is_ready(self):
        return not self.gate.exists()
"""
LOOP = """
import os
from pathlib import Path


class TritonPythonModel:
    def initialize(self, args):
        if Path(args["model_repository"], "die").exists():
            os._exit(3)

    def execute(self, requests):
        os._exit(4)
"""


def python(datatype: str = "TYPE_FP32", *more: str) -> str:
    """The configuration of a Python model [-1] without batching."""
    config = identity(datatype, "-1", batch=0).replace('"identity"', '"python"').replace("dynamic_batching { }", "")
    return "\n".join([config, *more])


LIMIT = 'parameters { key: "EXECUTION_LIMIT_SECONDS" value { string_value: "0.5" } }'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("workers")
    add_model(repository, "fp32", python(), {"model.py": MODEL})
    add_model(repository, "text", python("TYPE_STRING"), {"model.py": MODEL})
    add_model(repository, "limited", python("TYPE_FP32", LIMIT), {"model.py": MODEL})
    add_model(repository, "other", python("TYPE_FP32", THREADS), {"model.py": MODEL})
    with run_server(repository, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running
        assert running.process.poll() is None, running.log
        group = descendants(running.pid)
        assert running.stop() == 0, running.log
        assert not any(alive(pid) for pid in group)


def descendants(pid: int) -> list[int]:
    """Below the server there is the fork server, and below that there are workers."""
    found: list[int] = []
    with suppress(OSError):  # it has ended meanwhile
        lists = [file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children")]
        found = [int(child) for text in lists for child in text.split()]
    return found + [pid for child in found for pid in descendants(child)]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def named_memory(server: int) -> list[str]:
    """What the server and its workers have mapped of shared memory that has a name."""
    maps = [Path(f"/proc/{pid}/maps").read_text() for pid in (server, *descendants(server))]
    return [line for text in maps for line in text.splitlines() if "/dev/shm/" in line]


def ask(server: RunningServer, model: str, array: np.ndarray[Any, Any], **parameters: str) -> Any:
    """The result, over gRPC."""
    with grpc_client.InferenceServerClient(server.grpc) as client:
        given = grpc_client.InferInput("INPUT0", list(array.shape), "BYTES" if array.dtype == object else "FP32")
        given.set_data_from_numpy(array)
        return client.infer(model, [given], parameters=parameters or None)


def pid_of(server: RunningServer, model: str) -> int:
    return int(ask(server, model, np.zeros(1, np.float32)).get_response().parameters["pid"].int64_param)


@pytest.mark.parametrize("count", [0, 1, 1000, 1 << 20])
def test_numbers_come_back(server: RunningServer, count: int) -> None:
    array = np.arange(count, dtype=np.float32)
    np.testing.assert_array_equal(ask(server, "fp32", array).as_numpy("OUTPUT0"), array)
    with http_client.InferenceServerClient(server.http) as client:
        given = http_client.InferInput("INPUT0", [count], "FP32")
        given.set_data_from_numpy(array)
        np.testing.assert_array_equal(client.infer("fp32", [given]).as_numpy("OUTPUT0"), array)


@pytest.mark.parametrize("count", [1, 20000])
def test_texts_come_back(server: RunningServer, count: int) -> None:
    array = np.array([b"x" * (number % 40) + b"\0\xff" for number in range(count)], dtype=object)
    np.testing.assert_array_equal(ask(server, "text", array).as_numpy("OUTPUT0"), array)


def test_inputs_may_be_written_to(server: RunningServer) -> None:
    answer = ask(server, "fp32", np.arange(5, dtype=np.float32), mode="overwrite")
    np.testing.assert_array_equal(answer.as_numpy("OUTPUT0"), np.full(5, 7, np.float32))


def test_the_model_is_not_in_the_server(server: RunningServer) -> None:
    assert pid_of(server, "fp32") in descendants(server.pid)
    assert pid_of(server, "other") == server.pid


@pytest.mark.parametrize(
    ("mode", "how"),
    [
        ("SIGSEGV", "was ended by SIGSEGV"),
        ("SIGABRT", "was ended by SIGABRT"),
        ("SIGKILL", "was ended by SIGKILL"),
        ("exit", "exited with status 0"),
    ],
)
def test_row_43_a_worker_dies(server: RunningServer, mode: str, how: str) -> None:
    before = pid_of(server, "fp32")
    with pytest.raises(InferenceServerException) as caught:
        ask(server, "fp32", np.zeros(1, np.float32), mode=mode)
    assert caught.value.status() == "StatusCode.INTERNAL"
    expected = f"the worker process of model instance 'fp32_0_0' {how} while it executed the request"
    assert caught.value.message() == expected
    after = pid_of(server, "fp32")
    assert after != before and not alive(before)
    assert pid_of(server, "other") == server.pid


def test_row_43_the_queue_is_kept(server: RunningServer) -> None:
    with grpc_client.InferenceServerClient(server.grpc) as client:
        given = grpc_client.InferInput("INPUT0", [1], "FP32")
        given.set_data_from_numpy(np.zeros(1, np.float32))
        results: list[Any] = []
        done = threading.Semaphore(0)

        def keep(result: Any, error: Any) -> None:
            results.append(error or result)
            done.release()

        for mode in ("SIGSEGV", *[""] * 20):
            client.async_infer("fp32", [given], keep, parameters={"mode": mode})
        for _ in range(21):
            assert done.acquire(timeout=60)
        assert len([result for result in results if isinstance(result, InferenceServerException)]) == 1


def test_row_39_a_model_raises(server: RunningServer) -> None:
    before = pid_of(server, "fp32")
    with pytest.raises(InferenceServerException, match="ZeroDivisionError: division by zero") as caught:
        ask(server, "fp32", np.zeros(1, np.float32), mode="raise")
    assert caught.value.message().startswith("Failed to process the request(s) for model 'fp32_0_0', message: ")
    assert pid_of(server, "fp32") == before
    # the traceback crosses as well
    eventually(lambda: "model instance 'fp32_0_0' failed to execute" in server.log, "the line is in the server's log")


@pytest.mark.parametrize("mode", ["hang", "spin"])
def test_row_42_a_worker_hangs(server: RunningServer, mode: str) -> None:
    before = pid_of_any(server, "limited")  # a busy machine may need as long for nothing
    with pytest.raises(InferenceServerException) as caught:
        ask(server, "limited", np.zeros(1, np.float32), mode=mode)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert caught.value.message() == "the model 'limited' did not execute the request within 500 ms"
    assert pid_of_any(server, "limited") != before
    eventually(lambda: not alive(before), "the worker that hangs is killed")


def test_row_45_a_model_closes_what_is_not_its_own(server: RunningServer) -> None:
    with suppress(InferenceServerException):
        ask(server, "fp32", np.zeros(1, np.float32), mode="close")
    before = pid_of(server, "fp32")  # it executes on, or was replaced
    os.kill(before, signal.SIGKILL)
    assert pid_of(server, "fp32") != before
    assert pid_of(server, "other") == server.pid


def test_children_of_a_worker_end_with_it(server: RunningServer, tmp_path: Path) -> None:
    ask(server, "fp32", np.zeros(1, np.float32), mode="child", note=str(tmp_path / "pid"))
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    os.kill(pid_of(server, "fp32"), signal.SIGKILL)
    eventually(lambda: not alive(child), "children are killed with their worker")
    pid_of(server, "fp32")


def test_an_idle_worker_that_dies_is_replaced(server: RunningServer) -> None:
    before = pid_of(server, "fp32")
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not alive(before), "the worker is gone")
    assert pid_of(server, "fp32") != before  # and no request was lost


def test_lines_of_the_log_cross(server: RunningServer) -> None:
    ask(server, "fp32", np.zeros(1, np.float32), mode="log")
    eventually(lambda: "a line of the model" in server.log, "the line is in the server's log")
    (line,) = [line for line in server.log.splitlines() if "a line of the model" in line]
    assert line.startswith("W")


def test_row_43_kill_storm(server: RunningServer) -> None:
    """Workers are killed under load: another model has no error, and nothing is left behind."""
    pid_of(server, "fp32")
    fds, workers = Path(f"/proc/{server.pid}/fd"), len(descendants(server.pid))
    descriptors = len(list(fds.iterdir()))
    stop = threading.Event()
    wrong: list[str] = []
    answered = {"fp32": 0, "other": 0}

    def load(model: str) -> None:
        given = grpc_client.InferInput("INPUT0", [16], "FP32")
        given.set_data_from_numpy(np.zeros(16, np.float32))
        with grpc_client.InferenceServerClient(server.grpc) as client:
            while not stop.is_set():
                try:
                    client.infer(model, [given])
                    answered[model] += 1
                except InferenceServerException as error:
                    if model == "other" or "was ended by SIGKILL while it executed" not in str(error.message()):
                        wrong.append(f"{model}: {error}")

    threads = [threading.Thread(target=load, args=(model,)) for model in ("fp32", "fp32", "other")]
    for thread in threads:
        thread.start()
    try:
        for _ in range(int(os.environ.get("PYINFER_KILLS", "15"))):
            os.kill(pid_of_any(server, "fp32"), signal.SIGKILL)
            before = answered["fp32"]
            eventually(lambda before=before: answered["fp32"] > before + 3, "the worker is back")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong
    assert answered["other"] > 0
    pid_of(server, "fp32")
    eventually(lambda: len(descendants(server.pid)) == workers, "as many processes as before")
    eventually(lambda: len(list(fds.iterdir())) <= descriptors, "as many descriptors as before")
    assert not named_memory(server.pid)


def pid_of_any(server: RunningServer, model: str) -> int:
    """Of the first worker that answers."""
    while True:
        try:
            return pid_of(server, model)
        except InferenceServerException:
            continue


def test_row_44_a_crash_loop(tmp_path: Path) -> None:
    model = add_model(tmp_path, "loop", python(), {"model.py": LOOP})
    add_model(tmp_path, "other", python(), {"model.py": MODEL})
    with run_server(tmp_path, "--model-control-mode=explicit", "--load-model=*") as server:
        (model / "die").touch()
        with pytest.raises(InferenceServerException, match="exited with status 4 while it executed the request"):
            ask(server, "loop", np.zeros(1, np.float32))

        def entry() -> dict[str, str]:
            request = urllib.request.Request(f"http://{server.http}/v2/repository/index", method="POST")
            with urllib.request.urlopen(request) as answer:
                return next(entry for entry in json.load(answer) if entry["name"] == "loop")

        eventually(lambda: entry()["state"] == "UNAVAILABLE", "the model is given up")
        assert entry()["reason"] == (
            "5 worker processes in a row have ended, the last one: the worker process of model instance 'loop_0_0' "
            "exited with status 3"
        )
        with pytest.raises(InferenceServerException):
            ask(server, "loop", np.zeros(1, np.float32))
        pid_of(server, "other")
        (model / "die").unlink()
        with grpc_client.InferenceServerClient(server.grpc) as client:
            client.load_model("loop")
            assert client.is_model_ready("loop")


def test_row_46_a_worker_dies_while_it_initializes(tmp_path: Path) -> None:
    model = add_model(tmp_path, "loop", python(), {"model.py": LOOP})
    (model / "die").touch()
    with (
        run_server(tmp_path, "--model-control-mode=explicit") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        with pytest.raises(InferenceServerException, match="'loop_0_0' exited with status 3"):
            client.load_model("loop")
        (model / "die").unlink()
        client.load_model("loop")
        client.unload_model("loop")
        eventually(lambda: not descendants(server.pid), "no process without a model")


def test_row_56_the_server_is_killed(tmp_path: Path) -> None:
    add_model(tmp_path, "fp32", python(), {"model.py": MODEL})
    with run_server(tmp_path) as server:
        workers = descendants(server.pid)
        assert len(workers) == 2
        assert not named_memory(server.pid)  # hence nothing can be left there
        server.process.kill()
        eventually(lambda: not any(alive(pid) for pid in workers), "no orphans")


def test_a_worker_is_lean(server: RunningServer, tmp_path: Path) -> None:
    ask(server, "fp32", np.zeros(1, np.float32), mode="modules", note=str(tmp_path / "modules"))
    modules = json.loads((tmp_path / "modules").read_text())
    ours = {name for name in modules if name.startswith("pyinfer.")}
    assert not {name for name in ours if not name.startswith(("pyinfer._core", "pyinfer.errors", "pyinfer.backends"))}
    assert not {"pyinfer.backends.find", "pyinfer.backends.python.process"} & ours
    assert not {"asyncio", "uvloop", "tarfile", "google.protobuf"} & set(modules)


def test_readiness_crosses(tmp_path: Path) -> None:
    model = add_model(tmp_path, "ready", python(), {"model.py": READY})
    with run_server(tmp_path) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        assert client.is_model_ready("ready")
        (model / "not_ready").touch()
        assert not client.is_model_ready("ready")
