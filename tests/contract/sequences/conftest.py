# SPDX-License-Identifier: Apache-2.0
"""A client of each protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.grpc as grpc_client
import tritonclient.http as http_client

from pyinfer.testing import RunningServer


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """Of the module's ``server``; ``tensor`` makes an input for it."""
    module = http_client if request.param == "http" else grpc_client
    with module.InferenceServerClient(getattr(server, request.param)) as made:
        made.tensor = module.InferInput
        yield made
