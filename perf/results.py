# SPDX-License-Identifier: Apache-2.0
"""Results as JSON files, one for each scenario, with the facts of the machine that they were taken on."""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from perf.scenarios import SCENARIOS
from pyinfer.perf.arguments import machine

__all__ = ["RESULTS", "Result", "machine_facts", "read_results", "write_result"]

RESULTS = Path(__file__).with_name("results")
_PACKAGES = ("pyinfer", "numpy", "uvloop", "httptools", "onnxruntime", "orjson")


@dataclass(frozen=True)
class Result:
    """The figures of one scenario: ``servers["pyinfer"]["cpu_us"]``. ``quick`` ones are a glance, not a record.

    ``load`` is what has made the load of most scenarios; results that do not say it were taken with h2load and wrk.
    """

    scenario: str
    quick: bool
    servers: Mapping[str, Mapping[str, Any]]
    machine: Mapping[str, Any]
    load: str = "h2load, wrk"
    taken: str = field(default_factory=lambda: dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"))


def write_result(result: Result, directory: Path = RESULTS) -> Path:
    """Write ``<scenario>.json``, over the one that was there."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{result.scenario}.json"
    path.write_text(json.dumps(_rounded(asdict(result)), indent=1) + "\n")
    return path


def read_results(directory: Path = RESULTS) -> dict[str, Result]:
    """All results there are, by scenario, in the order of the scenarios."""
    found = {}
    for scenario in SCENARIOS:
        path = directory / f"{scenario.name}.json"
        if path.exists():
            found[scenario.name] = Result(**json.loads(path.read_text()))
    return found


def machine_facts() -> dict[str, Any]:
    """Processor, cores, memory, kernel, versions and commit; nothing that names the machine."""
    return {
        **machine(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "h2load": _first_line("h2load", "--version"),
        "wrk": _first_line("wrk", "-v"),
        "commit": _first_line("git", "-C", str(RESULTS.parent), "rev-parse", "--short", "HEAD"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _first_line(*command: str) -> str:
    """What the command prints first, empty where it is absent or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    if command[0] == "git" and done.returncode != 0:
        return ""
    return next(iter((done.stdout + done.stderr).splitlines()), "").strip()


def _rounded(value: Any) -> Any:
    """Floats with five significant digits: more than the measurement knows, few enough to read."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(item) for item in value]
    return value
