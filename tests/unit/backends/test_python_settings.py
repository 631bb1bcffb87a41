# SPDX-License-Identifier: Apache-2.0
"""What can be chosen for a Python model: defaults, which goes first, and one refusal for threads and processes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from pyinfer.backends.base import ModelContext
from pyinfer.backends.python.selection import PythonBackend
from pyinfer.backends.python.settings import Settings
from pyinfer.errors import ConfigError

MODEL = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(auto_complete_model_config):
        return auto_complete_model_config

    def execute(self, requests):
        return []
"""
OF_BACKEND = "of the python backend must be"
SECONDS = ("", " ", "x", "-1", "nan", "inf", "1e9", "1,5", "0x10")
MIB = ("", "x", "-1", "1.5", "1e3", "1_000", "²", "9" * 10)
#: option of the backend -> what does not do, and what would
OPTIONS = {
    "isolation": (("", "threads", "Process", "fork"), "thread or process"),
    "initialize-in-parallel": (("", "1", "yes", "maybe"), "true or false"),
    "execution-limit-seconds": (SECONDS, "a number of seconds"),
    "initialization-limit-seconds": (SECONDS, "a number of seconds"),
    "finalization-limit-seconds": (SECONDS, "a number of seconds"),
    "stub-timeout-seconds": (("", "x", "nan", "inf", "1e9"), "a number of seconds"),
    "memory-limit-mib": (MIB, "a whole number of MiB"),
}
#: parameters of the model; an empty one is as one that is not there
PARAMETERS = {
    "ISOLATION": OPTIONS["isolation"],
    "EXECUTION_LIMIT_SECONDS": OPTIONS["execution-limit-seconds"],
    "INITIALIZATION_LIMIT_SECONDS": OPTIONS["initialization-limit-seconds"],
    "FINALIZATION_LIMIT_SECONDS": OPTIONS["finalization-limit-seconds"],
    "MEMORY_LIMIT_MIB": OPTIONS["memory-limit-mib"],
}
CASES = [
    (
        {},
        {option: value},
        f"backend option {option} {OF_BACKEND} {right}, got '{value}'",
    )
    for option, (values, right) in OPTIONS.items()
    for value in values
]
CASES += [
    ({name: value}, {}, f"model parameter {name} must be {right}, got '{value}'")
    for name, (values, right) in PARAMETERS.items()
    for value in values
    if value
]
CASES += [
    # Triton's words
    ({"FORCE_CPU_ONLY_INPUT_TENSORS": value}, {}, f"Incorrect value for FORCE_CPU_ONLY_INPUT_TENSORS: {value}'")
    for value in ("maybe", "NO", "true")
]
CASES += [
    ({}, {"stub-timeout-seconds": value}, "stub-timeout-seconds can't be smaller than or equal to zero.")
    for value in ("0", "-1", "-0.5")
]


def parameters(**values: str) -> dict[str, Any]:
    return {"parameters": {name: {"string_value": value} for name, value in values.items()}}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("models") / "m"
    (model / "1").mkdir(parents=True)
    (model / "1" / "model.py").write_text(MODEL)
    return model


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(("given", "options", "text"), CASES)
def test_what_makes_no_sense_is_refused_for_threads_and_processes(
    directory: Path, isolation: str, given: dict[str, str], options: dict[str, str], text: str
) -> None:
    if "ISOLATION" not in given and "isolation" not in options:
        options = {**options, "isolation": isolation}
    config = {"name": "m", **parameters(**given)}
    with pytest.raises(ConfigError) as caught:
        PythonBackend(ModelContext("m", 1, directory, config, options))
    assert str(caught.value) == text
    with pytest.raises(ConfigError) as caught:
        PythonBackend.auto_complete(directory, config, options)
    assert str(caught.value) == text


def test_defaults() -> None:
    assert Settings.of({}, {}) == Settings(
        isolation="process",
        environment="",
        device_inputs=False,
        initialize_in_parallel=False,
        execution_limit_s=0,
        initialization_limit_s=0,
        finalization_limit_s=10,
        start_limit_s=30,
        memory_limit_bytes=0,
    )


def test_the_model_goes_before_the_flag() -> None:
    options = {
        "execution-limit-seconds": "1",
        "initialization-limit-seconds": "2",
        "finalization-limit-seconds": "3",
        "memory-limit-mib": "4",
    }
    of_flags = Settings.of({}, options)
    assert (of_flags.execution_limit_s, of_flags.initialization_limit_s, of_flags.finalization_limit_s) == (1, 2, 3)
    assert of_flags.memory_limit_bytes == 4 << 20
    given = parameters(
        EXECUTION_LIMIT_SECONDS="1.5",
        INITIALIZATION_LIMIT_SECONDS="0",
        FINALIZATION_LIMIT_SECONDS="3.5",
        MEMORY_LIMIT_MIB="0",
    )
    of_model = Settings.of(given, options)
    assert (of_model.execution_limit_s, of_model.initialization_limit_s, of_model.finalization_limit_s) == (1.5, 0, 3.5)
    assert of_model.memory_limit_bytes == 0


def test_models_of_sequences_have_no_memory_limit() -> None:
    sequences: dict[str, Any] = {"sequence_batching": {}}
    assert Settings.of(sequences, {"memory-limit-mib": "100"}).memory_limit_bytes == 0
    with pytest.raises(ConfigError, match="MEMORY_LIMIT_MIB can not be used with sequence_batching"):
        Settings.of({**sequences, **parameters(MEMORY_LIMIT_MIB="100")}, {})


def test_options_of_triton_that_have_no_effect_here_are_taken() -> None:
    options = {"shm-default-byte-size": "1048576", "shm-growth-byte-size": "1048576", "thread-pool-size": "8"}
    options["shm-region-prefix-name"] = "prefix"
    assert Settings.of({}, options) == Settings.of({}, {})


def test_limits_of_a_model_of_threads_are_told_to_have_no_effect(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = parameters(ISOLATION="thread", EXECUTION_LIMIT_SECONDS="1", MEMORY_LIMIT_MIB="100")
    with caplog.at_level(logging.WARNING):
        PythonBackend(ModelContext("m", 1, directory, {"name": "m", **given})).close()
    (record,) = caplog.records
    expected = "model 'm': without effect, as its instances are threads: EXECUTION_LIMIT_SECONDS, MEMORY_LIMIT_MIB"
    assert record.getMessage() == expected
