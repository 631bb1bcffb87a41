# SPDX-License-Identifier: Apache-2.0
"""The CUDA devices that instances of models may be on, and what of them is in use."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pyinfer._core import cuda_devices
from pyinfer.errors import Unavailable
from pyinfer.telemetry.gpu import memory_in_use

__all__ = ["Device", "Devices"]


class Device(NamedTuple):
    """As the CUDA driver has it in this process."""

    uuid: str
    #: its compute capability
    major: int
    minor: int


class Devices:
    """Looks for devices when it is first asked for them: to start the driver takes a while. Any thread."""

    def __init__(
        self,
        *,
        minimum_capability: tuple[int, int] = (0, 0),
        load_limits: Mapping[int, float] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """``minimum_capability``: of the devices that are used. ``load_limits``: device id -> the part of its memory
        that may be in use when a model is loaded. TRITON_SERVER_CPU_ONLY in the ``environment``: there are none.
        """
        self._minimum = minimum_capability
        self._load_limits = load_limits or {}
        self._cpu_only = "TRITON_SERVER_CPU_ONLY" in environment
        self._lock = threading.Lock()
        self._found: list[Device] | None = None

    def usable(self) -> list[int]:
        """The ids of the devices that instances may be on."""
        return [index for index, device in enumerate(self._all()) if self._is_usable(device)]

    def uuid(self, device_id: int | None) -> str:
        """Of a usable device; "" of none."""
        return "" if device_id is None else self._all()[device_id].uuid

    def check_room(self, device_ids: Sequence[int], model: str) -> None:
        """Raises Unavailable where more of a device's memory is in use than may be when a model is loaded."""
        for index in device_ids:
            limit = self._load_limits.get(index)
            in_use = None if limit is None else memory_in_use(self.uuid(index))
            if limit is not None and in_use is not None and in_use > limit:
                raise Unavailable(
                    f"can not create model '{model}': memory limit set for GPU {index} has exceeded, model loading is "
                    "rejected."
                )

    def _all(self) -> list[Device]:
        with self._lock:
            if self._found is None:
                self._found = [] if self._cpu_only else [Device(*one) for one in cuda_devices()]
            return self._found

    def _is_usable(self, device: Device) -> bool:
        return device.uuid != "" and (device.major, device.minor) >= self._minimum
