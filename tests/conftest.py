# SPDX-License-Identifier: Apache-2.0
"""What every suite shares: hypothesis profiles and the root of the tree. A suite's own fixtures are beside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Examples are never judged by the wall clock: the machine is shared. A failure prints what is needed to repeat it.
_CALM = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("default", deadline=None, print_blob=True, suppress_health_check=_CALM)
settings.register_profile("thorough", parent=settings.get_profile("default"), max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The root of the source tree."""
    return Path(__file__).resolve().parent.parent
