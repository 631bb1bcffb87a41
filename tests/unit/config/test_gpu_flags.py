# SPDX-License-Identifier: Apache-2.0
"""Values of the flags about GPUs."""

from __future__ import annotations

import pytest

from pyinfer.config.gpu_flags import compute_capability, gpu_load_limit


@pytest.mark.parametrize(("text", "expected"), [("7.5", (7, 5)), ("9", (9, 0)), ("0.0", (0, 0)), ("10.12", (10, 12))])
def test_compute_capability(text: str, expected: tuple[int, int]) -> None:
    assert compute_capability(text) == expected


@pytest.mark.parametrize("text", ["", "x", "7.", ".5", "-1", "7.5.1", "7,5", " 7", "1e3", "٧"])
def test_what_is_no_compute_capability(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a compute capability, as 7\.5"):
        compute_capability(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("0:0.9", (0, 0.9)), ("3:1", (3, 1.0)), ("1:.5", (1, 0.5)), ("1:0.", (1, 0.0))]
)
def test_load_limit(text: str, expected: tuple[int, float]) -> None:
    assert gpu_load_limit(text) == expected


@pytest.mark.parametrize("text", ["", "0", "0:", ":0.5", "0:1.1", "0:-1", "0:nan", "-1:0.5", "0:0.5:1", "0:1e-1"])
def test_what_is_no_load_limit(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        gpu_load_limit(text)
