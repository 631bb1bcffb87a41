# SPDX-License-Identifier: Apache-2.0
"""CUDA shared memory, with a driver that keeps device memory on the host and notes what it is asked for."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, fake_driver, identity
from pyinfer.testing import RunningServer, run_server

CLIENTS = {"http": httpclient, "grpc": grpcclient}
SIZE = 8192

# Says where its input is, and answers with it in two ways: through DLPack, and as it is.
ON_DEVICE = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            copy = pb_utils.Tensor.from_dlpack("LENT", given.to_dlpack())
            facts = [*given.__dlpack_device__(), *given.shape(), given.is_cpu()]
            if not given.is_cpu():
                try:
                    given.as_numpy()
                except pb_utils.TritonModelException as error:
                    facts.append(str(error))
            facts = pb_utils.Tensor("FACTS", np.array([str(fact) for fact in facts], np.object_))
            given.to_dlpack()  # nobody uses it
            responses.append(pb_utils.InferenceResponse([copy, facts, given]))
        return responses
"""


def on_device(datatype: str, parameter: str) -> str:
    """The configuration of ON_DEVICE."""
    lines = [f'{{ name: "{name}" data_type: {datatype} dims: [ -1 ] }}' for name in ("LENT", "INPUT0")]
    return (
        f'backend: "python" max_batch_size: 0 input [ {{ name: "INPUT0" data_type: {datatype} dims: [ -1 ] }} ] '
        f'output [ {", ".join(lines)}, {{ name: "FACTS" data_type: TYPE_STRING dims: [ -1 ] }} ] {parameter}'
    )


WANTED = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_driver(tmp_path_factory.mktemp("cuda"))


@pytest.fixture(scope="module")
def server(log: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = tmp_path_factory.mktemp("models")
    add_model(models, "fp32", identity("TYPE_FP32", "-1", batch=0))
    add_model(models, "host", on_device("TYPE_FP32", ""), {"model.py": ON_DEVICE})
    for kind in ("FP32", "BF16", "BOOL", "INT64", "UINT8"):
        add_model(models, f"device_{kind}", on_device(f"TYPE_{kind}", WANTED), {"model.py": ON_DEVICE})
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_LIBRARY_PATH", str(log.parent))
        environment.setenv("FAKE_CUDA_LOG", str(log))
        trace = f"--trace-config=triton,file={log.parent / 'trace'}"
        every = ("--trace-config=rate=1", "--trace-config=level=TIMESTAMPS", "--trace-config=level=TENSORS")
        with run_server(models, "--allow-client-shm=true", trace, *every) as running:
            yield running


def handle_of(memory: shared_memory.SharedMemory) -> bytes:
    """As tritonclient has handles, in base64."""
    return base64.b64encode(f"/{memory.name.lstrip('/')}".encode().ljust(64, b"\0"))


def test_the_extension_is_listed(server: RunningServer) -> None:
    with httpclient.InferenceServerClient(server.http) as client:
        listed = client.get_server_metadata()["extensions"]
    at = listed.index("system_shared_memory")
    assert listed[at - 1 : at + 3] == [
        "model_configuration",
        "system_shared_memory",
        "cuda_shared_memory",
        "binary_tensor_data",
    ]


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


ELEMENT_SIZES = {"FP32": 4, "BF16": 2, "BOOL": 1, "INT64": 8, "UINT8": 1}


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("model", ["host", *(f"device_{datatype}" for datatype in ELEMENT_SIZES)])
def test_what_a_python_model_sees(server: RunningServer, log: Path, kind: str, model: str) -> None:
    library = CLIENTS[kind]
    client = library.InferenceServerClient(getattr(server, kind))
    memory = shared_memory.SharedMemory(create=True, size=SIZE)
    datatype = model.removeprefix("device_") if model != "host" else "FP32"
    size = 3 * ELEMENT_SIZES[datatype]
    try:
        memory.buf[64 : 64 + size] = bytes(index % 2 for index in range(size))
        client.register_cuda_shared_memory("c", handle_of(memory), 0, SIZE)
        before = log.read_text()
        given = library.InferInput("INPUT0", [3], datatype)
        given.set_shared_memory("c", size, 64)
        wanted = [library.InferRequestedOutput(name) for name in ("LENT", "INPUT0", "FACTS")]
        for place, output in enumerate(wanted[:2]):
            output.set_shared_memory("c", size, 1024 * (1 + place))
        facts = client.infer(model, [given], outputs=wanted).as_numpy("FACTS").tolist()
        calls = log.read_text().removeprefix(before).split("\n")
        client.unregister_cuda_shared_memory("c")
        for place in (1024, 2048):
            assert bytes(memory.buf[place : place + size]) == bytes(memory.buf[64 : 64 + size])
        text = b"Tensor is stored in GPU and cannot be converted to NumPy."
        if model == "host":
            assert facts == [b"1", b"0", b"3", b"True"]
            assert calls.count("to host") == 1
        else:
            assert facts == [b"2", b"0", b"3", b"False", text]
            # for each of the outputs: the input itself stays where it is
            assert calls.count("to host") == 2
    finally:
        client.close()
        memory.close()
        memory.unlink()


@pytest.mark.parametrize("kind", CLIENTS)
def test_row_21_what_is_refused(server: RunningServer, log: Path, kind: str) -> None:
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
