# SPDX-License-Identifier: Apache-2.0
"""What a terminal shows of ``pyinfer perf``, with rich and without, and what a file gets."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pyinfer.testing import FakeServer

WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from pyinfer.cli import main; sys.exit(main())"


def on_terminal(argv: list[str], output: Path | None = None, columns: int = 200) -> str:
    """What a terminal is sent; ``output`` takes its place for results."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    stdout = os.open(output, os.O_WRONLY | os.O_CREAT) if output else theirs
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(argv, stdin=theirs, stdout=stdout, stderr=theirs, env=environment)
    os.close(theirs)
    seen = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # the other end is closed: that is the end
            break
        if not part:
            break
        seen += part
    os.close(ours)
    assert process.wait(60) == 0, seen
    return seen.decode()


@pytest.mark.parametrize("rich", [True, False], ids=["rich", "plain"])
def test_a_terminal_shows_a_table(rich: bool) -> None:
    start = [sys.executable, *(["-m", "pyinfer"] if rich else ["-c", WITHOUT_RICH])]
    with FakeServer([0.001]) as fake:
        flags = ["-m", "fake", "-u", fake.address, "--concurrency-range=1:2", "-p50", "-r3", "-s1e9"]
        seen = on_terminal([*start, "perf", *flags])
    assert "infer/s" in seen
    assert "Times in us." in seen
    assert "Traceback" not in seen
    # a rule below the head, and a cursor that goes back to write over what was
    assert ("─" in seen, "\x1b[2K" in seen) == (rich, rich)
    assert ("window 3: " in seen) or rich


def test_no_number_is_cut_off_on_a_narrow_terminal() -> None:
    with FakeServer([0.001]) as fake:
        argv = [sys.executable, "-m", "pyinfer", "perf", "-m", "fake", "-u", fake.address, "--request-count=20"]
        seen = on_terminal(argv, columns=60)
    assert "network+  errors  client us" in seen
    assert "…" not in seen


def test_results_in_a_file_have_nothing_of_a_terminal(tmp_path: Path) -> None:
    file = tmp_path / "results"
    with FakeServer([0.001]) as fake:
        argv = [sys.executable, "-m", "pyinfer", "perf", "-m", "fake", "-u", fake.address, "--request-count=20"]
        seen = on_terminal(argv, file)
    text = file.read_text()
    assert text.startswith("concurrency ")
    assert "Times in us." in text
    assert "\x1b" not in text
    assert "Times in us." not in seen
