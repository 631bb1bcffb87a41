# SPDX-License-Identifier: Apache-2.0
"""Models with an environment of their own: packages that the server does not have, in a directory or an archive."""

from __future__ import annotations

import importlib.util
import sys
import tarfile
import venv
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as grpc_client
from tritonclient.utils import InferenceServerException

from contract.conftest import add_model, identity
from pyinfer.testing import run_server

MODEL = """
import only_here
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", only_here.twice(request.inputs()[0].as_numpy()))])
            for request in requests
        ]
"""
PACKAGE = "def twice(array):\n    return array * 2\n"


def config(environment: str) -> str:
    parameter = f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "{environment}" }} }}'
    return identity("TYPE_FP32", "-1").replace('"identity"', '"python"') + parameter


def check(repository: Path) -> None:
    with run_server(repository) as server, grpc_client.InferenceServerClient(server.grpc) as client:
        given = grpc_client.InferInput("INPUT0", [1, 3], "FP32")
        given.set_data_from_numpy(np.ones((1, 3), np.float32))
        answer = client.infer("own", [given]).as_numpy("OUTPUT0")
        np.testing.assert_array_equal(answer, np.full((1, 3), 2, np.float32))


def test_a_virtual_environment_needs_no_pyinfer(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "only_here.py").write_text(PACKAGE)
    # numpy is borrowed; a path file in what it names is not looked at, so that nothing installed by one is found
    numpy = importlib.util.find_spec("numpy")
    assert numpy is not None and numpy.origin is not None
    (packages / "numpy.pth").write_text(str(Path(numpy.origin).resolve().parent.parent))
    add_model(tmp_path / "models", "own", config(str(environment)), {"model.py": MODEL})
    check(tmp_path / "models")


def test_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    environment = tmp_path / "environment"
    (environment / "bin").mkdir(parents=True)
    (environment / "only_here.py").write_text(PACKAGE)
    start = environment / "bin" / "python3"
    start.write_text(f'#!/bin/sh\nPYTHONPATH="$(dirname "$0")/.." exec {sys.executable} "$@"\n')
    start.chmod(0o755)
    model = add_model(
        tmp_path / "models", "own", config("$$TRITON_MODEL_DIRECTORY/environment.tar.gz"), {"model.py": MODEL}
    )
    with tarfile.open(model / "environment.tar.gz", "w:gz") as tar:
        tar.add(environment, ".")
    check(tmp_path / "models")


def test_what_can_not_be_started(tmp_path: Path) -> None:
    (tmp_path / "environment").mkdir()
    add_model(tmp_path / "models", "own", config(str(tmp_path / "environment")), {"model.py": MODEL})
    with (
        run_server(tmp_path / "models", "--model-control-mode=explicit") as server,
        grpc_client.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException, match="the environment of EXECUTION_ENV_PATH has no bin/python3"),
    ):
        client.load_model("own")
