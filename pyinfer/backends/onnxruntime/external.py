# SPDX-License-Identifier: Apache-2.0
"""Refuses ONNX files whose external data lies outside of the model's version directory, before ONNX Runtime opens them.

It walks the protobuf wire form, and only where the word ``location`` occurs, so a model of gigabytes is not parsed.
What is malformed is left for ONNX Runtime to complain about.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from pyinfer.errors import ModelError

__all__ = ["check_external_data"]

# message -> field number -> message, of onnx.proto; all ways that lead from a model to an external_data entry
_FIELDS: dict[str, dict[int, str]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "SparseTensor", 23: "SparseTensor"},
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
}
_KEY = b"location"


def check_external_data(file: Path, name: str) -> None:
    """Raise ModelError if the model ``file``, called ``name`` in texts, refers to data outside of its directory."""
    if file.stat().st_size == 0:
        raise ModelError(f"{name} is empty")
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for location in set(_locations(data)):
            _check(file.parent, location, name)


def _check(directory: Path, location: str, name: str) -> None:
    path = PurePosixPath(location)
    refused = f"{name} refers to external data '{path.name}'"
    if path.is_absolute() or ".." in path.parts or "\\" in location or "\0" in location:
        raise ModelError(f"{refused} by a path that leads out of the version directory; keep the data beside the model")
    inside = directory.resolve()
    target = (inside / path).resolve()
    if not target.is_relative_to(inside):
        raise ModelError(
            f"{refused} through a link that leads out of the version directory; keep the data beside the model"
        )
    if not target.is_file():
        raise ModelError(f"{refused}, which is not in the version directory")


def _locations(data: mmap.mmap) -> Iterator[str]:
    pending = [("Model", 0, len(data))]
    while pending:
        message, start, end = pending.pop()
        if data.find(_KEY, start, end) < 0:
            continue
        if message == "Entry":
            entry = {number: data[first:last] for number, first, last in _messages(data, start, end)}
            if entry.get(1) == _KEY:
                yield entry.get(2, b"").decode("utf-8", "replace")
            continue
        known = _FIELDS[message]
        pending += [
            (known[number], first, last) for number, first, last in _messages(data, start, end) if number in known
        ]


def _messages(data: mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, start, end) of the length-delimited fields between two offsets."""
    while at < end:
        tag, at = _varint(data, at, end)
        wire_type = tag & 7
        if wire_type == 0:
            _, at = _varint(data, at, end)
        elif wire_type == 1:
            at += 8
        elif wire_type == 5:
            at += 4
        elif wire_type == 2:
            size, at = _varint(data, at, end)
            if size > end - at:
                return
            yield tag >> 3, at, at + size
            at += size
        else:
            return


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """(value, offset behind it); an unfinished number ends at ``end``, where every caller stops."""
    value = shift = 0
    while at < end and shift < 64:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    return value, at
