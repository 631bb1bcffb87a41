# SPDX-License-Identifier: Apache-2.0
"""Sections whose feature pyinfer does not have yet. They are sent to nobody and say so."""

from __future__ import annotations

__all__ = ["PENDING"]

#: name of a section -> what is missing
PENDING: dict[str, str] = {
    "grpc-model-errors": "the rules of these sections",
    "grpc-parameters": "the rules of these sections",
    "grpc-versions": "the rules of these sections",
    "grpc-members": "the rules of these sections",
    "grpc-shapes": "the rules of these sections",
    "grpc-raw": "the rules of these sections",
    "grpc-contents": "the rules of these sections",
    "grpc-malformed": "the rules of these sections",
    "grpc-control": "the rules of these sections",
    "grpc-classification": "classification",
    "grpc-tensor-parameters": "classification, shared memory",
    "http-classification": "classification",
    "http-tensor-parameters": "classification, shared memory",
}
