# SPDX-License-Identifier: Apache-2.0
"""What can be chosen for a Python model, by parameters of its configuration and by ``--backend-config=python,...``.

All of it is read here, once for each model, whether its instances are threads or processes: what makes no sense is
refused in the same words in both cases, also where it would have no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pyinfer.errors import ConfigError

__all__ = ["ENVIRONMENT", "LIMITS", "Settings"]

ENVIRONMENT = "EXECUTION_ENV_PATH"
_ISOLATION = "ISOLATION"
_HOST_INPUTS = "FORCE_CPU_ONLY_INPUT_TENSORS"
_EXECUTION = "EXECUTION_LIMIT_SECONDS"
_INITIALIZATION = "INITIALIZATION_LIMIT_SECONDS"
_FINALIZATION = "FINALIZATION_LIMIT_SECONDS"
_MEMORY = "MEMORY_LIMIT_MIB"
#: parameters that have an effect on processes only
LIMITS = (_EXECUTION, _INITIALIZATION, _FINALIZATION, _MEMORY)

#: of the server alone: other models and interpreters are concerned
_START_OPTION = "stub-timeout-seconds"
_PARALLEL_OPTION = "initialize-in-parallel"

_MIB = 1 << 20


@dataclass(frozen=True)
class Settings:
    """See the module."""

    #: ``thread`` or ``process``
    isolation: str
    #: the value of EXECUTION_ENV_PATH; empty for the server's own environment
    environment: str
    #: whether inputs on a CUDA device are handed out there
    device_inputs: bool
    #: whether this model may load while others do
    initialize_in_parallel: bool
    #: seconds for a batch, and for what a worker does of the model's before it is ready and at its end; 0: any time
    execution_limit_s: float
    initialization_limit_s: float
    finalization_limit_s: float
    #: seconds for the start of an interpreter, without what the model does
    start_limit_s: float
    #: a worker that has more memory is replaced; 0: never
    memory_limit_bytes: int

    @classmethod
    def of(cls, config: Mapping[str, Any], options: Mapping[str, str]) -> Settings:
        """Those of a model; ``options``: of the backend. Raises ConfigError."""
        given = _Given(config, options)
        host_inputs = given.parameter(_HOST_INPUTS) or "yes"
        if host_inputs not in ("yes", "no"):
            raise ConfigError(f"Incorrect value for {_HOST_INPUTS}: {host_inputs}'")  # Triton's words
        environment = given.parameter(ENVIRONMENT)
        return cls(
            isolation=given.isolation(environment, host_inputs),
            environment=environment,
            device_inputs=host_inputs == "no",
            initialize_in_parallel=given.initialize_in_parallel(),
            execution_limit_s=given.seconds(_EXECUTION, "execution-limit-seconds", "0"),
            initialization_limit_s=given.seconds(_INITIALIZATION, "initialization-limit-seconds", "0"),
            finalization_limit_s=given.seconds(_FINALIZATION, "finalization-limit-seconds", "10"),
            start_limit_s=given.start_limit_s(),
            memory_limit_bytes=given.memory_limit(),
        )


class _Given:
    def __init__(self, config: Mapping[str, Any], options: Mapping[str, str]) -> None:
        self._config = config
        self._options = options

    def parameter(self, name: str) -> str:
        """Empty where it is not there."""
        return str(self._config.get("parameters", {}).get(name, {}).get("string_value", ""))

    def _either(self, parameter: str, option: str, default: str) -> tuple[str, str]:
        """The parameter, or the option where it has none; what it is called, and its value."""
        value = self.parameter(parameter) if parameter else ""
        if value:
            return f"model parameter {parameter}", value
        return f"backend option {option} of the python backend", self._options.get(option, default)

    def isolation(self, environment: str, host_inputs: str) -> str:
        default = "process" if environment or host_inputs == "yes" else "thread"
        where, chosen = self._either(_ISOLATION, "isolation", default)
        if chosen not in ("thread", "process"):
            raise ConfigError(f"{where} must be thread or process, got '{chosen}'")
        if environment and chosen == "thread":
            raise ConfigError(
                f"model parameter {ENVIRONMENT} needs a process of its own, and {where} says 'thread'; remove one of "
                "them"
            )
        return chosen

    def initialize_in_parallel(self) -> bool:
        where, chosen = self._either("", _PARALLEL_OPTION, "false")
        if chosen.lower() not in ("true", "false"):
            raise ConfigError(f"{where} must be true or false, got '{chosen}'")
        return chosen.lower() == "true"

    def seconds(self, parameter: str, option: str, default: str) -> float:
        where, text = self._either(parameter, option, default)
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise ConfigError(f"{where} must be a number of seconds, got '{text}'")
        return value

    def start_limit_s(self) -> float:
        with suppress(ValueError):
            if float(self._options.get(_START_OPTION, "30")) <= 0:
                raise ConfigError(f"{_START_OPTION} can't be smaller than or equal to zero.")  # Triton's words
        return self.seconds("", _START_OPTION, "30")

    def memory_limit(self) -> int:
        where, text = self._either(_MEMORY, "memory-limit-mib", "0")
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise ConfigError(f"{where} must be a whole number of MiB, got '{text}'")
        if "sequence_batching" not in self._config:
            return int(text) * _MIB
        if self.parameter(_MEMORY):
            raise ConfigError(
                f"{where} can not be used with sequence_batching: what the model keeps of a sequence would be lost "
                "with its process"
            )
        return 0
