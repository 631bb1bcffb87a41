# SPDX-License-Identifier: Apache-2.0
"""CUDA shared memory with the real driver: tritonclient's own regions, PyTorch in the model, both protocols."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from gpu.conftest import DeviceRegion
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

CLIENTS = {"http": httpclient, "grpc": grpcclient}
# Where inputs and outputs are in a region. Bytes.
INPUT, OUTPUT = 64, 1 << 19

# On the device from end to end. The kernels run on a stream of the model's own and are slow to begin with: an answer
# that did not wait for them would be of zeros.
ON_DEVICE = """
import numpy as np
import torch
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        self.stream = torch.cuda.Stream()

    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            tensor = torch.from_dlpack(given.to_dlpack())
            facts = [str(tensor.device), str(given.is_cpu()), str(tensor.dtype), tensor.data_ptr() % 256]
            with torch.cuda.stream(self.stream):
                result = torch.zeros_like(tensor, device="cuda")
                torch.cuda._sleep(200_000_000)
                result += tensor.to("cuda") * 2
                output = pb_utils.Tensor.from_dlpack("OUTPUT0", result)
            facts = pb_utils.Tensor("FACTS", np.array([str(fact) for fact in facts], np.object_))
            responses.append(pb_utils.InferenceResponse([output, facts]))
        return responses
"""
WANTED = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'
PROCESS = 'parameters { key: "ISOLATION" value { string_value: "process" } }'
THREAD = 'parameters { key: "ISOLATION" value { string_value: "thread" } }'


def doubled(datatype: str, *parameters: str) -> str:
    """The configuration of ON_DEVICE."""
    return (
        f'backend: "python" max_batch_size: 0 input [ {{ name: "INPUT0" data_type: {datatype} dims: [ -1 ] }} ] '
        f'output [ {{ name: "OUTPUT0" data_type: {datatype} dims: [ -1 ] }}, '
        f'{{ name: "FACTS" data_type: TYPE_STRING dims: [ -1 ] }} ] {" ".join(parameters)}'
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    models = tmp_path_factory.mktemp("models")
    add_model(models, "fp32", identity("TYPE_FP32", "-1", batch=0))
    add_model(models, "device", doubled("TYPE_FP32", WANTED, THREAD), {"model.py": ON_DEVICE})
    add_model(models, "host", doubled("TYPE_FP32", THREAD), {"model.py": ON_DEVICE})
    add_model(models, "process", doubled("TYPE_FP32", PROCESS), {"model.py": ON_DEVICE})
    add_model(models, "bf16", doubled("TYPE_BF16", WANTED, THREAD), {"model.py": ON_DEVICE})
    with run_server(models, "--allow-client-shm=true") as running:
        yield running
        assert running.process.poll() is None, running.log


def infer(client: Any, library: Any, model: str, count: int, datatype: str, size: int) -> Any:
    """Of ``count`` elements at ``INPUT`` of the region ``c``, to ``OUTPUT`` of it."""
    given = library.InferInput("INPUT0", [count], datatype)
    given.set_shared_memory("c", count * size, INPUT)
    wanted = [library.InferRequestedOutput("OUTPUT0")]
    wanted[0].set_shared_memory("c", count * size, OUTPUT)
    if model != "fp32":
        wanted.append(library.InferRequestedOutput("FACTS"))
    return client.infer(model, [given], outputs=wanted)


@contextmanager
def registered(server: RunningServer, region: DeviceRegion, kind: str) -> Iterator[Any]:
    """A client, which knows the region as ``c``."""
    client: Any = CLIENTS[kind].InferenceServerClient(getattr(server, kind))
    try:
        region.register(client)
        yield client
    finally:
        client.unregister_cuda_shared_memory()
        client.close()


@pytest.mark.parametrize("kind", CLIENTS)
def test_the_extension_is_listed(server: RunningServer, kind: str) -> None:
    client = CLIENTS[kind].InferenceServerClient(getattr(server, kind))
    facts = client.get_server_metadata()
    assert "cuda_shared_memory" in (facts["extensions"] if kind == "http" else facts.extensions)
    client.close()


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("model", ["fp32", "device", "host", "process"])
def test_tensors_on_the_device(server: RunningServer, region: DeviceRegion, kind: str, model: str) -> None:
    numbers = np.arange(1000, dtype=np.float32)
    with registered(server, region, kind) as client:
        for turn in range(3):
            region.write(numbers + turn, INPUT)
            answer = infer(client, CLIENTS[kind], model, 1000, "FP32", 4)
            expected = (numbers + turn) * (1 if model == "fp32" else 2)
            assert np.array_equal(region.read(np.float32, 1000, OUTPUT), expected)
            if model != "fp32":
                on_device = model == "device"
                facts = [b"cuda:0" if on_device else b"cpu", str(not on_device).encode(), b"torch.float32"]
                assert answer.as_numpy("FACTS").tolist()[:3] == facts


@pytest.mark.parametrize("kind", CLIENTS)
def test_bf16(server: RunningServer, region: DeviceRegion, kind: str) -> None:
    with registered(server, region, kind) as client:
        region.write(np.array([0x3F80, 0x4000, 0x4040], np.uint16), INPUT)  # 1, 2, 3
        answer = infer(client, CLIENTS[kind], "bf16", 3, "BF16", 2)
        assert region.read(np.uint16, 3, OUTPUT).tolist() == [0x4000, 0x4080, 0x40C0]  # 2, 4, 6
        assert answer.as_numpy("FACTS").tolist()[:3] == [b"cuda:0", b"False", b"torch.bfloat16"]


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("model", ["device", "process"])
def test_answers_that_are_sent(server: RunningServer, region: DeviceRegion, kind: str, model: str) -> None:
    """What comes from the device goes to a client that wants it in the response."""
    with registered(server, region, kind) as client:
        region.write(np.arange(10, dtype=np.float32), INPUT)
        given = CLIENTS[kind].InferInput("INPUT0", [10], "FP32")
        given.set_shared_memory("c", 40, INPUT)
        assert client.infer(model, [given]).as_numpy("OUTPUT0").tolist() == [2 * n for n in range(10)]


@pytest.mark.parametrize("kind", CLIENTS)
def test_row_21_what_is_refused(server: RunningServer, region: DeviceRegion, kind: str) -> None:
    library = CLIENTS[kind]
    client = library.InferenceServerClient(getattr(server, kind))
    try:
        for handle, device, size in [
            (base64.b64encode(b"g" * 64), 0, 8),
            (base64.b64encode(b"\0" * 64), 0, 8),
            (base64.b64encode(b"g" * 63), 0, 8),
        ]:
            with pytest.raises(InferenceServerException) as caught:
                client.register_cuda_shared_memory("x", handle, device, size)
            assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")
        # the driver hands out memory in larger pieces than were asked for
        for size in (0, 1 << 40):
            with pytest.raises(InferenceServerException, match="invalid args"):
                region.register(client, "x", size)
        listed = client.get_cuda_shared_memory_status()
        assert not (listed if kind == "http" else listed.regions)
        region.register(client)
        region.register(client, "again")
        infer(client, library, "fp32", 4, "FP32", 4)
        client.unregister_cuda_shared_memory("again")
        infer(client, library, "fp32", 4, "FP32", 4)
        client.unregister_cuda_shared_memory("c")
        with pytest.raises(InferenceServerException, match="Unable to find"):
            infer(client, library, "fp32", 4, "FP32", 4)
    finally:
        client.unregister_cuda_shared_memory()
        client.close()


def test_many_at_once_while_regions_come_and_go(server: RunningServer, region: DeviceRegion) -> None:
    """A region is in use while its name is taken away: whoever has it is answered, and others find no region."""
    region.write(np.arange(1000, dtype=np.float32), INPUT)
    right: list[int] = []
    wrong: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        with grpcclient.InferenceServerClient(server.grpc) as client:
            given = grpcclient.InferInput("INPUT0", [1000], "FP32")
            given.set_shared_memory("c", 4000, INPUT)
            while not stop.is_set():
                try:
                    answer = client.infer("fp32", [given]).as_numpy("OUTPUT0")
                    if np.array_equal(answer, np.arange(1000)):
                        right.append(1)
                    else:
                        wrong.append(str(answer))
                except InferenceServerException as error:
                    if "Unable to find" not in str(error):
                        wrong.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    with grpcclient.InferenceServerClient(server.grpc) as client:
        try:
            for _ in range(100):
                region.register(client)
                before = len(right)
                eventually(lambda before=before: len(right) > before or wrong, "an answer while there is a region")
                client.unregister_cuda_shared_memory("c")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    assert wrong == []


OWNER = """
import sys
import numpy as np
import tritonclient.grpc as client
import tritonclient.utils.cuda_shared_memory as memory
server = client.InferenceServerClient(sys.argv[1])
region = memory.create_shared_memory_region("gone", 4096, 0)
memory.set_shared_memory_region(region, [np.arange(1024, dtype=np.float32)])
server.register_cuda_shared_memory("gone", memory.get_raw_handle(region), 0, 4096)
print("registered", flush=True)
sys.stdin.read()
"""


def test_a_client_that_is_killed_hurts_nobody(server: RunningServer, region: DeviceRegion) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, server.grpc], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout and owner.stdout.readline() == b"registered\n"
    os.kill(owner.pid, signal.SIGKILL)
    owner.communicate()
    with grpcclient.InferenceServerClient(server.grpc) as client:
        given = grpcclient.InferInput("INPUT0", [4], "FP32")
        given.set_shared_memory("gone", 16)
        try:  # what the driver makes of it; nothing but this request may be concerned
            client.infer("fp32", [given])
        except InferenceServerException as error:
            print("after its client was killed:", error)
        region.register(client)
        region.write(np.arange(4, dtype=np.float32), INPUT)
        infer(client, grpcclient, "fp32", 4, "FP32", 4)
        assert region.read(np.float32, 4, OUTPUT).tolist() == [0, 1, 2, 3]
        client.unregister_cuda_shared_memory()
        direct = grpcclient.InferInput("INPUT0", [2], "FP32")
        direct.set_data_from_numpy(np.ones(2, np.float32))
        assert client.infer("fp32", [direct]).as_numpy("OUTPUT0").tolist() == [1, 1]
