# SPDX-License-Identifier: Apache-2.0
"""Specifications, clocks, tables, and the wire form of BYTES."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer import _core


def test_tensor_spec() -> None:
    spec = _core.TensorSpec("T", "BF16", [-1, 3], reshape=[3], optional=True)
    assert (spec.name, spec.datatype, spec.dims) == ("T", "BF16", [-1, 3])
    with pytest.raises(AttributeError):
        spec.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("datatype", "dims", "reshape", "text"),
    [
        ("fp32", [1], None, "tensor 'T': unknown datatype 'fp32'"),
        ("<invalid>", [1], None, "unknown datatype"),
        ("FP32", [-2], None, r"a dimension is -1 or non-negative, got \[-2\]"),
        ("FP32", [1], [-5], r"got \[-5\]"),
    ],
)
def test_tensor_specs_that_are_refused(datatype: str, dims: list[int], reshape: list[int] | None, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _core.TensorSpec("T", datatype, dims, reshape=reshape)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"version": -1}, "version must not be negative, got -1"),
        ({"max_batch_size": -1}, "max_batch_size must not be negative, got -1"),
        ({"max_queue_delay_us": -1}, "max_queue_delay_us must be in"),
        ({"max_queue_delay_us": 2**62}, "max_queue_delay_us must be in"),
    ],
)
def test_model_specs_that_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        _core.ModelSpec(**{"name": "m", "version": 1, "inputs": [], "outputs": [], **options})


def test_manual_clock() -> None:
    clock = _core.ManualClock(5)
    clock.advance_ns(7)
    assert clock.now_ns() == 12
    assert _core.ManualClock().now_ns() == 0


def test_error_table() -> None:
    table = _core.error_table()
    assert table["INVALID_ARG"] == (400, 3)
    assert table["UNAVAILABLE"] == (503, 14)
    assert len(table) == 11


def test_build_info() -> None:
    assert {"compiler", "sanitizer", "nghttp2", "simdjson", "zlib"} <= set(_core.build_info())


@given(st.lists(st.binary(max_size=20), max_size=20))
def test_bytes_there_and_back(elements: list[bytes]) -> None:
    array = np.empty(len(elements), dtype=np.object_)
    array[:] = elements
    wire = _core.serialize_bytes(array)
    assert wire == b"".join(len(element).to_bytes(4, "little") + element for element in elements)
    for data in (wire, memoryview(wire), bytearray(wire)):
        back = _core.deserialize_bytes(data)
        assert back.dtype == np.object_
        assert back.tolist() == elements
    assert _core.deserialize_bytes(wire, len(elements)).tolist() == elements
    with pytest.raises(ValueError, match=r"BYTES element|string"):
        _core.deserialize_bytes(wire, len(elements) + 1)
    if elements:
        with pytest.raises(ValueError, match=r"incomplete|unexpected number"):
            _core.deserialize_bytes(wire[:-1] if wire[-5:] != b"\0" * 4 else wire, len(elements) - 1)


def test_what_can_be_bytes() -> None:
    assert _core.serialize_bytes(np.array(["é", "b"])) == b"\2\0\0\0\xc3\xa9\1\0\0\0b"
    assert _core.serialize_bytes(np.array([b"ab", b"c"])) == b"\2\0\0\0ab\1\0\0\0c"
    mixed = np.array([[b"a", "b"], [1, None]], dtype=np.object_)
    assert _core.serialize_bytes(mixed) == b"".join(
        len(text).to_bytes(4, "little") + text for text in (b"a", b"b", b"1", b"None")
    )
    with pytest.raises(UnicodeEncodeError):
        _core.serialize_bytes(np.array(["\udcff"], dtype=np.object_))


@given(st.binary(max_size=40), st.integers(-1, 5))
def test_any_bytes_are_understood_or_refused(data: bytes, count: int) -> None:
    try:
        array = _core.deserialize_bytes(data, count)
    except ValueError:
        return
    assert _core.serialize_bytes(array) == data
    assert count < 0 or len(array) == count
