# SPDX-License-Identifier: Apache-2.0
"""Sections whose feature pyinfer does not have yet. They are sent to nobody and say so."""

from __future__ import annotations

__all__ = ["PENDING"]

#: name of a section -> what is missing
PENDING: dict[str, str] = {
    "http-generate": "generate",
    "http-generate-stream": "generate_stream",
}
