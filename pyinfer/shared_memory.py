# SPDX-License-Identifier: Apache-2.0
"""The shared memory extensions: what clients say of regions, checked, and the core's registry of them.

One meaning for two dialects: members come as JSON has them, or as the fields of a message. Nothing here touches memory.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from pyinfer.errors import InvalidArgument, error_of

if TYPE_CHECKING:
    from pyinfer._core import SharedMemoryRegistry

__all__ = ["SharedMemory"]

_MAX = 2**64 - 1
#: names are repeated in answers
_MAX_NAME_BYTES = 1024


class SharedMemory:
    """The regions of one server. ``kind`` is ``system`` or ``cuda``. Any thread; microseconds, but for mapping."""

    def __init__(self, registry: SharedMemoryRegistry) -> None:
        self._registry = registry

    def extensions(self) -> tuple[str, ...]:
        """Those that a client can use, once they are allowed. Loads the CUDA driver where there is one."""
        system = ("system_shared_memory",)
        return (*system, "cuda_shared_memory") if self._registry.has_device() else system

    def status(self, kind: str, name: str = "") -> dict[str, dict[str, Any]]:
        """Region name -> what it is, for one region or for all of ``kind``. Raises NotFound."""
        regions, fault = self._registry.list(kind, name or None)
        _raise(fault)
        return {region["name"]: region for region in regions}

    def register_system(self, name: str, members: Mapping[str, Any]) -> None:
        """Map ``byte_size`` bytes at ``offset`` of the POSIX shared memory object ``key``."""
        _check_name("system", name)
        key = _member(members, "key")
        if not isinstance(key, str):
            _wrong("key", "string")
        if any("\ud800" <= character <= "\udfff" for character in key):  # JSON can spell halves of surrogate pairs
            raise InvalidArgument("Unable to parse 'key': it is not valid UTF-8")
        offset = _unsigned(members.get("offset", 0), "offset")
        size = _unsigned(_member(members, "byte_size"), "byte_size")
        _raise(self._registry.register_system(name, key, offset, size))

    def register_cuda(self, name: str, members: Mapping[str, Any]) -> None:
        """Open the device memory that ``raw_handle`` stands for."""
        _check_name("cuda", name)
        handle = _handle(_member(members, "raw_handle"))
        device = _member(members, "device_id")
        if not isinstance(device, int) or isinstance(device, bool) or not -(2**63) <= device < 2**63:
            _wrong("device_id", "integer")
        size = _unsigned(_member(members, "byte_size"), "byte_size")
        _raise(self._registry.register_cuda(name, handle, device, size))

    def unregister(self, kind: str, name: str = "") -> None:
        """Forget one region, or all of ``kind``. One that is not registered is no error."""
        _raise(self._registry.unregister(kind, name or None))


def _raise(fault: tuple[str, str] | None) -> None:
    if fault is not None:
        raise error_of(*fault)


def _check_name(kind: str, name: str) -> None:
    if not name:
        raise InvalidArgument(f"'region name' is necessary to register {kind} shared memory region")
    if len(name.encode()) > _MAX_NAME_BYTES:
        raise InvalidArgument(f"the name of a shared memory region has at most {_MAX_NAME_BYTES} bytes")


def _member(members: Mapping[str, Any], name: str) -> Any:
    if name not in members:
        raise InvalidArgument(f"Shared memory register request has no '{name}' field")
    return members[name]


def _unsigned(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MAX:
        _wrong(name, "unsigned-integer")
    return value


def _handle(value: Any) -> bytes:
    """The handle as gRPC has it, or in base64 as HTTP has."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, dict):
        _wrong("raw_handle", "object")
    text = _member(value, "b64")
    if not isinstance(text, str):
        _wrong("b64", "string")
    try:
        handle = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        handle = b""
    if not handle:
        raise InvalidArgument("'raw_handle' must be a valid base64 encoded cudaIpcMemHandle_t")
    return handle


def _wrong(name: str, expected: str) -> NoReturn:
    raise InvalidArgument(f"Unable to parse '{name}': attempt to access JSON non-{expected} as {expected}")
