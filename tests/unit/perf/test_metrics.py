# SPDX-License-Identifier: Apache-2.0
"""Gauges out of a page of metrics, and what is shown of them."""

from __future__ import annotations

from pyinfer.perf.metrics import gpu_cells, metrics_lines, read_gauges

PAGE = """# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-a"} 0.250000
nv_gpu_utilization{gpu_uuid="GPU-b"} 1
nv_gpu_utilization_other 7
nv_gpu_memory_used_bytes{gpu_uuid="GPU-a"} 3e6
nv_cpu_utilization 0.5
nv_inference_pending_request_count{model="m",version="1"} 0
nv_cpu_memory_used_bytes NotANumber
nv_inference_count{model="m"} 99
"""


def test_gauges_are_read() -> None:
    assert read_gauges(PAGE) == {
        ("nv_gpu_utilization", 'gpu_uuid="GPU-a"'): 0.25,
        ("nv_gpu_utilization", 'gpu_uuid="GPU-b"'): 1.0,
        ("nv_gpu_memory_used_bytes", 'gpu_uuid="GPU-a"'): 3e6,
        ("nv_cpu_utilization", ""): 0.5,
        ("nv_inference_pending_request_count", 'model="m",version="1"'): 0.0,
    }
    assert read_gauges("<html>") == {}


def test_what_is_shown_of_samples() -> None:
    samples = {
        ("nv_gpu_utilization", 'gpu_uuid="b"'): [1.0],
        ("nv_gpu_utilization", 'gpu_uuid="a"'): [0.0, 0.5],
        ("nv_gpu_memory_used_bytes", 'gpu_uuid="a"'): [3.0, 5.0, 1.0],
        ("nv_cpu_utilization", ""): [0.5, 0.25],
        ("nv_gpu_power_usage", 'gpu_uuid="a"'): [0.0],
    }
    assert gpu_cells(samples) == ["a:0.25;b:1;", "a:0;", "a:5;", ""]
    assert metrics_lines(samples) == [
        "nv_cpu_utilization: 0.375 on average, 0.5 at most",
        'nv_gpu_memory_used_bytes{gpu_uuid="a"}: 3 on average, 5 at most',
        'nv_gpu_utilization{gpu_uuid="a"}: 0.25 on average, 0.5 at most',
        'nv_gpu_utilization{gpu_uuid="b"}: 1 on average, 1 at most',
    ]
