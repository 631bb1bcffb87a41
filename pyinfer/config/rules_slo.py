# SPDX-License-Identifier: Apache-2.0
"""The model parameter ``latency_slo_ms``: what it may be, and with what it goes together. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pyinfer.config.rules_io import Fault
from pyinfer.config.source import FieldPath

__all__ = ["LATENCY_SLO", "latency_slo_us", "slo_faults"]

#: the key among a model's ``parameters``
LATENCY_SLO = "latency_slo_ms"
_PATH: FieldPath = ("parameters", LATENCY_SLO)
_DECIMAL = re.compile(r"[0-9]{1,7}(\.[0-9]{1,3})?", re.ASCII)
_LONGEST_MS = 3_600_000


def latency_slo_us(config: Mapping[str, Any]) -> int:
    """The latency that the model's answers are to keep, in microseconds; 0 where the model has no SLO.

    ``config`` is valid.
    """
    text = _given(config)
    return 0 if text is None else round(float(text) * 1000)


def slo_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """The faults of ``latency_slo_ms``."""
    text, name = _given(config), config["name"]
    if text is None:
        return
    if not _DECIMAL.fullmatch(text) or not 0 < float(text) <= _LONGEST_MS:
        yield Fault(
            f"parameter '{LATENCY_SLO}' of model '{name}' must be milliseconds, a number above 0 and at most "
            f"{_LONGEST_MS} with up to 3 decimals, got '{text}'",
            _PATH,
        )
        return
    for scheduler in ("sequence_batching", "ensemble_scheduling"):
        if scheduler in config:
            yield Fault(f"parameter '{LATENCY_SLO}' of model '{name}' can not be used with {scheduler}", _PATH)
    batcher = config.get("dynamic_batching")
    if batcher is None:
        return
    instead = f"for {name} with the parameter '{LATENCY_SLO}', which takes its place; leave one of the two out"
    if batcher["max_queue_delay_microseconds"]:
        field = "max_queue_delay_microseconds"
        yield Fault(f"dynamic batching can not have '{field}' {instead}", ("dynamic_batching", field))
    policies = [batcher.get("default_queue_policy"), *batcher["priority_queue_policy"].values()]
    if any(policy and policy["default_timeout_microseconds"] for policy in policies):
        yield Fault(
            f"queue policy can not have 'default_timeout_microseconds' {instead}",
            ("dynamic_batching", "default_queue_policy"),
        )


def _given(config: Mapping[str, Any]) -> str | None:
    entry = config.get("parameters", {}).get(LATENCY_SLO)
    return None if entry is None else str(entry.get("string_value", ""))
