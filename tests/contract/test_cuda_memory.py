# SPDX-License-Identifier: Apache-2.0
"""CUDA shared memory, with a driver that keeps device memory on the host and notes what it is asked for."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from pyinfer.testing import RunningServer, run_server

CLIENTS = {"http": httpclient, "grpc": grpcclient}
SIZE = 8192


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cuda") / "calls"


@pytest.fixture(scope="module")
def server(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    source = Path(__file__).with_name("fake_cuda.c")
    library = log.parent / "libcuda.so.1"
    subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", str(library), str(source)], check=True)
    log.touch()
    models = tmp_path_factory.mktemp("models")
    add_model(models, "fp32", identity("TYPE_FP32", "-1", batch=0))
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_LIBRARY_PATH", str(library.parent))
        environment.setenv("FAKE_CUDA_LOG", str(log))
        with run_server(models, "--allow-client-shm=true") as running:
            yield running


def handle_of(memory: shared_memory.SharedMemory) -> bytes:
    """As tritonclient has handles, in base64."""
    return base64.b64encode(f"/{memory.name.lstrip('/')}".encode().ljust(64, b"\0"))


@pytest.mark.parametrize("kind", CLIENTS)
def test_device_memory(server: RunningServer, log: Path, kind: str) -> None:
    library = CLIENTS[kind]
    client = library.InferenceServerClient(getattr(server, kind))
    memory = shared_memory.SharedMemory(create=True, size=SIZE)
    try:
        numbers = np.ndarray((SIZE // 4,), np.float32, memory.buf)
        numbers[:] = np.arange(SIZE // 4)
        before = log.read_text()
        client.register_cuda_shared_memory("c", handle_of(memory), 0, SIZE)
        with pytest.raises(InferenceServerException, match="already in manager"):
            client.register_system_shared_memory("c", "/other", 1)
        given = library.InferInput("INPUT0", [4], "FP32")
        given.set_shared_memory("c", 16, 8)
        wanted = library.InferRequestedOutput("OUTPUT0")
        wanted.set_shared_memory("c", 16, 4096)
        client.infer("fp32", [given], outputs=[wanted])
        assert numbers[1024:1029].tolist() == [2, 3, 4, 5, 1028]
        client.unregister_cuda_shared_memory("c")
        calls = log.read_text().removeprefix(before).splitlines()
        assert calls == ["open", "to host", "to device", "close"]
        del numbers
    finally:
        client.close()
        memory.close()
        memory.unlink()


@pytest.mark.parametrize("kind", CLIENTS)
def test_what_is_refused(server: RunningServer, log: Path, kind: str) -> None:
    client = CLIENTS[kind].InferenceServerClient(getattr(server, kind))
    memory = shared_memory.SharedMemory(create=True, size=SIZE)
    try:
        right, before = handle_of(memory), log.read_text().splitlines()
        garbage, short, long = (base64.b64encode(b"g" * size) for size in (64, 63, 65))
        cases = [(garbage, 0, 8), (short, 0, 8), (long, 0, 8), (right, 99, 8), (right, 0, SIZE + 1), (right, 0, 0)]
        for handle, device, size in cases:
            with pytest.raises(InferenceServerException) as caught:
                client.register_cuda_shared_memory("x", handle, device, size)
            assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        # what was opened before it was found to be too small is closed
        assert log.read_text().splitlines()[len(before) :] == ["open", "close"]
        assert not (
            client.get_cuda_shared_memory_status() if kind == "http" else client.get_cuda_shared_memory_status().regions
        )
    finally:
        client.close()
        memory.close()
        memory.unlink()
