# SPDX-License-Identifier: Apache-2.0
"""What the loader refuses, ``pyinfer config check`` reports, and what it takes has no fault: on 250 texts."""

from pathlib import Path

import pytest

from faults.mutations import GOOD, mutations
from pyinfer._core import Engine
from pyinfer.backends.find import backend_fault, may_auto_complete, may_use_devices
from pyinfer.errors import ConfigError, PyinferError, Unsupported
from pyinfer.loader import Loader
from pyinfer.repository.check_model import BackendKnowledge, CheckOptions, check_model
from pyinfer.repository.contract import ModelSource

ENGINE = Engine()
OPTIONS = CheckOptions(BackendKnowledge(backend_fault, may_auto_complete, may_use_devices))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("repository") / "mutant"
    (made / "1").mkdir(parents=True)
    return made


def loaders_error(directory: Path) -> PyinferError | None:
    try:
        Loader(ENGINE).configure(ModelSource("mutant", directory, (1,)))
    except PyinferError as error:
        return error
    return None


@pytest.mark.parametrize("part", range(5))
def test_loader_and_check_agree(directory, part):
    refused = 0
    for text in mutations()[part::10]:
        (directory / "config.pbtxt").write_text(text, newline="")
        error = loaders_error(directory)
        findings = check_model(directory, OPTIONS).findings
        if error is None:
            # what is not there at all is found when a version is built
            assert [one for one in findings if "is missing" not in one.message] == [], text
            continue
        refused += 1
        assert findings, text
        if isinstance(error, Unsupported):
            assert any("not supported" in one.message for one in findings), text
        elif isinstance(error, ConfigError) and error.line is not None:
            places = [(one.line, one.column) for one in findings]
            assert (error.line, error.column) in places, (text, str(error), findings)
    assert refused > 25


def test_the_text_that_they_are_made_of_is_right(directory):
    (directory / "config.pbtxt").write_text(GOOD)
    assert loaders_error(directory) is None
    assert check_model(directory, OPTIONS).findings == []
