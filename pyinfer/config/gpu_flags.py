# SPDX-License-Identifier: Apache-2.0
"""What the flags about GPUs can say. Pure; of pyinfer it imports what reads flags."""

from __future__ import annotations

import re

from pyinfer.config.flags import integer

__all__ = ["compute_capability", "gpu_load_limit"]

_DEVICE = integer(0, 2**31 - 1)


def compute_capability(value: str) -> tuple[int, int]:
    """``<major>[.<minor>]`` as (major, minor). Raises ValueError."""
    found = re.fullmatch(r"(\d{1,4})(?:\.(\d{1,4}))?", value, re.ASCII)
    if found is None:
        raise ValueError("expected a compute capability, as 7.5")
    return int(found[1]), int(found[2] or 0)


def gpu_load_limit(value: str) -> tuple[int, float]:
    """``<device>:<fraction>`` as (device, fraction). Raises ValueError."""
    device, colon, fraction = value.partition(":")
    if not colon or re.fullmatch(r"\d*\.?\d+|\d+\.", fraction, re.ASCII) is None or float(fraction) > 1:
        raise ValueError("expected <device>:<fraction> with a fraction from 0.0 to 1.0, as 0:0.9")
    return _DEVICE(device), float(fraction)


compute_capability.metavar = "<major>.<minor>"  # type: ignore[attr-defined]
gpu_load_limit.metavar = "<device>:<fraction>"  # type: ignore[attr-defined]
