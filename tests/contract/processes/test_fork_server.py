# SPDX-License-Identifier: Apache-2.0
"""Where workers come from: one process that forks them, what they have of it, and what becomes of them without it."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from contract.processes.test_workers import alive, ask, descendants, named_memory, python
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

#: tells what an instance has from the process that it comes from
MODEL = """
import json
import os
import random
import signal
import sys
import threading
from pathlib import Path

import helper
import numpy as np
import triton_python_backend_utils as pb_utils

print("a line that is printed")


class TritonPythonModel:
    def execute(self, requests):
        told = json.dumps({
            "pid": os.getpid(),
            "parent": os.getppid(),
            "group": os.getpgid(0),
            "session": os.getsid(0),
            "threads": threading.active_count(),
            "argv": sys.argv,
            "directory": os.getcwd(),
            "helper": helper.__file__,
            "random": [random.random(), float(np.random.random()), os.urandom(4).hex()],
            "sockets": [link for link in links() if link.startswith("socket:")],
            "pipes": [link for link in links() if link.startswith("pipe:")],
            "signals": [signal.getsignal(n) is signal.SIG_DFL for n in (signal.SIGCHLD, signal.SIGTERM)],
            "main": threading.current_thread() is threading.main_thread(),
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        })
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())], parameters={"told": told}
            )
            for request in requests
        ]


def links():
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:
            pass
    return found
"""
FILES = {"model.py": MODEL, "helper.py": ""}
NOTHING = np.zeros(1, np.float32)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("forked")
    add_model(repository, "one", python(), FILES)
    add_model(repository, "two", python(), FILES)
    add_model(repository, "later", python(), FILES)
    flags = ("--model-control-mode=explicit", "--load-model=one", "--load-model=two")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
        with run_server(repository, *flags, "--backend-config=python,stub-timeout-seconds=5") as running:
            yield running
            left = descendants(running.pid)
            assert running.stop() == 0, running.log
            assert not any(alive(pid) for pid in left)


def told(server: RunningServer, model: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask(server, model, NOTHING).get_response().parameters["told"].string_param)
    return found


def fork_server(server: RunningServer) -> int:
    (pid,) = {pid for pid in descendants(server.pid) if b"\0pyinfer-fork-server\0" in command_line(pid)}
    return pid


def command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def test_a_worker_has_nothing_of_others(server: RunningServer) -> None:
    one, two = told(server, "one"), told(server, "two")
    assert one["parent"] == two["parent"] == fork_server(server)
    for each, model in ((one, "one"), (two, "two")):
        assert each["pid"] == each["group"] == each["session"]
        assert each["argv"][1:] == [f"pyinfer-worker:{model}_0_0"]
        assert f"\0pyinfer-worker:{model}_0_0\0".encode() in command_line(each["pid"])
        assert len(each["sockets"]) == 1
        assert len(each["pipes"]) == 1
        assert each["signals"] == [True, True]
        assert each["main"]
        assert each["directory"] == str(Path.cwd())
        assert Path(each["helper"]).parent.parent.name == model
        assert each["devices"] == "3,1"
    assert one["pipes"] == two["pipes"]  # the doorbell of the server
    assert not set(one["random"]) & set(two["random"])
    assert not set(one["sockets"]) & set(two["sockets"])
    assert server.log.count("a line that is printed") >= 2


def test_one_that_is_killed_is_replaced_with_its_workers(server: RunningServer) -> None:
    before, workers = fork_server(server), [told(server, model)["pid"] for model in ("one", "two")]
    os.kill(before, signal.SIGKILL)
    eventually(lambda: not any(map(alive, (before, *workers))), "the workers end with it")
    after = {told(server, model)["parent"] for model in ("one", "two")}  # and no request was lost
    assert after == {fork_server(server)} != {before}


def test_one_that_stands_still_is_replaced(server: RunningServer) -> None:
    before = told(server, "one")["parent"]
    os.kill(before, signal.SIGSTOP)
    with grpc_client.InferenceServerClient(server.grpc) as client:
        client.load_model("later")
    assert not alive(before)
    after = {told(server, model)["parent"] for model in ("one", "two", "later")}
    assert after == {fork_server(server)}


def test_it_is_there_as_long_as_it_is_needed(tmp_path: Path) -> None:
    add_model(tmp_path, "one", python(), FILES)
    add_model(tmp_path, "two", python(), FILES)
    add_model(tmp_path, "broken", python(), {"model.py": "1 / 0"})
    with (
        run_server(tmp_path, "--model-control-mode=explicit") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
    ):
        assert not descendants(server.pid)
        for model in ("one", "two"):
            client.load_model(model)
        first = fork_server(server)
        client.unload_model("one")
        eventually(lambda: len(descendants(server.pid)) == 2, "the worker is gone")
        assert fork_server(server) == first
        client.unload_model("two")
        client.load_model("one")
        assert told(server, "one")["parent"] == first  # a reload does not wait for another one
        client.unload_model("one")
        with pytest.raises(InferenceServerException, match="division by zero"):
            client.load_model("broken")
        eventually(lambda: not descendants(server.pid), "nothing needs it for some seconds")
        client.load_model("one")
        assert told(server, "one")["parent"] == fork_server(server) != first


def test_threads_need_none(tmp_path: Path) -> None:
    add_model(tmp_path, "one", python(), FILES)
    with run_server(tmp_path, isolated("thread")) as server:
        assert told(server, "one")["pid"] == server.pid
        assert not descendants(server.pid)


def test_row_56_a_server_that_is_killed_under_load(tmp_path: Path) -> None:
    """Again and again: it leaves no process and no name, and clients that ask again lose nothing."""
    add_model(tmp_path, "one", python(), FILES)
    add_model(tmp_path, "two", python().replace("count: 1", "count: 2"), FILES)
    current: list[RunningServer] = []
    answered, wrong, stop = {"one": 0, "two": 0}, [], threading.Event()

    def client(model: str) -> None:
        value = np.zeros(1, np.float32)
        while not stop.is_set():
            try:
                if ask(current[-1], model, value).as_numpy("OUTPUT0").tolist() != value.tolist():
                    wrong.append(model)
            except InferenceServerException:  # asked again
                time.sleep(0.01)
                continue
            answered[model] += 1
            value += 1

    clients = [threading.Thread(target=client, args=(model,)) for model in answered]
    try:
        for life in range(int(os.environ.get("PYINFER_KILLS", "3"))):
            with run_server(tmp_path) as running:
                current.append(running)
                for each in clients[: 0 if life else None]:
                    each.start()
                before = dict(answered)
                eventually(lambda before=before: all(answered[m] > before[m] + 5 for m in before), "it is asked")
                family = descendants(running.pid)
                assert not named_memory(running.pid)  # hence nothing can be left there
                running.process.kill()
                eventually(lambda family=family: not any(map(alive, family)), "no orphans")
        with run_server(tmp_path) as running:
            current.append(running)
            before = dict(answered)
            eventually(lambda: all(answered[m] > before[m] + 5 for m in before), "what was asked is answered")
            stop.set()
            for each in clients:
                each.join()
    finally:
        stop.set()
    assert not wrong
