# SPDX-License-Identifier: Apache-2.0
"""``make run`` as a user sees it: the real server, the real models, the real clients."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

MODELS = {
    "identity",
    "add_sub",
    "words",
    "simple_mlp",
    "silero_vad",
    "silero_vad_stream",
    "text_detection",
    "text_reading",
    "magika",
}


@pytest.fixture
def command(models: Path) -> list[str]:
    """The demonstration on ports that were free a moment ago."""
    with socket.socket() as http, socket.socket() as grpc, socket.socket() as metrics:
        flags = []
        for name, taken in (("http", http), ("grpc", grpc), ("metrics", metrics)):
            taken.bind(("127.0.0.1", 0))
            flags.append(f"--{name}-port={taken.getsockname()[1]}")
    return [sys.executable, str(models / "demo.py"), *flags]


def test_every_model_answers_right(command: list[str], models: Path) -> None:
    done = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    table = done.stdout[done.stdout.index("model  ") :]
    rows = [re.split(r"\s{2,}", line) for line in table.splitlines()[2:] if line]
    answered = {(row[0], row[1]) for row in rows}
    assert {model for model, _ in answered} == MODELS
    assert {("identity", "HTTP"), ("identity", "gRPC")} <= answered
    assert {protocol for _, protocol in answered} == {"HTTP", "gRPC"}
    assert "WRONG" not in table
    magika = [row[3] for row in rows if row[0] == "magika"]
    assert len(magika) >= 8
    assert all("as the package says" in answer for answer in magika)
    assert not (models / "__pycache__").exists()


def test_the_server_stays_up_until_it_is_told_to_stop(command: list[str]) -> None:
    demo = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert demo.stdout is not None
        line = next(line for line in demo.stdout if line.startswith("  curl") and " -d " in line)
        address, body = re.fullmatch(r"  curl -s (\S+) -d '(.+)'\n", line).groups()  # type: ignore[union-attr]
        with urllib.request.urlopen(f"http://{address}", body.encode(), timeout=60) as answer:
            assert json.load(answer)["outputs"][0]["data"] == [1, 2, 3]
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate()
    assert demo.returncode == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://{address}", timeout=5)


def test_a_server_that_does_not_start_is_told(command: list[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        flags = [flag for flag in command if not flag.startswith("--grpc-port")]
        done = subprocess.run(
            [*flags, f"--grpc-port={port}", "--check"], capture_output=True, text=True, check=False, env=os.environ
        )
    assert done.returncode != 0
    assert "the server ended with status" in done.stderr
