# SPDX-License-Identifier: Apache-2.0
"""Row 45: workers of Python models that leak are replaced while they go on."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from contract.processes.test_workers import alive, descendants
from faults.test_python_models import PLAIN, python
from faults.test_worker_limits import CLIENTS, EXPLICIT, client_of, setting
from pyinfer.testing import run_server
from waiting import eventually

#: keeps 4 MiB of each request, and says which process answers it
LEAKING = """
import os
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

kept = []


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"])
        with (folder / "begun").open("a") as file:
            file.write(f"{os.getpid()}\\n")
        if (folder / "broken").exists():
            raise OSError("not now")

    def execute(self, requests):
        kept.append(np.ones(4 << 20, np.uint8))
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy())], parameters={"pid": os.getpid()}
            )
            for r in requests
        ]
"""
#: decoupled, and as above; answers 7 when the file "go" is there, from a thread
LATE = """
import os
import threading
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

kept = []


class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])

    def execute(self, requests):
        kept.append(np.ones(4 << 20, np.uint8))
        for request in requests:
            first = int(request.inputs()[0].as_numpy()[0])
            sender = request.get_response_sender()
            if first == 7:
                threading.Thread(target=self.answer_late, args=(sender,)).start()
            else:
                self.answer(sender, os.getpid(), final=True)

    def answer(self, sender, value, final):
        response = pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", np.array([value], np.float32))])
        sender.send(response, pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if final else 0)

    def answer_late(self, sender):
        self.answer(sender, os.getpid(), final=False)
        while not (self.folder / "go").exists():
            time.sleep(0.005)
        self.answer(sender, os.getpid(), final=True)
"""
#: a worker that has leaked nothing is far below, and reaches it after some ten requests; a sanitizer has memory as well
MEMORY_LIMIT = setting("MEMORY_LIMIT_MIB", 256 if "PYINFER_SANITIZER" in os.environ else 112)


def infer(client: Any, protocol: str, model: str, value: float) -> tuple[float, int]:
    """What came back, and the process that sent it."""
    given = CLIENTS[protocol].InferInput("INPUT0", [1], "FP32")
    given.set_data_from_numpy(np.array([value], np.float32))
    result = client.infer(model, [given])
    response = result.get_response()
    pid = response["parameters"]["pid"] if protocol == "http" else response.parameters["pid"].int64_param
    return float(result.as_numpy("OUTPUT0")[0]), int(pid)


def test_row_45_a_worker_that_leaks_is_replaced_without_loss(tmp_path: Path) -> None:
    """Under load over both protocols: no request fails, none is answered wrongly, and old workers do not stay."""
    add_model(tmp_path, "leaking", python(MEMORY_LIMIT), {"model.py": LEAKING})
    with run_server(tmp_path, isolated("process")) as server:
        stop = threading.Event()
        wrong: list[str] = []
        seen: dict[str, set[int]] = {"http": set(), "grpc": set()}

        def load(protocol: str, number: int) -> None:
            with client_of(server, protocol) as client:
                value = 1000.0 * number
                while not stop.is_set():
                    value += 1
                    try:
                        found, pid = infer(client, protocol, "leaking", value)
                    except Exception as error:
                        wrong.append(f"{protocol}: {error}")
                        return
                    seen[protocol].add(pid)
                    if found != value:
                        wrong.append(f"{protocol}: {found} for {value}")

        def watch() -> None:
            with client_of(server, "grpc") as client:
                while not stop.is_set():
                    if not client.is_model_ready("leaking"):
                        wrong.append("the model is not ready")
                    time.sleep(0.01)

        threads = [threading.Thread(target=load, args=(["http", "grpc"][n % 2], n)) for n in range(4)]
        threads.append(threading.Thread(target=watch))
        for thread in threads:
            thread.start()
        try:
            eventually(lambda: wrong or all(len(pids) >= 4 for pids in seen.values()), "workers are replaced")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not wrong
        eventually(lambda: len([pid for pid in set().union(*seen.values()) if alive(pid)]) <= 1, "old ones are gone")
        assert "MiB, its limit is" in server.log and "another one takes its place" in server.log
        assert " was ended by " not in server.log and "did not end in time" not in server.log
        assert server.stop() == 0, server.log[-4000:]


def test_row_45_a_worker_that_is_replaced_answers_what_it_has_begun(tmp_path: Path) -> None:
    config = python(MEMORY_LIMIT) + " model_transaction_policy { decoupled: true }"
    model = add_model(tmp_path, "late", config, {"model.py": LATE})
    with run_server(tmp_path, isolated("process")) as server, client_of(server, "grpc") as client:
        answers: list[Any] = []
        came = threading.Semaphore(0)

        def keep(result: Any, error: Any) -> None:
            answers.append(error or int(result.as_numpy("OUTPUT0")[0]))
            came.release()

        def send(value: float) -> None:
            given = grpc_client.InferInput("INPUT0", [1], "FP32")
            given.set_data_from_numpy(np.array([value], np.float32))
            client.async_stream_infer("late", [given])

        client.start_stream(keep)
        send(7)
        assert came.acquire(timeout=60)
        first = answers[0]
        others: set[int] = set()

        def another_answers() -> bool:
            send(1)
            assert came.acquire(timeout=60)
            others.add(answers[-1])
            return bool(others - {first})

        eventually(another_answers, "another worker takes the requests")
        assert alive(first)
        (model / "go").touch()
        assert came.acquire(timeout=60)
        assert answers[-1] == first
        client.stop_stream()
        eventually(lambda: not alive(first), "the one that was replaced ends")
        assert not [answer for answer in answers if isinstance(answer, Exception)]
        assert server.stop() == 0, server.log[-4000:]


def test_row_45_a_replacement_that_fails_leaves_the_worker_where_it_is(tmp_path: Path) -> None:
    model = add_model(tmp_path, "leaking", python(MEMORY_LIMIT), {"model.py": LEAKING})
    with run_server(tmp_path, isolated("process")) as server, client_of(server, "http") as client:
        (model / "broken").touch()
        first = infer(client, "http", "leaking", 1)[1]

        def tries() -> bool:
            assert infer(client, "http", "leaking", 2) == (2, first)
            return "OSError: not now; the one whose place it was to take goes on" in server.log

        eventually(tries, "a replacement is tried")
        (model / "broken").unlink()
        eventually(lambda: infer(client, "http", "leaking", 3)[1] != first, "the next replacement takes over")
        assert server.stop() == 0, server.log[-4000:]


def test_row_45_a_limit_below_what_the_model_needs(tmp_path: Path) -> None:
    add_model(tmp_path, "plain", python(), {"model.py": PLAIN})
    flags = (EXPLICIT, isolated("process"), "--backend-config=python,memory-limit-mib=1")
    with run_server(tmp_path, *flags) as server, client_of(server, "http") as client:
        with pytest.raises(InferenceServerException) as caught:
            client.load_model("plain")
        text = str(caught.value.message())
        assert "MiB once the model is initialized, more than its memory limit of 1 MiB" in text
        eventually(lambda: not descendants(server.pid), "nothing is left of it")
