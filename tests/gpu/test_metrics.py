# SPDX-License-Identifier: Apache-2.0
"""The gauges of the real management library, against what `nvidia-smi` says."""

from __future__ import annotations

import re
import subprocess
import urllib.request
from pathlib import Path

from contract.conftest import add_model, identity
from pyinfer.testing import run_server


def smi(*fields: str) -> list[str]:
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return [one.strip() for one in first.split(",")]


def test_the_gauges_are_the_drivers(tmp_path: Path) -> None:
    add_model(tmp_path, "fp32", identity("TYPE_FP32", "-1"))
    uuid, total, limit = smi("uuid", "memory.total", "power.limit")
    with run_server(tmp_path) as server:
        with urllib.request.urlopen(f"http://{server.metrics}/metrics", timeout=30) as answer:
            page = answer.read().decode()
        values = {
            name: float(value)
            for name, of, value in re.findall(
                r'^(nv_(?:gpu|energy)\w*)\{gpu_uuid="([^"]*)"\} (\S+)$', page, re.MULTILINE
            )
            if of == uuid
        }
    assert sorted(values) == [
        "nv_energy_consumption",
        "nv_gpu_memory_total_bytes",
        "nv_gpu_memory_used_bytes",
        "nv_gpu_power_limit",
        "nv_gpu_power_usage",
        "nv_gpu_utilization",
    ]
    assert values["nv_gpu_memory_total_bytes"] / (1 << 20) == float(total)
    assert values["nv_gpu_power_limit"] == float(limit)
    assert 0 <= values["nv_gpu_utilization"] <= 1
    assert 0 < values["nv_gpu_power_usage"] < 2 * values["nv_gpu_power_limit"]
    assert values["nv_energy_consumption"] >= 0
