# SPDX-License-Identifier: Apache-2.0
"""Headers that become parameters, as Python sees them; the rules themselves are tested in C++."""

from __future__ import annotations

import pytest

from pyinfer._core import HeaderForwarding


def test_forwards_what_matches_in_order() -> None:
    forwarding = HeaderForwarding("^x-")
    headers = [(b"host", b"a"), (b"X-B", b"\xc3\xa9"), (b"x-a", b""), (b"x-b", b"2")]
    assert forwarding.forwarded(headers) == [("X-B", "é"), ("x-a", ""), ("x-b", "2")]
    assert forwarding.forwarded([]) == []


@pytest.mark.parametrize("name", ["sequence_id", "triton_grpc_error", "Timeout"])
def test_reserved_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError) as error:
        HeaderForwarding(".*").forwarded([(b"x-a", b"1"), (name.encode(), b"1")])
    assert str(error.value) == f"Header '{name}' is reserved for Triton usage and cannot be forwarded."


def test_pattern_that_is_none() -> None:
    with pytest.raises(ValueError, match="is not a regular expression of RE2: missing"):
        HeaderForwarding("(")
