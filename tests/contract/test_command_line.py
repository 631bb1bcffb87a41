# SPDX-License-Identifier: Apache-2.0
"""The command line of a real process: one warning for each flag without effect, a reason for each that is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from contract.conftest import add_model, identity
from pyinfer.config.foreign import IGNORED
from pyinfer.testing import run_server


def test_flags_without_effect_are_told_once_with_the_reason(tmp_path: Path) -> None:
    flags = ("--http-thread-count=8", "--http-thread-count", "9", "--buffer-manager=4")
    with run_server(tmp_path, *flags) as server:
        for name in ("http-thread-count", "buffer-manager-thread-count"):
            assert server.log.count(f"--{name} has no effect in pyinfer: {IGNORED[name]}") == 1
        assert server.log.count("has no effect") == 2
        assert server.is_ready()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--nope"], "unknown option '--nope'; see --help"),
        (["--log=1"], "option '--log' is ambiguous: --log-verbose, --log-info"),
        (["--http-port=x"], "option '--http-port' got 'x': expected an integer from 0 to 65535"),
        (
            ["--allow-sagemaker=true"],
            "option '--allow-sagemaker' of tritonserver can not be used: there is no SageMaker front end",
        ),
        ([], "nothing to serve"),
    ],
)
def test_a_wrong_command_line_ends_at_once(arguments: list[str], text: str) -> None:
    command = [sys.executable, "-m", "pyinfer", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"pyinfer serve: {text}")
    assert done.stderr.count("\n") == 1


def test_a_server_without_python_models_has_no_numpy(tmp_path: Path) -> None:
    """It would be up a third later, and a third larger."""
    add_model(tmp_path, "plain", identity("TYPE_FP32", "-1"))
    with run_server(tmp_path) as server:
        maps = Path("/proc", str(server.pid), "maps").read_text()
    assert "_core." in maps
    assert "numpy" not in maps


def test_a_log_that_can_not_be_opened_is_no_start(tmp_path: Path) -> None:
    add_model(tmp_path / "models", "plain", identity("TYPE_FP32", "-1"))
    flags = (f"--model-repository={tmp_path / 'models'}", f"--log-file={tmp_path / 'none' / 'log'}")
    command = [sys.executable, "-m", "pyinfer", "serve", *flags, "--http-port=0", "--grpc-port=0", "--metrics-port=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "No such file or directory" in done.stderr
    assert "Traceback" not in done.stderr
