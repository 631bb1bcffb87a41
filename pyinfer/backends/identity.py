# SPDX-License-Identifier: Apache-2.0
"""The ``identity`` backend: each output is the input at the same place of the configuration.

It runs in the core; this module only checks the configuration and names the executor. The model parameter
``execute_delay_ms`` (a whole number, default 0) makes each execution take at least that long.
"""

from __future__ import annotations

from typing import Any

from pyinfer.backends.base import Backend, Instance, InstanceContext, ModelContext, NativeExecutor
from pyinfer.errors import ConfigError, InternalError

__all__ = ["IdentityBackend"]

_DELAY = "execute_delay_ms"


class IdentityBackend(Backend):
    """Answers with its inputs. Raises ConfigError where inputs and outputs do not pair up."""

    def __init__(self, model: ModelContext) -> None:
        super().__init__(model)
        inputs: list[dict[str, Any]] = list(model.config.get("input", ()))
        outputs: list[dict[str, Any]] = list(model.config.get("output", ()))
        if len(inputs) != len(outputs):
            raise ConfigError(
                f"model '{model.name}': the identity backend answers with one output for each input, but the "
                f"configuration has {len(inputs)} inputs and {len(outputs)} outputs"
            )
        for source, target in zip(inputs, outputs, strict=True):
            for field in ("data_type", "dims"):
                if source.get(field) != target.get(field):
                    raise ConfigError(
                        f"model '{model.name}': output '{target.get('name')}' mirrors input '{source.get('name')}', "
                        f"but its {field} is {target.get(field)} and the input's is {source.get(field)}"
                    )
        delay = model.parameter(_DELAY, "0")
        if not (delay.isascii() and delay.isdigit()):
            raise ConfigError(f"model '{model.name}': parameter '{_DELAY}' must be a whole number, got '{delay}'")
        self._delay = delay

    def native(self) -> NativeExecutor:
        return NativeExecutor("identity", {_DELAY: self._delay})

    def make_instance(self, instance: InstanceContext) -> Instance:
        raise InternalError(f"instance '{instance.name}': the identity backend runs in the core and makes no instances")
