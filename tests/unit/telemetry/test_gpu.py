# SPDX-License-Identifier: Apache-2.0
"""The gauges of GPUs, out of a management library that is compiled here and says what its environment tells it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pyinfer.telemetry.families import Family
from pyinfer.telemetry.gpu import GpuGauges, memory_in_use, visible_devices

# Two devices; the second measures neither power nor energy. FAKE_NVML_FAIL names a function that fails.
SOURCE = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int fails(const char* name) {
  const char* which = getenv("FAKE_NVML_FAIL");
  return which && strcmp(which, name) == 0;
}
static long number(void* device) { return (long)device - 0x7fff00000000; }
static unsigned long long spent = 5000;

int nvmlInit_v2(void) { return fails("init"); }
int nvmlDeviceGetCount_v2(unsigned* count) { *count = 2; return fails("count"); }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) {
  *device = (void*)(0x7fff00000000 + index);
  return index > 1 || fails("handle");
}
int nvmlDeviceGetHandleByUUID(const char* uuid, void** device) {
  *device = (void*)(0x7fff00000000 + (strncmp(uuid, "GPU-1aaaa", 9) == 0));
  return strncmp(uuid, "GPU-", 4) != 0 || fails("by uuid");
}
int nvmlDeviceGetUUID(void* device, char* text, unsigned size) {
  snprintf(text, size, "GPU-%ldaaaa-0000", number(device));
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, unsigned* rates) {
  rates[0] = 25 + number(device);
  rates[1] = 99;
  return fails("utilization");
}
int nvmlDeviceGetMemoryInfo(void* device, unsigned long long* memory) {
  memory[0] = 85899345920ull;
  memory[1] = 1;
  memory[2] = 4294967296ull + number(device);
  return 0;
}
int nvmlDeviceGetPowerUsage(void* device, unsigned* milliwatts) {
  *milliwatts = 123456;
  return number(device) == 1 ? 3 : 0;
}
int nvmlDeviceGetPowerManagementLimit(void* device, unsigned* milliwatts) {
  *milliwatts = 700000;
  return number(device) == 1 ? 3 : 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void* device, unsigned long long* millijoules) {
  *millijoules = spent;
  spent += 2500;
  return number(device) == 1 ? 3 : 0;
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "no C compiler, without which pyinfer can not be built either"
    folder = tmp_path_factory.mktemp("nvml")
    source = folder / "nvml.c"
    source.write_text(SOURCE)
    made = folder / "libfake-ml.so.1"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(made), str(source)], check=True)
    return str(made)


def samples(families: list[Family]) -> dict[str, list[float]]:
    """Name -> values, the first device's first; the labels must be those of the devices."""
    for _, _, _, family in families:
        uuids = [dict(labels)["gpu_uuid"] for _, labels, _ in family]
        assert uuids == [f"GPU-{index}aaaa-0000" for index in range(len(uuids))]
    return {name: [value for _, _, value in family] for _, name, _, family in families}


def test_what_devices_tell(library: str) -> None:
    gauges = GpuGauges(library, {})
    assert gauges.uuids == ["GPU-0aaaa-0000", "GPU-1aaaa-0000"]
    families = gauges.read()
    assert samples(families) == {
        "nv_gpu_utilization": [0.25, 0.26],
        "nv_gpu_memory_total_bytes": [85899345920, 85899345920],
        "nv_gpu_memory_used_bytes": [4294967296, 4294967297],
        "nv_gpu_power_usage": [123.456],
        "nv_gpu_power_limit": [700],
        "nv_energy_consumption": [5.0],
    }
    assert [kind for kind, *_ in families] == ["gauge"] * 5 + ["counter"]


def test_energy_counts_from_the_start(library: str) -> None:
    gauges = GpuGauges(library, {})
    first, second = (samples(gauges.read())["nv_energy_consumption"][0] for _ in range(2))
    assert 0 < first < second


def test_a_function_that_fails_leaves_its_gauge_out(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gauges = GpuGauges(library, {})
    monkeypatch.setenv("FAKE_NVML_FAIL", "utilization")
    found = samples(gauges.read())
    assert "nv_gpu_utilization" not in found
    assert len(found) == 5


@pytest.mark.parametrize("function", ["init", "count", "handle"])
def test_a_library_that_knows_no_device(library: str, monkeypatch: pytest.MonkeyPatch, function: str) -> None:
    monkeypatch.setenv("FAKE_NVML_FAIL", function)
    assert GpuGauges(library, {}).read() == []


def test_no_library(tmp_path: Path) -> None:
    assert GpuGauges(str(tmp_path / "absent.so"), {}).read() == []


def test_a_library_of_something_else() -> None:
    assert GpuGauges("libc.so.6", {}).read() == []


def test_a_server_without_gpus_by_choice(library: str) -> None:
    assert GpuGauges(library, {"TRITON_SERVER_CPU_ONLY": "1"}).uuids == []


def test_visible_devices_choose(library: str) -> None:
    assert GpuGauges(library, {"CUDA_VISIBLE_DEVICES": "1"}).uuids == ["GPU-1aaaa-0000"]
    assert GpuGauges(library, {"CUDA_VISIBLE_DEVICES": ""}).uuids == []


@pytest.mark.parametrize(
    ("setting", "chosen"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 1 , 2 ", [1, 2]),
        ("1,1", [1]),
        ("1,9,2", [1]),
        ("1,x,2", [1]),
        ("GPU-b", [1]),
        ("GPU-b,GPU-a1", [1, 0]),
        ("GPU-", []),
        ("GPU-zz,0", []),
    ],
)
def test_visible_devices(setting: str | None, chosen: list[int]) -> None:
    assert visible_devices(setting, ["GPU-a1", "GPU-b2", "GPU-c3"]) == chosen


def test_memory_in_use(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert memory_in_use("GPU-0aaaa-0000", library) == pytest.approx(0.05)
    assert memory_in_use("none", library) is None
    assert memory_in_use("GPU-0aaaa-0000", "no-such-library.so") is None
    monkeypatch.setenv("FAKE_NVML_FAIL", "by uuid")
    assert memory_in_use("GPU-0aaaa-0000", library) is None
