# SPDX-License-Identifier: Apache-2.0
"""What ``--rate-limit`` and ``--rate-limit-resource`` can say. Pure; of pyinfer it imports what reads flags."""

from __future__ import annotations

from pyinfer.config.flags import integer

__all__ = ["rate_limit_mode", "rate_limit_resource"]

_MODES = ("off", "execution_count")
_COUNT = integer(0, 2**31 - 1)
_DEVICE = integer(-1, 2**31 - 1)


def rate_limit_mode(value: str) -> str:
    """``off`` or ``execution_count``, in any case. Raises ValueError."""
    mode = value.lower()
    if mode not in _MODES:
        raise ValueError(f"expected {' or '.join(_MODES)}")
    return mode


def rate_limit_resource(value: str) -> tuple[str, int, int | None]:
    """``<resource>:<count>[:<device>]`` as (name, count, device); None, or -1 in the flag, is each device.

    Raises ValueError.
    """
    name, *numbers = value.split(":")
    if len(numbers) not in (1, 2):
        raise ValueError(
            "--rate-limit-resource option format is '<resource_name>:<count>:<device>' or '<resource_name>:<count>'. "
            f"Got {value}"
        )
    device = _DEVICE(numbers[1]) if len(numbers) == 2 else None
    return name, _COUNT(numbers[0]), None if device == -1 else device


rate_limit_mode.metavar = "|".join(_MODES)  # type: ignore[attr-defined]
rate_limit_resource.metavar = "<resource>:<count>[:<device>]"  # type: ignore[attr-defined]
