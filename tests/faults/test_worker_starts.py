# SPDX-License-Identifier: Apache-2.0
"""Row 60: processes for the instances of a Python model can not be started."""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, isolated
from contract.processes.test_workers import descendants
from faults.test_python_models import PLAIN, ask, python
from faults.threads import all_succeed, on_prepared_thread
from pyinfer.testing import run_server
from waiting import eventually

#: nobody's number: limits of processes do not hold for root
USER = 54321
SETRESUID = {"x86_64": 117, "aarch64": 147}
PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 8, 47, 2
CAPABILITY_VERSION = 0x20080522
#: so that the interpreter and the tests can still be read, wherever they are
CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 1, 2


def become_another_user() -> None:
    """This thread alone, and its children: no root, but for what it may read and write."""
    libc = ctypes.CDLL(None, use_errno=True)
    kept = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0)
    # effective, permitted and inheritable ones, in two halves
    sets = (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)
    steps = (
        lambda: libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0),
        lambda: libc.syscall(SETRESUID[os.uname().machine], USER, USER, USER),
        lambda: libc.capset(header, sets),
        lambda: libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0),
        lambda: libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0),
    )
    all_succeed(steps)


def as_another_user(work: Callable[[], None]) -> None:
    """Run ``work`` on a thread that is no root, as its children are. Skips where that is not possible."""
    on_prepared_thread(
        lambda: become_another_user() if os.getuid() == 0 else None, work, "no other user can be had here"
    )


def fork_server_of(pid: int) -> int:
    """The one process below the server that has started others."""
    (found,) = [child for child in descendants(pid) if descendants(child)]
    return found


def check(repository: Path) -> None:
    add_model(repository, "plain", python(), {"model.py": PLAIN})
    add_model(repository, "many", python().replace("count: 1", "count: 4"), {"model.py": PLAIN})
    flags = ("--model-control-mode=explicit", "--load-model=plain", isolated("process"))
    with (
        run_server(repository, *flags) as server,
        http_client.InferenceServerClient(server.http) as http,
        grpc_client.InferenceServerClient(server.grpc) as grpc,
    ):
        processes = len(descendants(server.pid))
        forks = fork_server_of(server.pid)
        before = resource.prlimit(forks, resource.RLIMIT_NPROC)
        resource.prlimit(forks, resource.RLIMIT_NPROC, (1, before[1]))
        for client in (http, grpc):
            with pytest.raises(InferenceServerException) as caught:
                client.load_model("many")
            text = str(caught.value.message())
            assert "the worker process of 'many_0_" in text
            assert "can not be started: Resource temporarily unavailable" in text
        assert ask(server, "plain") == [1, 2, 3]
        assert len(descendants(server.pid)) == processes
        resource.prlimit(forks, resource.RLIMIT_NPROC, before)
        grpc.load_model("many")
        assert ask(server, "many") == [1, 2, 3]
        eventually(lambda: len(descendants(server.pid)) == processes + 4, "all instances are there")
        assert server.stop() == 0, server.log[-4000:]


def test_row_60_no_more_processes() -> None:
    def work() -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(Path(folder))

    as_another_user(work)
