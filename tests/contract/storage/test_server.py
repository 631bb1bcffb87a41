# SPDX-License-Identifier: Apache-2.0
"""A whole server whose repository is on an object store, in each mode of model control."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as client

import waiting
from contract.conftest import identity
from contract.storage.servers import AzureBucket, Bucket
from pyinfer.testing import FaultProxy, RunningServer, run_server

#: what polling finds takes seconds by itself
eventually = partial(waiting.eventually, timeout_s=60)

MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils
from pathlib import Path


class TritonPythonModel:
    def initialize(self, args):
        folder = Path(args["model_repository"])
        self.addend = float((folder / args["model_version"] / "addend").read_text())

    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", r.inputs()[0].as_numpy() + np.float32(self.addend))])
            for r in requests
        ]
"""
CONFIG = identity("TYPE_FP32", "1").replace('"identity"', '"python"').encode()


def add(bucket: Bucket, prefix: str, name: str, addend: float, version: int = 1) -> None:
    bucket.put(f"{prefix}/{name}/config.pbtxt", CONFIG)
    bucket.put(f"{prefix}/{name}/{version}/model.py", MODEL.encode())
    bucket.put(f"{prefix}/{name}/{version}/addend", str(addend).encode())


def answer(server: RunningServer, name: str) -> float:
    given = client.InferInput("INPUT0", [1, 1], "FP32")
    given.set_data_from_numpy(np.zeros((1, 1), np.float32))
    with client.InferenceServerClient(server.http) as http:
        return float(http.infer(name, [given]).as_numpy("OUTPUT0")[0, 0])


def index(server: RunningServer) -> dict[str, tuple[str, str]]:
    with client.InferenceServerClient(server.http) as http:
        return {row["name"]: (row.get("state", ""), row.get("reason", "")) for row in http.get_model_repository_index()}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Starts a server on a bucket's repository; the cache outlives it."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))

    def start(bucket: Bucket, prefix: str, *flags: str, port: int | None = None):
        for name, value in bucket.environment(port).items():
            monkeypatch.setenv(name, value)
        return run_server(bucket.url(prefix, port), f"--repository-cache-directory={tmp_path}/cache", *flags)

    return start


def fetched(server: RunningServer) -> list[tuple[str, int, int]]:
    """(model, objects, objects that were in the cache) of each fetch, from the log."""
    found = re.findall(r"fetched model '(\w+)' from '[^']*': (\d+) objects, \d+ bytes; (\d+) objects", server.log)
    return [(model, int(objects), int(hits)) for model, objects, hits in found]


def test_every_model_is_loaded_and_a_restart_reads_nothing_again(bucket: Bucket, prefix: str, serve, tmp_path) -> None:
    add(bucket, prefix, "a", 1)
    add(bucket, prefix, "b", 2)
    with serve(bucket, prefix) as server:
        assert (answer(server, "a"), answer(server, "b")) == (1, 2)
        assert {model: objects for model, objects, _ in fetched(server)} == {"a": 3, "b": 3}
        copies = list(tmp_path.glob("pyinfer-models-*/*/a/1/addend"))
        assert len(copies) == 1
    # nothing is left of the copies, and the cache is
    assert list(tmp_path.glob("pyinfer-models-*")) == []
    add(bucket, prefix, "b", 3)
    with serve(bucket, prefix) as server:
        assert (answer(server, "a"), answer(server, "b")) == (1, 3)
        hits = {model: hits for model, _, hits in fetched(server)}
        assert hits["a"] == 3


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_explicit_loads_and_reloads(bucket: Bucket, prefix: str, serve, tmp_path) -> None:
    add(bucket, prefix, "a", 1)
    add(bucket, prefix, "b", 2)
    with serve(bucket, prefix, "--model-control-mode=explicit", "--load-model=a") as server:
        assert [model for model, _, _ in fetched(server)] == ["a"]
        assert index(server) == {"a": ("READY", ""), "b": ("", "")}
        with client.InferenceServerClient(server.http) as http:
            http.load_model("b")
            assert answer(server, "b") == 2
            http.load_model("b")  # unchanged: nothing is fetched
            assert [model for model, _, _ in fetched(server)] == ["a", "b"]
            add(bucket, prefix, "b", 5)
            http.load_model("b")
            assert answer(server, "b") == 5
            bucket.delete(f"{prefix}/b/1/model.py")
            with pytest.raises(client.InferenceServerException):
                http.load_model("b")
            assert answer(server, "b") == 5  # the old version serves on, with its own files
            # nothing is left of what failed, nor of what was served before, once that is at its end
            eventually(
                lambda: [(copy / "1/model.py").exists() for copy in tmp_path.glob("pyinfer-models-*/*/b")] == [True],
                "one copy is left",
            )
            add(bucket, prefix, "c", 7)
            assert index(server)["c"] == ("", "")
            http.unload_model("a")
            eventually(lambda: not list(tmp_path.glob("pyinfer-models-*/*/a")), "the copy of an unloaded model stays")
            with pytest.raises(client.InferenceServerException, match="failed to poll from model repository"):
                http.load_model("absent")


@pytest.mark.parametrize("bucket", ["gs"], indirect=True)
def test_polling(bucket: Bucket, prefix: str, serve) -> None:
    add(bucket, prefix, "a", 1)
    with serve(bucket, prefix, "--model-control-mode=poll", "--repository-poll-secs=1") as server:
        assert answer(server, "a") == 1
        add(bucket, prefix, "a", 2)
        add(bucket, prefix, "b", 3)
        eventually(lambda: "b" in index(server) and index(server)["b"][0] == "READY", "b was not found")
        assert answer(server, "b") == 3
        eventually(lambda: answer(server, "a") == 2, "a was not loaded again")
        add(bucket, prefix, "a", 9, version=4)
        eventually(lambda: answer(server, "a") == 9, "version 4 was not found")
        for file in ("config.pbtxt", "1/model.py", "1/addend"):
            bucket.delete(f"{prefix}/b/{file}")
        eventually(lambda: index(server).get("b", ("UNAVAILABLE",))[0] == "UNAVAILABLE", "b was not unloaded")


@pytest.mark.parametrize("bucket", ["s3"], indirect=True)
def test_a_store_that_goes_away_and_comes_back(bucket: Bucket, prefix: str, serve) -> None:
    add(bucket, prefix, "a", 1)
    with FaultProxy(bucket.port) as proxy:
        flags = ("--model-control-mode=poll", "--repository-poll-secs=1")
        with serve(bucket, prefix, *flags, port=proxy.port) as server:
            proxy.set(cut_after=0)
            proxy.reset_all()
            text = "can not read the model repository"
            eventually(lambda: text in server.log, "nothing is said")
            assert answer(server, "a") == 1
            assert server.is_ready()
            add(bucket, prefix, "a", 2)
            proxy.set(cut_after=-1)
            eventually(lambda: answer(server, "a") == 2, "a was not loaded again")


def test_no_store_at_start(azure: AzureBucket, prefix: str, serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    text = "can not read the model repository 'as://.*': the model repository could not be read"
    with pytest.raises(RuntimeError, match=text), serve(azure, prefix, port=port):
        pass


def test_two_servers_share_the_cache(azure: AzureBucket, prefix: str, serve) -> None:
    for number in range(4):
        add(azure, prefix, f"m{number}", number)
    with serve(azure, prefix) as one, serve(azure, prefix) as two:
        for server in (one, two):
            assert [answer(server, f"m{number}") for number in range(4)] == [0, 1, 2, 3]
        assert sum(hits for _, _, hits in fetched(two)) == 12


def test_a_killed_server_leaves_no_copies_for_ever(azure: AzureBucket, prefix: str, serve, tmp_path) -> None:
    add(azure, prefix, "a", 1)
    with serve(azure, prefix) as server:
        server.process.kill()
        server.process.wait()
        assert len(list(tmp_path.glob("pyinfer-models-*"))) == 1
    with serve(azure, prefix) as server:
        assert answer(server, "a") == 1
        assert len(list(tmp_path.glob("pyinfer-models-*"))) == 1


def test_local_and_remote_repositories_together(azure: AzureBucket, prefix: str, serve, tmp_path) -> None:
    add(azure, prefix, "a", 1)
    add(azure, prefix, "both", 1)
    local = tmp_path / "local"
    for name in ("here", "both"):
        (local / name / "1").mkdir(parents=True)
        (local / name / "config.pbtxt").write_bytes(CONFIG)
        (local / name / "1/model.py").write_text(MODEL)
        (local / name / "1/addend").write_text("4")
    with serve(
        azure, prefix, f"--model-repository={local}", "--exit-on-error=false", "--strict-readiness=false"
    ) as server:
        assert (answer(server, "a"), answer(server, "here")) == (1, 4)
        assert index(server)["both"] == ("UNAVAILABLE", "model appears in two or more repositories")


def test_errors_name_no_url_and_no_path(azure: AzureBucket, prefix: str, serve) -> None:
    add(azure, prefix, "a", 1)
    azure.put(f"{prefix}/c/1/../../../model.py", b"x")
    azure.put(f"{prefix}/b/config.pbtxt", CONFIG)
    azure.put(f"{prefix}/b/1/model.py", b"raise RuntimeError(__file__)")
    flags = ("--model-control-mode=explicit", "--load-model=a")
    with serve(azure, prefix, *flags) as server, client.InferenceServerClient(server.http) as http:
        for name in ("b", "c", "absent"):
            with pytest.raises(client.InferenceServerException) as caught:
                http.load_model(name)
            assert "as://" not in str(caught.value)
            assert f"{os.sep}tmp" not in str(caught.value)


def test_without_the_package(azure: AzureBucket, prefix: str, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['obstore'] = None; from pyinfer.cli import main;"
        "sys.exit(main(['serve', '--http-port=0', '--grpc-port=0', '--metrics-port=0', *sys.argv[1:]]))"
    )
    command = [sys.executable, "-c", code, f"--model-repository={azure.url(prefix)}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert "needs the package 'obstore', which is not installed: pip install 'pyinfer[cloud]'" in done.stderr
    assert "Traceback" not in done.stderr
