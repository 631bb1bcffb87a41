# SPDX-License-Identifier: Apache-2.0
"""Gauges of NVIDIA GPUs, out of the driver's management library (NVML) where the machine has one.

The library is opened at run time and needs no package. Knows nothing of models or of an exposition format.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyinfer.telemetry.families import Family

__all__ = ["GpuGauges", "memory_in_use", "visible_devices"]

_LIBRARY = "libnvidia-ml.so.1"
_UUID_BYTES = 96


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


@dataclass(frozen=True)
class _Device:
    uuid: str
    handle: ctypes.c_void_p
    #: millijoules that the device had used when we began; None where it does not tell
    energy: int | None = field(default=None)


#: name and help text of each gauge, in the order in which they are shown
_GAUGES = (
    ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0)"),
    ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes"),
    ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes"),
    ("nv_gpu_power_usage", "GPU power usage in watts"),
    ("nv_gpu_power_limit", "GPU power management limit in watts"),
)
_ENERGY = ("nv_energy_consumption", "GPU energy consumption in joules since the Triton Server started")


class GpuGauges:
    """Reads the gauges of all devices that this process may see. One thread at a time.

    What a device does not tell, or fails to tell, is left out.
    """

    def __init__(self, library: str = _LIBRARY, environment: Mapping[str, str] = os.environ) -> None:
        """``environment``: CUDA_VISIBLE_DEVICES chooses among the devices, TRITON_SERVER_CPU_ONLY means none."""
        self._nvml = None if "TRITON_SERVER_CPU_ONLY" in environment else _open(library)
        self._devices = [] if self._nvml is None else self._find(environment.get("CUDA_VISIBLE_DEVICES"))

    @property
    def uuids(self) -> list[str]:
        """The devices that are read."""
        return [device.uuid for device in self._devices]

    def read(self) -> list[Family]:
        """The families that have a value on this machine."""
        readings = [(device, self._gauges(device)) for device in self._devices]
        families: list[Family] = []
        for name, help_text in _GAUGES:
            samples = [("", [("gpu_uuid", device.uuid)], values[name]) for device, values in readings if name in values]
            families.append(("gauge", name, help_text, samples))
        name, help_text = _ENERGY
        spent = [
            (device, self._number("nvmlDeviceGetTotalEnergyConsumption", device.handle)) for device in self._devices
        ]
        joules = [
            ("", [("gpu_uuid", device.uuid)], max(0, millijoules - device.energy) / 1000)
            for device, millijoules in spent
            if millijoules is not None and device.energy is not None
        ]
        families.append(("counter", name, help_text, joules))
        return [family for family in families if family[3]]

    def _gauges(self, device: _Device) -> dict[str, float]:
        values: dict[str, float] = {}
        utilization, memory = _Utilization(), _Memory()
        if self._call("nvmlDeviceGetUtilizationRates", device.handle, ctypes.byref(utilization)):
            values["nv_gpu_utilization"] = utilization.gpu / 100
        if self._call("nvmlDeviceGetMemoryInfo", device.handle, ctypes.byref(memory)):
            values["nv_gpu_memory_total_bytes"] = memory.total
            values["nv_gpu_memory_used_bytes"] = memory.used
        for name, function in (
            ("nv_gpu_power_usage", "nvmlDeviceGetPowerUsage"),
            ("nv_gpu_power_limit", "nvmlDeviceGetPowerManagementLimit"),
        ):
            milliwatts = self._number(function, device.handle, ctypes.c_uint())
            if milliwatts is not None:
                values[name] = milliwatts / 1000
        return values

    def _find(self, visible: str | None) -> list[_Device]:
        count = ctypes.c_uint()
        if not self._call("nvmlDeviceGetCount_v2", ctypes.byref(count)):
            return []
        devices = [self._device(index) for index in range(count.value)]
        chosen = visible_devices(visible, [device.uuid if device else "" for device in devices])
        return [device for index in chosen if (device := devices[index]) is not None]

    def _device(self, index: int) -> _Device | None:
        handle = ctypes.c_void_p()
        uuid = ctypes.create_string_buffer(_UUID_BYTES)
        if not self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle)):
            return None
        if not self._call("nvmlDeviceGetUUID", handle, uuid, ctypes.c_uint(_UUID_BYTES)):
            return None
        energy = self._number("nvmlDeviceGetTotalEnergyConsumption", handle)
        return _Device(uuid.value.decode("ascii", "replace"), handle, energy)

    def _number(self, function: str, handle: ctypes.c_void_p, into: ctypes.c_uint | None = None) -> int | None:
        """What ``function`` writes into an integer, which is of 64 bits where ``into`` is not given."""
        number: ctypes.c_uint | ctypes.c_ulonglong = ctypes.c_ulonglong() if into is None else into
        return int(number.value) if self._call(function, handle, ctypes.byref(number)) else None

    def _call(self, function: str, *arguments: object) -> bool:
        """Whether the library has ``function`` and it succeeds. ctypes lets go of the GIL for the call."""
        called: Callable[..., int] | None = getattr(self._nvml, function, None)
        return called is not None and called(*arguments) == 0


def memory_in_use(uuid: str, library: str = _LIBRARY) -> float | None:
    """The part of the device's memory that anybody uses, 0 to 1; None where the library does not tell."""
    nvml = _open(library)
    handle, memory = ctypes.c_void_p(), _Memory()
    try:
        if nvml is None or nvml.nvmlDeviceGetHandleByUUID(uuid.encode(), ctypes.byref(handle)) != 0:
            return None
        told = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0 and memory.total > 0
    except AttributeError:
        return None
    return memory.used / memory.total if told else None


def _open(library: str) -> ctypes.CDLL | None:
    """The library, initialised, where it can be opened."""
    try:
        nvml = ctypes.CDLL(library)
        return nvml if nvml.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def visible_devices(setting: str | None, uuids: list[str]) -> list[int]:
    """Indices of the devices that a CUDA_VISIBLE_DEVICES of ``setting`` (None: not set) lets a process see.

    As the CUDA runtime reads it: numbers, or UUIDs that may be shortened; the list ends at the first that is neither.
    """
    if setting is None:
        return list(range(len(uuids)))
    chosen: list[int] = []
    for word in (part.strip() for part in setting.split(",")):
        if word.isascii() and word.isdigit():
            found = [int(word)] if int(word) < len(uuids) else []
        else:
            found = [index for index, uuid in enumerate(uuids) if word and uuid.startswith(word)]
        if len(found) != 1:
            break
        if found[0] not in chosen:
            chosen.append(found[0])
    return chosen
