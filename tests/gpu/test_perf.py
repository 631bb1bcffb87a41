# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf --shared-memory cuda`` with the real driver."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from contract.perf.test_command import counts, perf
from pyinfer.testing import run_server


def used() -> int:
    """Bytes of the first device, in MiB."""
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])


@pytest.mark.parametrize(("protocol", "form"), [("http", []), ("grpc", []), ("grpc", ["--streaming"])])
def test_requests_in_device_memory(tmp_path: Path, protocol: str, form: list[str]) -> None:
    models, data = tmp_path / "models", tmp_path / "data.json"
    models.mkdir()
    add_model(models, "text", identity("TYPE_STRING", "3"))
    data.write_text('{"data": [{"INPUT0": ["a", "b", "c"]}, {"INPUT0": ["a", "much longer text", ""]}]}')
    with run_server(models, "--allow-client-shm=true") as server:
        before = counts(server, "text")
        flags = ["--shared-memory=cuda", "--request-count=200", "--concurrency-range=4", f"--input-data={data}", *form]
        perf(server, protocol, "text", *flags, "--output-shared-memory-size=1000")
        once = used()
        perf(server, protocol, "text", *flags, "--output-shared-memory-size=1000")
        assert used() <= once
        after = counts(server, "text")
        assert after[0] - before[0] == 400
