# SPDX-License-Identifier: Apache-2.0
"""The identity backend pairs outputs with inputs and leaves the rest to the core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyinfer.backends.base import ModelContext, NativeExecutor
from pyinfer.backends.identity import IdentityBackend
from pyinfer.errors import ConfigError


def tensor(name: str, data_type: str = "TYPE_FP32", dims: tuple[int, ...] = (16,)) -> dict[str, Any]:
    return {"name": name, "data_type": data_type, "dims": list(dims)}


def load(inputs: list[Any], outputs: list[Any], **parameters: str) -> IdentityBackend:
    entries = {key: {"string_value": value} for key, value in parameters.items()}
    return IdentityBackend(ModelContext("m", 1, Path("m"), {"input": inputs, "output": outputs, "parameters": entries}))


def test_names_the_core_executor() -> None:
    assert load([tensor("A")], [tensor("B")]).native() == NativeExecutor("identity", {"execute_delay_ms": "0"})


def test_delay_is_passed_on() -> None:
    native = load([tensor("A")], [tensor("B")], execute_delay_ms="25").native()
    assert native.parameters["execute_delay_ms"] == "25"


@pytest.mark.parametrize("value", ["-1", "soon", "1.5", ""])
def test_delay_must_be_a_number(value: str) -> None:
    with pytest.raises(ConfigError, match="execute_delay_ms"):
        load([tensor("A")], [tensor("B")], execute_delay_ms=value)


def test_counts_must_agree() -> None:
    with pytest.raises(ConfigError, match="2 inputs and 1 outputs"):
        load([tensor("A"), tensor("B")], [tensor("C")])


@pytest.mark.parametrize("other", [tensor("B", "TYPE_INT32"), tensor("B", dims=(8,))])
def test_pairs_must_agree(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="output 'B' mirrors input 'A'"):
        load([tensor("A")], [other])
