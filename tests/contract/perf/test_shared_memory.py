# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf --shared-memory system``: tensors that no request carries, and nothing that is left behind."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import tritonclient.grpc as triton

from contract.conftest import add_model, fake_driver, identity
from contract.perf.test_command import PROTOCOLS, command, counts, perf
from pyinfer.testing import RunningServer, run_server

SHARED = "--shared-memory=system"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """``fixed`` (FP32 [16]), ``text`` (BYTES [3])."""
    repository = tmp_path_factory.mktemp("shared")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    add_model(repository, "text", identity("TYPE_STRING", "3"))
    with run_server(repository, "--allow-client-shm=true") as server:
        yield server
        assert server.process.poll() is None, server.log


def left() -> list[str]:
    return [path.name for path in Path("/dev/shm").glob("pyinfer_perf_*")]


def registered(server: RunningServer) -> list[str]:
    with triton.InferenceServerClient(server.grpc) as client:
        return list(client.get_system_shared_memory_status(as_json=True).get("regions", {}))


@pytest.mark.parametrize(("protocol", "form"), [("http", []), ("grpc", []), ("grpc", ["--streaming"])])
@pytest.mark.parametrize("model", ["fixed", "text"])
def test_requests_in_shared_memory(served: RunningServer, protocol: str, form: list[str], model: str) -> None:
    before = counts(served, model)
    flags = [SHARED, "--request-count=100", "--concurrency-range=4", "-b2", *form]
    perf(served, protocol, model, *flags, "--output-shared-memory-size=1000")
    after = counts(served, model)
    assert (after[0] - before[0], after[1] - before[1]) == (100, 200)
    assert left() == registered(served) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_different_requests_have_memory_of_their_own(served: RunningServer, tmp_path: Path, protocol: str) -> None:
    """The server reads what was written: it refuses what is no text."""
    data = tmp_path / "data.json"
    data.write_text('{"data": [{"INPUT0": ["a", "b", "c"]}, {"INPUT0": ["a", "much longer text", ""]}]}')
    perf(served, protocol, "text", SHARED, "--request-count=50", f"--input-data={data}")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_outputs_that_do_not_fit_are_errors(served: RunningServer, protocol: str) -> None:
    flags = [SHARED, "--request-count=20", "--output-shared-memory-size=10"]
    shown = perf(served, protocol, "text", *flags, status=1)
    assert "20 requests failed" in shown or "no request succeeded" in shown
    assert "(10 bytes) should be at least 396 bytes to hold the results" in shown
    assert left() == registered(served) == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("end", ["the server dies", "SIGINT", "SIGTERM", "SIGKILL"])
def test_nothing_is_left_behind(served: RunningServer, tmp_path: Path, protocol: str, end: str) -> None:
    with ExitStack() as stack:
        server = served
        if end in ("the server dies", "SIGKILL"):  # a client that is killed leaves its regions to the server
            add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
            server = stack.enter_context(run_server(tmp_path, "--allow-client-shm=true"))
        address = server.grpc if protocol == "grpc" else server.http
        argv = command("-m", "fixed", "-i", protocol, "-u", address, SHARED, "-p100", "-s0", "-r1000")
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stderr
        next(line for line in process.stderr if "window 2" in line)
        assert left() == []
        if end == "the server dies":
            server.process.kill()
        else:
            process.send_signal(signal.Signals[end])
        _, err = process.communicate(timeout=60)
        assert "Traceback" not in err
        assert left() == []
        if end in ("SIGINT", "SIGTERM"):
            assert registered(server) == []


def test_a_server_that_does_not_take_them(tmp_path: Path) -> None:
    add_model(tmp_path, "fixed", identity("TYPE_FP32", "16"))
    with run_server(tmp_path) as server:
        for protocol in PROTOCOLS:
            assert "--allow-client-shm=true" in perf(server, protocol, "fixed", SHARED, status=1)
            assert left() == []


def test_what_shared_memory_is_not_for(served: RunningServer, tmp_path: Path) -> None:
    data = tmp_path / "data.json"
    data.write_text('{"data": [{"INPUT0": ["a", "b", "c"]}], "validation_data": [{"OUTPUT0": ["a", "b", "c"]}]}')
    assert "use -i grpc" in perf(served, "http", "text", SHARED, "--streaming", status=1)
    assert "can not be compared" in perf(served, "grpc", "text", SHARED, f"--input-data={data}", status=1)
    shown = perf(served, "grpc", "text", "--shared-memory=cuda", status=1)
    assert "needs an NVIDIA GPU and its driver (libcuda.so.1) on this machine" in shown


@pytest.mark.parametrize(("protocol", "form"), [("http", []), ("grpc", []), ("grpc", ["--streaming"])])
def test_device_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str, form: list[str]) -> None:
    """With a driver that keeps it on the host: the server reads what the load has written, and nothing stays."""
    log = fake_driver(tmp_path)
    models, data = tmp_path / "models", tmp_path / "data.json"
    models.mkdir()
    add_model(models, "text", identity("TYPE_STRING", "3"))
    data.write_text('{"data": [{"INPUT0": ["a", "b", "c"]}, {"INPUT0": ["a", "much longer text", ""]}]}')
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    monkeypatch.setenv("FAKE_CUDA_LOG", str(log))
    with run_server(models, "--allow-client-shm=true") as server:
        flags = ["--shared-memory=cuda", "--request-count=40", "--concurrency-range=4", f"--input-data={data}", *form]
        perf(server, protocol, "text", *flags)
        assert counts(server, "text")[0] == 40
        with triton.InferenceServerClient(server.grpc) as client:
            assert not client.get_cuda_shared_memory_status(as_json=True).get("regions")
    calls = log.read_text().splitlines()
    assert [calls.count(call) for call in ("allocate", "free", "open", "close")] == [2, 2, 2, 2]
    # two inputs by the load, and the output of each request by the server
    assert (calls.count("to host"), calls.count("to device")) == (40, 42)
    assert calls.index("free") > calls.index("close")
    assert not list(Path("/dev/shm").glob("fake_cuda_*"))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests(served: RunningServer, coding: str) -> None:
    before = counts(served, "fixed")
    perf(served, "grpc", "fixed", f"--grpc-compression-algorithm={coding}", "--request-count=50", "-b4")
    after = counts(served, "fixed")
    assert (after[0] - before[0], after[1] - before[1]) == (50, 200)
