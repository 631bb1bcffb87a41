# SPDX-License-Identifier: Apache-2.0
"""Readers of JSON side by side: all of them read the numbers, and what is refused is no figure."""

from __future__ import annotations

from contextlib import closing

import pytest

from perf.bodies import fp32_rows, make_body
from perf.core_load import CoreLoad
from perf.json_readers import measure_json_readers
from perf.load import LoadError


def _body(elements: int) -> bytes:
    return make_body("http_json", "m", fp32_rows(elements), name="INPUT0", output="OUTPUT0").content


def test_each_reader_has_a_figure() -> None:
    found = measure_json_readers(_body(40_000), turns=1)
    assert list(found) == ["core", "json", "orjson", "json_numpy", "orjson_numpy"]
    assert all(row["read_ms"] > 0 and row["read_mb_per_s"] > 0 for row in found.values())


def test_a_body_that_is_refused_or_read_on_the_loop_is_not_measured() -> None:
    body = _body(40_000)
    with closing(CoreLoad(0)) as core:
        assert core.read_us(body) > 0
        with pytest.raises(LoadError, match="Shape does not match"):
            core.read_us(body.replace(b"40000", b"39999"))
        with pytest.raises(LoadError, match="too small"):
            core.read_us(_body(10))
