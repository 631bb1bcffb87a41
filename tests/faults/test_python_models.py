# SPDX-License-Identifier: Apache-2.0
"""Rows 45, 46, 59 and 60: Python models that harm their process, start badly, or lack what a process needs."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity, isolated
from faults.test_shared_memory import in_small_memory
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

HARMFUL = """
import json
import locale
import os
import signal
import sys
import threading

import triton_python_backend_utils as pb_utils

kept = []


def ignore_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def wait_in_threads():
    for _ in range(50):
        kept.append(threading.Thread(target=threading.Event().wait, daemon=True))
        kept[-1].start()


def fork():
    for _ in range(3):
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", "600"])


HARM = {
    "directory": lambda: os.chdir("/"),
    "umask": lambda: os.umask(0o777),
    "signals": ignore_signals,
    "locale": lambda: locale.setlocale(locale.LC_ALL, "C"),
    "descriptors": lambda: kept.extend(open("/dev/null") for _ in range(500)),
    "threads": wait_in_threads,
    "fork": fork,
    "print": lambda: [print("x" * 1_000_000) for _ in range(20)],
    "memory": lambda: kept.append(bytearray(64 << 20)),
    "environment": os.environ.clear,
    "modules": sys.modules.clear,
    "nice": lambda: os.nice(5),
}


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            HARM[json.loads(request.parameters())["harm"]]()
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", request.inputs()[0].as_numpy())]))
        return responses
"""
PLAIN = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())]) for r in requests]
"""
ISOLATED = ' parameters { key: "ISOLATION" value { string_value: "process" } }'
HARMS = ("directory", "umask", "signals", "locale", "descriptors", "threads", "fork", "print", "memory", "environment")
HARMS += ("modules", "nice")


def python(*more: str, batch: int = 0) -> str:
    return " ".join([identity("TYPE_FP32", "-1", batch=batch).replace('"identity"', '"python"'), *more]).replace(
        "dynamic_batching { }", "dynamic_batching { }" if batch else ""
    )


def ask(server: RunningServer, model: str, **parameters: str) -> list[Any]:
    with grpc_client.InferenceServerClient(server.grpc) as client:
        given = grpc_client.InferInput("INPUT0", [3], "FP32")
        given.set_data_from_numpy(np.array([1, 2, 3], np.float32))
        found = client.infer(model, [given], parameters=parameters or None).as_numpy("OUTPUT0")
        return list(found.tolist())


def state_of(pid: int) -> dict[str, object]:
    """What a model could have changed of the server's process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    fields = ("Umask", "SigIgn", "SigBlk", "SigCgt", "Uid")
    directory = Path(f"/proc/{pid}/cwd").resolve()
    return {"directory": directory, **{field: status[field] for field in fields}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("harm")
    add_model(repository, "harmful", python(ISOLATED), {"model.py": HARMFUL})
    add_model(repository, "plain", python(ISOLATED), {"model.py": PLAIN})
    with run_server(repository) as running:
        yield running
        assert running.stop() == 0, running.log[-4000:]


@pytest.mark.parametrize("harm", HARMS)
def test_row_45_harm_stays_in_the_worker(server: RunningServer, harm: str) -> None:
    before = state_of(server.pid)
    assert ask(server, "harmful", harm=harm) == [1, 2, 3]
    assert ask(server, "plain") == [1, 2, 3]
    assert state_of(server.pid) == before
    assert server.is_ready()


BROKEN = {
    "initialize": "    def initialize(self, args):\n        raise OSError('no such thing')",
    "auto_complete": (
        "    @staticmethod\n    def auto_complete_config(auto_complete_model_config):\n"
        "        raise OSError('no such thing')"
    ),
    "exit": "    def initialize(self, args):\n        raise SystemExit(3)",
}


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("where", BROKEN)
def test_row_46_a_model_that_fails_to_start(tmp_path: Path, isolation: str, where: str) -> None:
    add_model(tmp_path, "broken", python(), {"model.py": f"{PLAIN}\n{BROKEN[where]}\n"})
    add_model(tmp_path, "plain", python(), {"model.py": PLAIN})
    flags = ("--model-control-mode=explicit", "--load-model=plain", isolated(isolation))
    with run_server(tmp_path, *flags) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("broken")
        text = str(caught.value.message())
        assert ("SystemExit: 3" if where == "exit" else "OSError: no such thing") in text
        assert str(tmp_path) not in text
        assert ask(server, "plain") == [1, 2, 3]
        assert not client.is_model_ready("broken")
        (tmp_path / "broken" / "1" / "model.py").write_text(PLAIN)
        client.load_model("broken")
        assert ask(server, "broken") == [1, 2, 3]


def test_row_59_workers_need_no_room_in_dev_shm(tmp_path: Path) -> None:
    add_model(tmp_path, "plain", python(ISOLATED, batch=0), {"model.py": PLAIN})

    def work() -> None:
        with run_server(tmp_path) as server, grpc_client.InferenceServerClient(server.grpc) as client:
            array = np.arange(1 << 20, dtype=np.float32)
            given = grpc_client.InferInput("INPUT0", [1 << 20], "FP32")
            given.set_data_from_numpy(array)
            np.testing.assert_array_equal(client.infer("plain", [given]).as_numpy("OUTPUT0"), array)

    in_small_memory(work)


def test_row_60_no_more_threads(tmp_path: Path) -> None:
    """A stack can not be had for each of many instances: the load fails, and nothing of it is left."""
    add_model(tmp_path, "plain", python(), {"model.py": PLAIN})
    add_model(tmp_path, "many", python().replace("count: 1", "count: 200"), {"model.py": PLAIN})
    flags = ("--model-control-mode=explicit", "--load-model=plain", isolated("thread"))
    with run_server(tmp_path, *flags) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        threads = Path(f"/proc/{server.pid}/task")
        before = len(list(threads.iterdir()))
        size = int(Path(f"/proc/{server.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        limits = resource.prlimit(server.pid, resource.RLIMIT_AS, (size + (256 << 20), resource.RLIM_INFINITY))
        with pytest.raises(InferenceServerException, match="can't start new thread"):
            client.load_model("many")
        assert ask(server, "plain") == [1, 2, 3]
        eventually(lambda: len(list(threads.iterdir())) <= before + 4, "threads of the model are left")
        resource.prlimit(server.pid, resource.RLIMIT_AS, limits)
        client.load_model("many")
        assert ask(server, "many") == [1, 2, 3]
        assert server.stop() == 0, server.log[-4000:]
