# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf limit`` as a process, and a server that serves the same model as a share of it."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from contract.conftest import add_model
from pyinfer.testing import run_server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``x`` FP32 [batch, 64] -> ``y``, its product with itself, 20 times: enough to be measured."""
    file = tmp_path_factory.mktemp("limit") / "model.onnx"
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 64]) for name in ("x", "y"))
    weights = helper.make_tensor("w", TensorProto.FLOAT, [64, 64], [0.01] * 64 * 64)
    names = ["x", *(f"t{i}" for i in range(19)), "y"]
    nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
    graph = helper.make_graph(nodes, "g", [x], [y], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pyinfer", "perf", *map(str, arguments)]


def test_a_served_model_is_below_its_limit(model: Path, tmp_path: Path) -> None:
    """Whatever the machine does meanwhile: a request at a time can not be as fast as batches without a server."""
    limit = tmp_path / "limit.json"
    done = subprocess.run(
        command("limit", model, "--batch-sizes=1,64", "-p", "100", "--json", limit), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"batch size +1x1", done.stdout)
    best = json.loads(limit.read_text())["best"]
    assert best["batch_size"] == 64
    directory = add_model(tmp_path / "models", "m", 'backend: "onnxruntime"')
    (directory / "1" / "model.onnx").write_bytes(model.read_bytes())
    with run_server(tmp_path / "models") as server:
        for protocol, address in (("http", server.http), ("grpc", server.grpc)):
            flags = ["-m", "m", "-i", protocol, "-u", address, "--request-count=100", f"--limit={limit}"]
            shown = subprocess.run(command(*flags), capture_output=True, text=True)
            assert shown.returncode == 0, shown.stderr
            share = re.search(r"([\d.]+) %", shown.stdout)
            assert share, shown.stdout
            assert 0 < float(share[1]) < 100


def test_a_wrong_file_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    for flags, text in [
        (["limit", tmp_path / "absent.onnx"], "there is no file"),
        (["-m", "m", "-u", "127.0.0.1:1", "--limit=/absent"], "No such file"),
    ]:
        done = subprocess.run(command(*flags), capture_output=True, text=True)
        assert done.returncode == 1
        assert text in done.stderr
        assert done.stderr.count("\n") == 1


def test_without_the_extra_it_says_what_to_install(model: Path) -> None:
    code = "import sys; sys.modules['onnxruntime'] = None; from pyinfer.cli import main; sys.exit(main())"
    argv = [sys.executable, "-c", code, "perf", "limit", str(model)]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert (done.returncode, "pip install 'pyinfer[onnx]'" in done.stderr) == (1, True)


def test_ctrl_c_keeps_what_was_measured(model: Path, tmp_path: Path) -> None:
    file = tmp_path / "limit.json"
    flags = ["limit", model, "--batch-sizes=1,2", "--parallel=1x1", "-p", "50", "--rounds=10000", f"--json={file}"]
    process = subprocess.Popen(command(*flags), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    seen = next(line for line in process.stderr if line.startswith("round 3 "))
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1, seen + err
    assert "interrupted" in err
    assert "Traceback" not in err
    assert "1x1" in out
    assert all(len(one["rows_per_s_of_rounds"]) >= 2 for one in json.loads(file.read_text())["cells"])
