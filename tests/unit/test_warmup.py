# SPDX-License-Identifier: Apache-2.0
"""The data of warm-up samples."""

from __future__ import annotations

import numpy as np
import pytest

from pyinfer.model_files import NUMPY_TYPES, data_size
from pyinfer.warmup import random_bytes


@pytest.mark.parametrize("data_type", [*NUMPY_TYPES, "TYPE_STRING"])
@pytest.mark.parametrize("dims", [[], [3, 4], [0]])
def test_random_data_fill_their_shape_and_are_the_same_each_time(data_type: str, dims: list[int]) -> None:
    data = random_bytes(data_type, dims)
    assert len(data) == data_size(data_type, dims)
    assert data == random_bytes(data_type, dims)


def test_random_numbers_are_of_a_sensible_size() -> None:
    for data_type, least, most in (
        ("FP16", 0, 1),
        ("FP32", 0, 1),
        ("FP64", 0, 1),
        ("INT64", 0, 127),
        ("UINT8", 0, 255),
    ):
        numbers = np.frombuffer(random_bytes(f"TYPE_{data_type}", [1000]), NUMPY_TYPES[f"TYPE_{data_type}"])
        assert numbers.min() >= least
        assert numbers.max() <= most
        assert len(set(numbers.tolist())) > 50
    bits = np.frombuffer(random_bytes("TYPE_BF16", [1000]), "<u2").astype(np.uint32) << 16
    assert 0 <= bits.view(np.float32).min() <= bits.view(np.float32).max() <= 1
    assert set(random_bytes("TYPE_BOOL", [100])) == {0, 1}
    assert random_bytes("TYPE_STRING", [2]) == bytes(8)
