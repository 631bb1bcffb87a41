# SPDX-License-Identifier: Apache-2.0
"""``ModelConfig``: how a Python model completes its own configuration.

It changes a copy and never what the user wrote.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["COMPLETED_FIELDS", "ModelConfig"]

#: what ``auto_complete_config`` may decide; anything else in what it returns is ignored
COMPLETED_FIELDS = ("max_batch_size", "input", "output", "dynamic_batching", "model_transaction_policy")

_REQUIRED = ("name", "data_type", "dims")


class ModelConfig:
    """A model configuration in Triton's JSON form, given as its text.

    Each setter raises ValueError at a contradiction.
    """

    def __init__(self, model_config: str) -> None:
        self._config: dict[str, Any] = json.loads(model_config)
        self._config.setdefault("name", "")
        self._config.setdefault("max_batch_size", 0)
        self._config.setdefault("input", [])
        self._config.setdefault("output", [])

    def as_dict(self) -> dict[str, Any]:
        """The configuration as it is now; to be read only."""
        return self._config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Set the largest batch. ValueError where the configuration has a larger one."""
        configured = self._config["max_batch_size"]
        if configured > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {configured}, but in auto-complete-config function for model "
                f"'{self._config['name']}' specified max_batch_size {max_batch_size}"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Choose dynamic batching with its defaults. ValueError where another scheduler is configured."""
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{other}', but auto-complete-config function for "
                    f"model '{self._config['name']}' tries to set scheduling_choice as 'dynamic_batching'"
                )
        self._config.setdefault("dynamic_batching", {})

    def add_input(self, input: Mapping[str, Any]) -> None:  # noqa: A002 - the keyword is Triton's
        """Add an input with ``name``, ``data_type``, ``dims`` and, if wanted, ``optional``."""
        self._add("input", input, (*_REQUIRED, "optional"))

    def add_output(self, output: Mapping[str, Any]) -> None:
        """Add an output with ``name``, ``data_type`` and ``dims``."""
        self._add("output", output, _REQUIRED)

    def set_model_transaction_policy(self, transaction_policy_dict: Mapping[str, Any]) -> None:
        """Set ``{"decoupled": bool}``. ValueError where the configuration says the opposite."""
        if set(transaction_policy_dict) - {"decoupled"}:
            raise ValueError(
                f"model transaction property in auto-complete-config function for model '{self._config['name']}' "
                "contains property other than 'decoupled'."
            )
        policy = self._config.setdefault("model_transaction_policy", {})
        for key, value in transaction_policy_dict.items():
            if policy.setdefault(key, value) != value:
                raise ValueError(
                    f"trying to change decoupled property in auto-complete-config for model '{self._config['name']}', "
                    f"which is already set to '{policy[key]}'."
                )

    def _add(self, kind: str, tensor: Mapping[str, Any], allowed: tuple[str, ...]) -> None:
        model = self._config["name"]
        where = f"in auto-complete-config function for model '{model}'"
        named = f"{kind} '{tensor['name']}' {where}" if "name" in tensor else f"{kind} {where}"
        if set(tensor) - set(allowed):
            listed = ", ".join(f"'{key}'" for key in allowed[:-1])
            raise ValueError(f"{named} contains property other than {listed} and '{allowed[-1]}'.")
        for key in _REQUIRED:
            if key not in tensor:
                raise ValueError(f"{named} is missing '{key}' property.")
        for configured in self._config[kind]:
            if configured["name"] == tensor["name"]:
                _refuse_contradiction(model, kind, configured, tensor)
                configured.update(tensor)
                return
        self._config[kind].append(dict(tensor))


def _refuse_contradiction(model: str, kind: str, configured: Mapping[str, Any], tensor: Mapping[str, Any]) -> None:
    name = tensor["name"]
    data_type = configured.get("data_type", "TYPE_INVALID")
    if data_type not in ("TYPE_INVALID", tensor["data_type"]):
        raise ValueError(
            f"unable to load model '{model}', configuration expects datatype {data_type} for {kind} '{name}', model "
            f"provides {tensor['data_type']}"
        )
    for key in ("dims", "optional"):
        wanted = configured.get(key)
        if wanted and key in tensor and wanted != tensor[key]:
            raise ValueError(
                f"model '{model}', tensor '{name}': the model expects {key} {tensor[key]} but the model configuration "
                f"specifies {key} {wanted}"
            )
