# SPDX-License-Identifier: Apache-2.0
"""``python -m perf request-path``: the linker script that puts the functions together that serve a request.

A server that waits between requests finds its code in no cache. What a request then costs depends on how many pages and
cache lines of code it runs through, so csrc/request_path.ld lays the functions that every request needs side by side.
This writes that file: it serves identity models under callgrind (valgrind), sends unary requests of each kind, and
keeps the functions that ran for them. The module must have its symbols: build it with ``-Cinstall.strip=false
-Ccmake.define.CMAKE_STRIP=/bin/true``. A name that the next compiler spells otherwise is passed over by the linker:
nothing breaks, it only lies elsewhere.
"""

from __future__ import annotations

import collections
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http

from perf.procs import Child
from perf.servers import build_repository, command_of_pyinfer, free_ports

__all__ = ["SCRIPT", "executed", "linker_script", "write_request_path"]

SCRIPT = Path(__file__).resolve().parents[1] / "csrc" / "request_path.ld"

_REQUESTS = 500
_MODELS = ("identity", "python_identity")
_NAMED = re.compile(r"(c?)(ob|fn)=\((\d+)\)(?: (.*))?")
# What valgrind says of code outside of sections that it knows, such as the one that the script makes.
_UNKNOWN = "???"
_COST = re.compile(r"(?:[+-]?\d+|\*) (\d+)")

_HEAD = """\
/* SPDX-License-Identifier: Apache-2.0
   The functions that serve a request, side by side (perf/request_path.py). `python -m perf request-path` writes it. */
SECTIONS
{
  .text.request_path : ALIGN(4096)
  {
"""
_TAIL = """\
  }
}
INSERT BEFORE .text;
"""


def executed(profile: Iterable[str], module: str, at_least: int) -> set[str]:
    """Mangled names of the functions of ``module`` that a callgrind profile gives at least ``at_least`` instructions.

    ``profile`` is the lines of one dump (format "callgrind", positions "line", first event Ir). Instructions of what a
    function calls do not count for it.
    """
    names: dict[str, dict[str, str]] = {"ob": {}, "fn": {}}
    here = {"ob": "", "fn": ""}
    cost: collections.Counter[str] = collections.Counter()
    inclusive = False  # the next line of costs is that of a call
    for line in profile:
        if named := _NAMED.match(line):
            called, kind, number, name = named.groups()
            if name:
                names[kind][number] = name
            if not called:
                here[kind] = names[kind][number]
        elif line.startswith("calls="):
            inclusive = True
        elif counted := _COST.match(line):
            if not inclusive and (module in here["ob"] or here["ob"] == _UNKNOWN):
                cost[here["fn"].partition("'")[0]] += int(counted.group(1))
            inclusive = False
    return {name for name, instructions in cost.items() if instructions >= at_least and name.startswith("_Z")}


def linker_script(kinds: Sequence[set[str]]) -> str:
    """A script that adds a section to the linker's own: first what all ``kinds`` of requests need."""
    needed: dict[str, set[int]] = {}
    for kind, functions in enumerate(kinds):
        for name in functions:
            # The compiler numbers what it makes of a function (".part.0"), and the next build may do so otherwise.
            needed.setdefault(name.partition(".")[0], set()).add(kind)
    order = sorted(needed, key=lambda stem: (-len(needed[stem]), sorted(needed[stem]), stem))
    return _HEAD + "".join(f"    *(.text.{stem} .text.{stem}.*)\n" for stem in order) + _TAIL


def _over_grpc(address: str, model: str) -> Callable[[], object]:
    client = tritonclient.grpc.InferenceServerClient(address)
    value = tritonclient.grpc.InferInput("INPUT0", [1, 16], "FP32")
    value.set_data_from_numpy(np.zeros((1, 16), np.float32))
    return lambda: client.infer(model, [value])


def _over_http(address: str, model: str, *, binary: bool) -> Callable[[], object]:
    client = tritonclient.http.InferenceServerClient(address)
    value = tritonclient.http.InferInput("INPUT0", [1, 16], "FP32")
    value.set_data_from_numpy(np.zeros((1, 16), np.float32), binary_data=binary)
    output = tritonclient.http.InferRequestedOutput("OUTPUT0", binary_data=binary)
    return lambda: client.infer(model, [value], outputs=[output])


def _control(pid: int, *flags: str) -> None:
    subprocess.run(["callgrind_control", *flags, str(pid)], check=True, capture_output=True)


def write_request_path() -> Path:
    """Measure, and write :data:`SCRIPT`. Raises StartError, and FileNotFoundError where valgrind is missing."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        port = free_ports()
        command = command_of_pyinfer(build_repository(directory / "models", _MODELS), port)
        tool = ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--demangle=no"]
        with Child([*tool, f"--callgrind-out-file={directory}/out", *command]) as server:
            http, grpc = f"127.0.0.1:{port}", f"127.0.0.1:{port + 1}"
            server.wait_ready(f"http://{http}/v2/health/ready", seconds=300)
            for model in _MODELS:
                ways = (
                    _over_grpc(grpc, model),
                    _over_http(http, model, binary=True),
                    _over_http(http, model, binary=False),
                )
                for infer in ways:
                    infer()  # the first one makes connections and caches
                    _control(server.pid, "-i", "on")
                    for _ in range(_REQUESTS):
                        infer()
                    _control(server.pid, "-i", "off")
                    _control(server.pid, "-d")
                    time.sleep(1)  # it dumps when it runs next
            dumps = sorted(directory.glob("out.*"))
            kinds = [executed(dump.read_text().splitlines(), "/_core.", _REQUESTS) for dump in dumps]
    SCRIPT.write_text(linker_script(kinds))
    return SCRIPT
