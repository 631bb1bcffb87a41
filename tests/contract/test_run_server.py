# SPDX-License-Identifier: Apache-2.0
"""``pyinfer.testing.run_server``: no server outlives the process that has started it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys

import pytest

OWNER = """
import sys
from pyinfer.testing import run_server
with run_server(None, "--model-control-mode=explicit", f"--model-repository={sys.argv[1]}") as server:
    print(server.pid, flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, None])
def test_a_server_ends_with_its_owner(tmp_path: object, end: signal.Signals | None) -> None:
    argv = [sys.executable, "-c", OWNER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        server = os.pidfd_open(int(owner.stdout.readline()))
        try:
            if end is None:
                owner.communicate("\n", timeout=100)
            else:
                owner.send_signal(end)
            assert select.select([server], [], [], 100)[0]  # readable once it has ended
        finally:
            os.close(server)
