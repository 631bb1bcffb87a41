# SPDX-License-Identifier: Apache-2.0
"""One server for all rows that need no flags; in each module a control client and a count of what it holds guard it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.client import Grpc
from faults.guard import Guard
from faults.models import closed_gate, make_models
from pyinfer.testing import RunningServer, run_server


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = tmp_path_factory.mktemp("faults")
    make_models(repository)
    return repository


@pytest.fixture
def gate(models: Path) -> Iterator[Path]:
    """The folder of the model "gate": it answers nothing until there is a file ``open`` in it."""
    with closed_gate(models, "gate") as folder:
        yield folder


@pytest.fixture(scope="session")
def server(models: Path) -> Iterator[RunningServer]:
    with run_server(models, "--model-control-mode=explicit", "--load-model=*") as running:
        yield running
        assert running.process.poll() is None, running.log[-4000:]
        assert running.stop() == 0, running.log[-4000:]
        # said only when nothing was in flight any more
        assert "All requests are answered, all models are stopped." in running.log


@pytest.fixture(scope="module")
def guard(server: RunningServer) -> Iterator[Guard]:
    with Guard(server) as made:
        yield made


@pytest.fixture
def guarded(guard: Guard) -> Iterator[Guard]:
    """For the tests of one module on the shared server: ``pytestmark = pytest.mark.usefixtures("guarded")``."""
    yield guard
    guard.check()


@pytest.fixture(scope="module")
def rpc(server: RunningServer) -> Iterator[Grpc]:
    made = Grpc(server)
    yield made
    made.close()
