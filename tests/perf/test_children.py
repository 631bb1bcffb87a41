# SPDX-License-Identifier: Apache-2.0
"""Real child processes: started, measured, loaded by the real tools, stopped with all that they started."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from perf.bodies import Body, Protocol, fp32_rows, grpc_frame, make_body
from perf.load import LoadError, measure_window, send_all
from perf.peers import PeerError, find_triton
from perf.procs import Child, StartError, cpu_seconds, memory, tree
from perf.servers import build_repository, start_echo, start_server

ROOT = Path(__file__).resolve().parents[2]
PARENT = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', {0!r}]); {1}"
BUSY = "while True: pass"


def test_cpu_and_memory_count_descendants_and_stop_ends_them_all() -> None:
    with Child([sys.executable, "-c", PARENT.format(BUSY, "import time; time.sleep(600)")]) as child:
        while len(tree(child.pid)) < 2:
            time.sleep(0.01)
        before = cpu_seconds(child.pid)
        while cpu_seconds(child.pid) - before < 0.2:  # the parent sleeps: this is the descendant's
            time.sleep(0.05)
        size, pids = memory(child.pid), tree(child.pid)
        assert size.rss_mib >= size.pss_mib > 1
    for pid in pids:
        for _ in range(500):
            if not Path(f"/proc/{pid}").exists() or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
                break
            time.sleep(0.01)
        else:
            pytest.fail(f"{pid} is still there")


def test_a_child_that_ends_early_is_quoted() -> None:
    child = Child([sys.executable, "-c", "import sys; sys.exit('no such model')"])
    with pytest.raises(StartError, match="no such model"):
        child.wait_ready("http://127.0.0.1:9/", seconds=30)
    assert not Path(f"/proc/{child.pid}").exists()


PROTOCOLS: tuple[Protocol, ...] = ("grpc", "grpc_stream", "http_binary", "http_json")


def identity_body(protocol: Protocol, model: str = "identity") -> Body:
    return make_body(protocol, model, fp32_rows(16), name="INPUT0", output="OUTPUT0")


def test_windows_of_real_servers(tmp_path: Path) -> None:
    repository = build_repository(tmp_path, ["identity"])
    with start_server("pyinfer", repository) as server, start_echo() as echo:
        for protocol in PROTOCOLS:
            for one in (server, echo) if protocol != "grpc_stream" else (server,):
                window = measure_window(one, identity_body(protocol), 2, 2, 1)
                assert window.requests > 0
                assert window.failures == 0
                assert 0 < window.p50_us <= window.p99_us
                assert window.cpu_us > 0
                # the echo has no statistics
                assert window.mean_batch >= 1 if one is server else window.mean_batch == 0
        with pytest.raises(LoadError, match="pyinfer answered no request for identity: HTTP status 400"):
            measure_window(server, [replace(identity_body("http_json"), content=b"{}")], 2, 2, 0.1)


def test_so_many_requests_and_no_more(tmp_path: Path) -> None:
    with start_server("pyinfer", build_repository(tmp_path, ["identity"])) as server:
        for turn, protocol in enumerate(("grpc", "http_binary", "http_json"), 1):
            send_all(server, identity_body(protocol), 8, 8, 3000)
            assert server.counts("identity").inferences == 3000 * turn
        with pytest.raises(LoadError, match="pyinfer answered 0 of 10 requests over http_json: HTTP status 400"):
            send_all(server, replace(identity_body("http_json"), content=b"{}"), 1, 1, 10)


def test_bodies_are_what_clients_send() -> None:
    from tritonclient.grpc import service_pb2

    tensor = fp32_rows(5, rows=2)
    assert np.array_equal(tensor, fp32_rows(5, rows=2))
    content = make_body("grpc", "m", tensor, name="INPUT0", output="OUTPUT0").content
    request = service_pb2.ModelInferRequest.FromString(content[5:])
    assert grpc_frame(content[5:]) == content
    assert request.model_name == "m"
    assert list(request.inputs[0].shape) == [2, 5]
    assert request.raw_input_contents[0] == tensor.tobytes()
    binary = make_body("http_binary", "m", tensor, name="INPUT0", output="OUTPUT0")
    assert binary.content[binary.header_length :] == tensor.tobytes()
    head, _, sent = binary.http_request("there:1").partition(b"\r\n\r\n")
    assert sent == binary.content
    assert head.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: there:1\r\n")
    assert f"Inference-Header-Content-Length: {binary.header_length}".encode() in head


def test_a_repository_of_some_models_only(tmp_path: Path) -> None:
    build_repository(tmp_path, ["identity", "python_identity"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["identity", "python_identity"]
    assert (tmp_path / "identity/1").is_dir()
    with pytest.raises(FileNotFoundError, match="no model 'nobody'"):
        build_repository(tmp_path, ["nobody"])


def test_a_missing_peer_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="python -m perf install-triton"):
        find_triton(tmp_path / "nothing")
    assert not os.listdir(tmp_path)  # noqa: PTH208 - nothing was made


def test_the_echo_answers_with_what_it_was_sent() -> None:
    with start_echo() as server, contextlib.closing(http.client.HTTPConnection(server.http)) as connection:
        for size in (0, 3, 200_000, 5, 3_000_000, 3_000_000):
            body = os.urandom(size)
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("moment", ["starting", "serving"])
def test_a_bench_that_is_ended_leaves_no_server(number: signal.Signals, moment: str) -> None:
    # Not a quick one, which may be over, with results in the tree, before a busy machine has seen that it serves.
    with subprocess.Popen(
        [sys.executable, "-m", "perf", "run", "--only", "grpc_1x1", "--peer", "none"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, start_new_session=True,
    ) as bench:  # fmt: skip
        servers: list[int] = []
        while bench.poll() is None and not servers:
            servers = [pid for pid in tree(bench.pid) if pid != bench.pid and " serve" in words_of(pid)]
            if moment == "serving":
                servers = [pid for pid in servers if is_ready(words_of(pid))]
            time.sleep(0.002)
        bench.send_signal(number)
        shown, _ = bench.communicate(timeout=100)
        assert servers, shown
        # The interpreter ends itself by SIGINT where a KeyboardInterrupt was lost in code that a library has it run.
        assert bench.returncode in (130, -signal.SIGINT), shown
        assert "perf: interrupted" in shown
        assert not [pid for pid in servers if " serve" in words_of(pid)]


def is_ready(command_line: str) -> bool:
    port = command_line.partition("--http-port=")[2].partition(" ")[0]
    if not port:
        return False  # it is gone
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)) as connection:
        try:
            connection.request("GET", "/v2/health/ready")
            return connection.getresponse().status == 200
        except OSError:
            return False


def words_of(pid: int) -> str:
    """The command line of a process, empty where it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""
