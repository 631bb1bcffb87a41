# SPDX-License-Identifier: Apache-2.0
"""One server for all load tools. The tools come from PATH, as ``make test`` sets it; a missing one fails its test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contract.conftest import add_model, identity
from pyinfer.testing import RunningServer, run_server


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Serves ``fixed`` (FP32 [16]), ``text`` (BYTES [3]) and ``single`` (FP32 [1, -1]), which does not batch."""
    repository = tmp_path_factory.mktemp("tools")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    add_model(repository, "text", identity("TYPE_STRING", "3"))
    add_model(repository, "single", identity("TYPE_FP32", "1, -1", batch=0))
    with run_server(repository) as server:
        yield server
        assert server.process.poll() is None, server.log
        assert server.stop() == 0, server.log
