# SPDX-License-Identifier: Apache-2.0
"""Shared memory as clients use it: tritonclient over both protocols, hostile ones, and device memory of a driver that
records what it is asked for."""

from __future__ import annotations

import base64
import itertools
import json
import mmap
import os
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException, serialize_byte_tensor

from contract.conftest import GATE, add_model, gate_config, identity, isolated
from contract.http.raw import HOST, Raw, post
from pyinfer.testing import RunningServer, run_server
from waiting import eventually

PAGE = mmap.PAGESIZE
CLIENTS = {"http": httpclient, "grpc": grpcclient}
PYTHON = """
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        answers = []
        for request in requests:
            array = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            array *= 2  # arrays are the model's to write to
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", array)]))
        return answers
"""


def make_models(folder: Path) -> Path:
    add_model(folder, "fp32", identity("TYPE_FP32", "-1", batch=0))
    add_model(folder, "text", identity("TYPE_STRING", "-1", batch=0))
    python = identity("TYPE_FP32", "-1", batch=0).replace('"identity"', '"python"')
    add_model(folder, "double", python, {"model.py": PYTHON})
    add_model(folder, "gate", gate_config(), {"model.py": GATE})
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_models(tmp_path_factory.mktemp("shm"))


@pytest.fixture(scope="module")
def server(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--allow-client-shm=true") as running:
        yield running


@pytest.fixture(params=CLIENTS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def client(server: RunningServer, kind: str) -> Iterator[Any]:
    made = CLIENTS[kind].InferenceServerClient(getattr(server, kind))
    yield made
    made.unregister_system_shared_memory()
    made.close()


_numbers = itertools.count()


@contextmanager
def region(client: Any, name: str, size: int) -> Iterator[Any]:
    """A region of tritonclient's, registered."""
    key = f"/pyinfer_contract_{os.getpid()}_{next(_numbers)}"
    handle = shm.create_shared_memory_region(name, key, size)
    try:
        client.register_system_shared_memory(name, key, size)
        yield handle
    finally:
        client.unregister_system_shared_memory(name)
        shm.destroy_shared_memory_region(handle)


def ask(
    kind: str,
    shape: list[int],
    source: tuple[str, int, int],
    place: tuple[str, int, int] | None = None,
    datatype: str = "FP32",
) -> dict[str, Any]:
    """Inputs and outputs in (region, size, offset)."""
    library = CLIENTS[kind]
    given = library.InferInput("INPUT0", shape, datatype)
    given.set_shared_memory(*source)
    wanted = library.InferRequestedOutput("OUTPUT0")
    if place is not None:
        wanted.set_shared_memory(*place)
    return {"inputs": [given], "outputs": [wanted]}


def has_no_data(kind: str, result: Any) -> bool:
    """Whether the one output of the response is described, and nothing more."""
    if kind == "grpc":
        return list(result.get_response().raw_output_contents) == [b""]
    return set(result.get_output("OUTPUT0")) == {"name", "datatype", "shape"}


def refusal(client: Any, model: str, asked: dict[str, Any]) -> str:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, **asked)
    return str(caught.value.message())


def test_numbers_in_and_out(client: Any, kind: str) -> None:
    values = np.arange(2000, dtype=np.float32)
    with region(client, "in", 3 * PAGE) as given, region(client, "out", 3 * PAGE) as taken:
        shm.set_shared_memory_region(given, [values], offset=64)
        result = client.infer("fp32", **ask(kind, [2000], ("in", 8000, 64), ("out", 8000, 128)))
        assert has_no_data(kind, result)
        assert (shm.get_contents_as_numpy(taken, np.float32, [2000], offset=128) == values).all()
        # only one of the two in shared memory
        result = client.infer("fp32", **ask(kind, [2000], ("in", 8000, 64)))
        assert (result.as_numpy("OUTPUT0") == values).all()


def test_a_python_model_writes_to_a_copy(client: Any, kind: str) -> None:
    values = np.arange(4, dtype=np.float32)
    with region(client, "in", PAGE) as given:
        shm.set_shared_memory_region(given, [values])
        result = client.infer("double", **ask(kind, [4], ("in", 16, 0), ("in", 16, 64)))
        assert has_no_data(kind, result)
        assert (shm.get_contents_as_numpy(given, np.float32, [4]) == values).all()
        assert (shm.get_contents_as_numpy(given, np.float32, [4], offset=64) == values * 2).all()


def test_text(client: Any, kind: str) -> None:
    data = serialize_byte_tensor(np.array([b"one", b"", b"\xff\0"], dtype=object)).item()
    with region(client, "in", PAGE) as given, region(client, "out", PAGE) as taken:
        shm.set_shared_memory_region(given, [np.frombuffer(data, np.uint8)])
        size = len(data)
        client.infer("text", **ask(kind, [3], ("in", size, 0), ("out", size, 0), "BYTES"))
        assert shm.get_contents_as_numpy(taken, np.object_, [3]).tolist() == [b"one", b"", b"\xff\0"]
        for wrong in (size - 1, size + 1):
            assert "'INPUT0'" in refusal(client, "text", ask(kind, [3], ("in", wrong, 0), None, "BYTES"))


def test_regions_are_listed_and_forgotten(client: Any, kind: str) -> None:
    with region(client, "b", 2 * PAGE), region(client, "a", PAGE):
        with pytest.raises(InferenceServerException, match="shared memory region 'a' already in manager"):
            client.register_system_shared_memory("a", "/other", 1)
        listed = client.get_system_shared_memory_status()
        names = [entry["name"] for entry in listed] if kind == "http" else sorted(listed.regions)
        assert names == ["a", "b"]
        client.unregister_cuda_shared_memory("a")  # of the other kind, and so no error
        with pytest.raises(InferenceServerException, match="'a' is registered as system shared memory, not CUDA"):
            client.get_cuda_shared_memory_status("a")
        client.unregister_system_shared_memory("a")
        client.unregister_system_shared_memory("a")
        with pytest.raises(InferenceServerException, match="Unable to find system shared memory region: 'a'"):
            client.get_system_shared_memory_status("a")
        assert "Unable to find shared memory region: 'a'" in refusal(client, "fp32", ask(kind, [1], ("a", 4, 0)))


def test_every_edge_of_a_region(client: Any, kind: str) -> None:
    size = PAGE
    edges = (0, 1, size - 1, size, size + 1, 2**31, 2**32, 2**63 - 1)
    with region(client, "r", size):
        for offset, length in itertools.product(edges, edges):
            text = refusal(client, "fp32", ask(kind, [3], ("r", length, offset)))
            inside = offset < size and length <= size - offset
            assert ("Invalid offset" in text) != inside, (offset, length, text)
            if inside:
                assert "input byte size mismatch" in text, (offset, length, text)


def test_an_output_that_does_not_fit(client: Any, kind: str) -> None:
    with region(client, "r", PAGE):
        text = refusal(client, "fp32", ask(kind, [4], ("r", 16, 0), ("r", 15, 64)))
    assert text.endswith("for output 'OUTPUT0' (15 bytes) should be at least 16 bytes to hold the results")


def test_a_file_that_is_cut_off(client: Any, kind: str, server: RunningServer) -> None:
    with region(client, "whole", PAGE) as good, region(client, "cut", 4 * PAGE):
        key = next(
            entry["key"] if kind == "http" else entry.key
            for entry in (
                client.get_system_shared_memory_status("cut")
                if kind == "http"
                else client.get_system_shared_memory_status("cut").regions.values()
            )
        )
        os.truncate(Path("/dev/shm", key.lstrip("/")), PAGE)
        for place in (None, ("whole", 16, 0)):
            text = refusal(client, "fp32", ask(kind, [4], ("cut", 16, 3 * PAGE), place))
            assert "the shared memory region 'cut' is not there any more" in text
        assert server.process.poll() is None
        shm.set_shared_memory_region(good, [np.ones(4, np.float32)])
        answer = client.infer("fp32", **ask(kind, [4], ("whole", 16, 0)))
        assert answer.as_numpy("OUTPUT0").tolist() == [1, 1, 1, 1]


def test_unregistered_while_it_is_used(server: RunningServer, models: Path) -> None:
    client = grpcclient.InferenceServerClient(server.grpc)
    with region(client, "in", PAGE) as given, region(client, "out", PAGE) as taken:
        shm.set_shared_memory_region(given, [np.full(4, 3, np.float32)])
        results: list[Any] = []
        asked = ask("grpc", [1, 4], ("in", 16, 0), ("out", 16, 0))
        client.async_infer("gate", callback=lambda result, error: results.append(error or result), **asked)
        while not (models / "gate" / "began").exists():
            assert server.process.poll() is None
        client.unregister_system_shared_memory()
        (models / "gate" / "open").touch()
        while not results:
            assert server.process.poll() is None
        assert not isinstance(results[0], InferenceServerException), results[0]
        assert shm.get_contents_as_numpy(taken, np.float32, [4]).tolist() == [3, 3, 3, 3]
    client.close()


def test_registrations_that_make_no_sense(server: RunningServer) -> None:
    raw = Raw(server.http_port, timeout_s=30)
    path = "/v2/systemsharedmemory/region/x/register"

    def refused(body: object) -> tuple[int, str]:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        answer = raw.send(post(path, text)).receive()
        return answer.status, answer.document["error"]

    assert refused({"byte_size": 1}) == (400, "Shared memory register request has no 'key' field")
    assert refused({"key": "/k"}) == (400, "Shared memory register request has no 'byte_size' field")
    assert refused({"key": "/none", "byte_size": 1}) == (500, "Unable to open shared memory region: '/none'")
    assert refused(b'{"key":"\\ud800","byte_size":1}')[0] == 400
    for number in (-1, 1.5, "1", True, 2**64):
        assert refused({"key": "/k", "byte_size": number})[0] == 400
    for key in ("triton_python_backend_shm_region_1", "//triton_python_backend_shm_region_1", "///"):
        assert refused({"key": key, "byte_size": 1})[0] == 400
    assert refused({"key": "/../../etc/passwd", "byte_size": 1})[0] == 500
    for kind in ("system", "cuda"):
        nameless = raw.send(post(f"/v2/{kind}sharedmemory/register", b"{}")).receive()
        text = f"'region name' is necessary to register {kind} shared memory region"
        assert (nameless.status, nameless.document) == (400, {"error": text})
    made = shared_memory.SharedMemory(create=True, size=PAGE)
    try:
        for offset, size in ((0, PAGE + 1), (PAGE, 1), (0, 0), (2**64 - PAGE, PAGE), (2**63, 1), (1, 2**64 - 1)):
            status, text = refused({"key": made.name, "offset": offset, "byte_size": size})
            assert (status, text) == (400, "failed to register shared memory region 'x': invalid args")
    finally:
        made.close()
        made.unlink()
    raw.socket.close()


def test_names_are_any_text_and_the_body_of_an_unregistration_says_nothing(server: RunningServer) -> None:
    """What one protocol has registered can be unregistered over the other one."""
    raw, client = Raw(server.http_port), grpcclient.InferenceServerClient(server.grpc)
    made = shared_memory.SharedMemory(create=True, size=PAGE)
    try:
        for name in ("a\\b", "..", "a/b", "\u00e4 \n"):
            client.register_system_shared_memory(name, made.name, PAGE)
            one = f"/v2/systemsharedmemory/region/{quote(name, safe='')}"
            listed = raw.send(f"GET {one}/status HTTP/1.1\r\n".encode() + HOST + b"\r\n").receive().document
            assert [entry["name"] for entry in listed] == [name]
            assert raw.send(post(f"{one}/unregister", b"no JSON")).receive().status == 200
        assert not client.get_system_shared_memory_status().regions
    finally:
        made.close()
        made.unlink()
        client.close()
        raw.socket.close()


def test_nothing_is_registered_unless_it_is_allowed(models: Path) -> None:
    with run_server(models) as server:
        for name, library in CLIENTS.items():
            client = library.InferenceServerClient(getattr(server, name))
            with pytest.raises(InferenceServerException, match="Client shared memory is disabled. Start the server"):
                client.register_system_shared_memory("r", "/k", 1)
            with pytest.raises(InferenceServerException, match="Client shared memory is disabled. Start the server"):
                client.unregister_system_shared_memory("r")
            assert not (
                client.get_system_shared_memory_status()
                if name == "http"
                else client.get_system_shared_memory_status().regions
            )
            client.close()
        raw = Raw(server.http_port)
        assert raw.send(post("/v2/cudasharedmemory/unregister", b"")).receive().status == 501
        listed = raw.send(b"GET /v2 HTTP/1.1\r\n" + HOST + b"\r\n").receive().document["extensions"]
        assert "system_shared_memory" not in listed
        raw.socket.close()


def test_row_21_device_memory_without_a_device(client: Any, kind: str) -> None:
    metadata = client.get_server_metadata()
    extensions = metadata["extensions"] if kind == "http" else metadata.extensions
    assert "system_shared_memory" in extensions
    assert "cuda_shared_memory" not in extensions
    for size in (0, 63, 64, 65):
        handle = base64.b64encode(b"h" * size) if kind == "http" else b"h" * size
        if kind == "grpc":
            handle = base64.b64encode(handle)  # tritonclient decodes it
        with pytest.raises(InferenceServerException) as caught:
            client.register_cuda_shared_memory("c", handle, 99, 8)
        assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


# Its instances keep the array that they answer with. A negative number waits until the gate is open.
REUSES = """
import time
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.folder = Path(args["model_repository"])
        self.array = np.zeros((1, 8192), np.float32)  # so large that no small copy is made of it

    def execute(self, requests):
        answers = []
        for request in requests:
            number = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            self.array[:] = number
            (self.folder / f"took {int(number.item())}").touch()
            while number.item() < 0 and not (self.folder / "open").exists():
                time.sleep(0.005)
            answers.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", self.array)]))
        return answers
"""


def test_an_answer_that_waits_for_its_turn_is_what_it_was(tmp_path: Path) -> None:
    """Its output is put into shared memory late, when the model has written to its array again."""
    config = identity("TYPE_FP32", "-1", batch=1).replace('"identity"', '"python"').replace("count: 1", "count: 2")
    config = config.replace("dynamic_batching { }", "dynamic_batching { preserve_ordering: true }")
    folder = add_model(tmp_path, "reuses", config, {"model.py": REUSES})
    errors: queue.Queue[Any] = queue.Queue()
    with (
        run_server(tmp_path, "--allow-client-shm=true", isolated("thread")) as server,
        grpcclient.InferenceServerClient(server.grpc) as client,
        region(client, "r", 9 * 32768) as handle,
    ):
        numbers = [-1, *range(1, 9)]
        for place, number in enumerate(numbers):
            given = grpcclient.InferInput("INPUT0", [1, 1], "FP32")
            given.set_data_from_numpy(np.array([[number]], np.float32))
            wanted = grpcclient.InferRequestedOutput("OUTPUT0")
            wanted.set_shared_memory("r", 32768, 32768 * place)
            client.async_infer("reuses", [given], lambda result, error: errors.put(error), outputs=[wanted])
            eventually((folder / f"took {number}").exists, f"request {number} is executed")
        assert errors.empty()
        (folder / "open").touch()
        assert [errors.get(timeout=30) for _ in numbers] == [None] * len(numbers)
        assert shm.get_contents_as_numpy(handle, np.float32, [len(numbers), 8192])[:, -1].tolist() == numbers
