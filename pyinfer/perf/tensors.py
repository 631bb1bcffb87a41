# SPDX-License-Identifier: Apache-2.0
"""The tensors that are sent: random, zero, from JSON files in perf_analyzer's format, or from a directory."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyinfer._core import deserialize_bytes, serialize_bytes
from pyinfer.errors import InvalidArgument
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import ModelInfo, TensorInfo

__all__ = ["RequestData", "Tensor", "dtype_of", "make_requests", "read_data", "read_document", "timestamp"]

_DTYPES = {
    "BOOL": "?",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "BF16": "<u2",
    "FP32": "<f4",
    "FP64": "<f8",
}
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", dtype="S1")


@dataclass(frozen=True)
class Tensor:
    """One input of one request: ``shape`` with the batch, ``raw`` in the binary form of the protocol."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes

    def values(self) -> list[Any]:
        """The elements, flat, as JSON takes them."""
        count = prod(self.shape)
        if self.datatype == "BYTES":
            return [each.decode("utf-8", "replace") for each in deserialize_bytes(self.raw, count)]
        if self.datatype == "BF16":
            bits = np.frombuffer(self.raw, dtype="<u2").astype("<u4") << 16
            floats: list[Any] = bits.view("<f4").tolist()
            return floats
        plain: list[Any] = np.frombuffer(self.raw, dtype=dtype_of(self.datatype)).tolist()
        return plain


def dtype_of(datatype: str) -> np.dtype[Any]:
    """What numpy has for it; for BF16 its bits. Not for BYTES."""
    return np.dtype(_DTYPES[datatype])


@dataclass(frozen=True)
class RequestData:
    """Different requests, to be sent in turn.

    ``expected``: by request, raw outputs by name; empty where answers are not looked at. ``steps``: (first, number) of
    each list of steps that a sequence may be made of. ``has_steps``: the data say how many steps a sequence has.
    ``times_ns``: when each request is to be sent, from the start of the load; empty where that is not said.
    """

    requests: list[list[Tensor]]
    expected: list[dict[str, bytes]]
    steps: list[tuple[int, int]]
    has_steps: bool
    times_ns: list[int]


@dataclass(frozen=True)
class _Row:
    """One entry of the data, without a batch dimension."""

    inputs: Mapping[str, Tensor]
    expected: Mapping[str, bytes]
    time_ns: int = 0


def make_requests(info: ModelInfo, options: PerfOptions) -> list[list[Tensor]]:
    """The inputs of each different request, to be sent in turn. Raises InvalidArgument for what can not be sent."""
    return read_data(info, options).requests


def read_data(info: ModelInfo, options: PerfOptions) -> RequestData:
    """All that is to be sent and expected. Raises InvalidArgument for what can not be sent."""
    batches = info.max_batch_size > 0
    if options.batch_size > max(1, info.max_batch_size):
        limit = info.max_batch_size if batches else "1: the model does not batch"
        raise InvalidArgument(f"batch size {options.batch_size} is not possible: batch-size must be <= {limit}")
    unknown = set(options.shapes) - {one.name for one in info.inputs}
    if unknown:
        raise InvalidArgument(f"--shape names '{min(unknown)}', which is no input of the model")
    if info.has_sequences and options.batch_size != 1:
        raise InvalidArgument("requests of sequences have a batch size of 1")
    if options.fixed_schedule and options.batch_size != 1:
        raise InvalidArgument("with --fixed-schedule each entry is a request: the batch size is 1")
    streams = list(_streams(info, options))
    rows = list(chain.from_iterable(streams))
    size = options.batch_size if batches else 1
    requests, expected = [], []
    for number in range(len(rows)):
        batch = [rows[(number * size + i) % len(rows)] for i in range(size)]
        requests.append([_join([row.inputs[name] for row in batch], batches) for name in batch[0].inputs])
        expected.append({name: b"".join(row.expected[name] for row in batch) for name in batch[0].expected})
    ends = list(accumulate(map(len, streams)))
    steps = [(end - len(stream), len(stream)) for end, stream in zip(ends, streams, strict=True)]
    has_steps = options.input_data[0].endswith(".json")
    times = [row.time_ns for row in rows] if options.fixed_schedule else []
    return RequestData(requests, expected if any(expected) else [], steps, has_steps, times)


def _join(parts: Sequence[Tensor], batches: bool) -> Tensor:
    """One tensor of ``parts``, which have no batch dimension."""
    first = parts[0]
    if not batches:
        return first
    if any(part.shape != first.shape for part in parts):
        raise InvalidArgument(f"entries of a batch differ in the shape of input '{first.name}'; send them with -b 1")
    return Tensor(first.name, first.datatype, (len(parts), *first.shape), b"".join(part.raw for part in parts))


def _streams(info: ModelInfo, options: PerfOptions) -> Iterator[list[_Row]]:
    """Lists of entries: the steps of sequences, where the model has these."""
    source = options.input_data[0]
    inputs = [_without_batch(one, info, options) for one in info.inputs]
    if source in ("random", "zero"):
        random = np.random.default_rng(options.seed) if source == "random" else None
        made = {one.name: _generated(one, random, options) for one in inputs if one.name not in info.optional}
        yield [_Row(made, {})]
        return
    path = Path(source)
    if path.is_dir():
        read = {one.name: _from_file(one, path / one.name) for one in inputs if one.name not in info.optional}
        yield [_Row(read, {})]
        return
    for name in options.input_data:
        yield from _from_json(Path(name), inputs, info, options)


def _without_batch(one: TensorInfo, info: ModelInfo, options: PerfOptions) -> TensorInfo:
    known = info.row_shape(one)
    shape = options.shapes.get(one.name, known)
    fits = len(shape) == len(known) and all(want in (-1, have) for want, have in zip(known, shape, strict=True))
    if one.name in options.shapes and not fits:
        raise InvalidArgument(f"--shape={one.name}:{_text(shape)} does not fit the model's {_text(known)}")
    if one.datatype != "BYTES" and one.datatype not in _DTYPES:
        raise InvalidArgument(f"input '{one.name}' has datatype {one.datatype}, which can not be sent")
    return TensorInfo(one.name, one.datatype, tuple(shape))


def _text(shape: Sequence[int]) -> str:
    return ",".join(map(str, shape))


def _fixed(one: TensorInfo) -> tuple[int, ...]:
    if min(one.shape, default=0) < 0:
        raise InvalidArgument(
            f"input '{one.name}' has variable dimensions [{_text(one.shape)}]: give them with --shape={one.name}:DIMS"
        )
    return one.shape


def _generated(one: TensorInfo, random: np.random.Generator | None, options: PerfOptions) -> Tensor:
    shape = _fixed(one)
    count = prod(shape)
    if one.datatype == "BYTES":
        return Tensor(one.name, one.datatype, shape, _strings(count, random, options))
    dtype = dtype_of(one.datatype)
    if random is None:
        return Tensor(one.name, one.datatype, shape, bytes(count * dtype.itemsize))
    if one.datatype == "BOOL":
        return Tensor(one.name, one.datatype, shape, random.integers(0, 2, count, dtype=np.uint8).tobytes())
    if one.datatype == "BF16":
        raw = (random.random(count, dtype=np.float32).view("<u4") >> 16).astype("<u2").tobytes()
    elif one.datatype.startswith("FP"):
        raw = random.random(count).astype(dtype).tobytes()
    else:
        raw = random.bytes(count * dtype.itemsize)
    return Tensor(one.name, one.datatype, shape, raw)


def _strings(count: int, random: np.random.Generator | None, options: PerfOptions) -> bytes:
    texts = np.empty(count, dtype=object)
    for i in range(count):
        if options.string_data is not None:
            texts[i] = options.string_data.encode()
        else:
            texts[i] = b"" if random is None else random.choice(_LETTERS, options.string_length).tobytes()
    return serialize_bytes(texts)


def _from_file(one: TensorInfo, path: Path) -> Tensor:
    shape = _fixed(one)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidArgument(f"input '{one.name}' has no data: {path}: {error.strerror}") from None
    if one.datatype != "BYTES":
        return _raw(one, shape, content, str(path))
    lines = np.array([*content.decode("utf-8", "surrogateescape").splitlines(), None], dtype=object)[:-1]
    if len(lines) != prod(shape):
        raise InvalidArgument(f"{path} has {len(lines)} lines; input '{one.name}' takes {prod(shape)}")
    return Tensor(one.name, one.datatype, shape, serialize_bytes(lines))


def _raw(one: TensorInfo, shape: tuple[int, ...], content: bytes, where: str) -> Tensor:
    size = prod(shape) * dtype_of(one.datatype).itemsize
    if len(content) != size:
        raise InvalidArgument(f"{where} has {len(content)} bytes; input '{one.name}' [{_text(shape)}] takes {size}")
    return Tensor(one.name, one.datatype, shape, content)


def _from_json(path: Path, inputs: Sequence[TensorInfo], info: ModelInfo, options: PerfOptions) -> Iterator[list[_Row]]:
    document = read_document(path)
    data = document["data"]
    wanted = document.get("validation_data")
    # one list of entries for each sequence, or one for all
    streams = _lists(data)
    expected = _lists(wanted) if isinstance(wanted, list) else None
    if wanted is not None and (expected is None or list(map(len, expected)) != list(map(len, streams))):
        raise InvalidArgument(f"{path}: 'validation_data' has not the form of 'data', an entry for an entry")
    number = 0
    for s, stream in enumerate(streams):
        rows = []
        for e, entry in enumerate(stream):
            where = f"{path}, entry {number}"
            outputs = expected[s][e] if expected else {}
            rows.append(_row(entry, outputs, inputs, info, options, where))
            number += 1
        yield rows


def read_document(path: Path) -> dict[str, Any]:
    """A JSON file of data, whose ``data`` is a list that is not empty. Raises InvalidArgument."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise InvalidArgument(f"--input-data={path}: {error.strerror}") from None
    except ValueError as error:
        raise InvalidArgument(f"--input-data={path} is not JSON: {error}") from None
    data = document.get("data") if isinstance(document, dict) else None
    if not isinstance(document, dict) or not isinstance(data, list) or not data:
        raise InvalidArgument(f"{path} has no list 'data'")
    if [] in data:
        raise InvalidArgument(f"{path} has a list in 'data' that is empty")
    return document


def _lists(data: list[Any]) -> list[list[Any]]:
    return data if data and all(isinstance(one, list) for one in data) else [data]


def _row(
    entry: Any, outputs: Any, inputs: Sequence[TensorInfo], info: ModelInfo, options: PerfOptions, where: str
) -> _Row:
    if not isinstance(entry, dict) or not isinstance(outputs, dict):
        raise InvalidArgument(f"{where} is not an object")
    by_name = {one.name: one for one in inputs}
    time_ns = 0
    if options.fixed_schedule:
        entry = dict(entry)
        time_ns = timestamp(entry.pop("timestamp", None), where)
    unknown = set(entry) - set(by_name)
    missing = set(by_name) - set(entry) - info.optional
    if unknown or missing:
        what = f"'{min(unknown)}', which is no input" if unknown else f"no data for input '{min(missing)}'"
        raise InvalidArgument(f"{where} has {what} of the model")
    known = {one.name: one for one in info.output_tensors}
    if set(outputs) - set(known):
        raise InvalidArgument(
            f"{where}: validation_data has '{min(set(outputs) - set(known))}', which is no output of the model"
        )
    tensors = {name: _entry(by_name[name], value, where) for name, value in entry.items()}
    return _Row(tensors, {name: _output(known[name], value, info, where) for name, value in outputs.items()}, time_ns)


def timestamp(value: Any, where: str) -> int:
    """Nanoseconds, of the ``timestamp`` of an entry. Raises InvalidArgument."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e12:
        raise InvalidArgument(f"{where} has no 'timestamp', the milliseconds from the start at which it is sent")
    return round(value * 1e6)


def _output(one: TensorInfo, value: Any, info: ModelInfo, where: str) -> bytes:
    """The bytes that an output is to have; its shape need not be known."""
    shape = info.row_shape(one)
    if isinstance(value, dict) and "b64" in value:
        return _decoded(one, value["b64"], where)
    if min(shape, default=0) < 0:
        content = value.get("content") if isinstance(value, dict) else value
        shape = (len(list(_flatten(content if isinstance(content, list) else [content]))),)
    return _entry(TensorInfo(one.name, one.datatype, shape), value, where).raw


def _decoded(one: TensorInfo, text: Any, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        raise InvalidArgument(f"{where}: 'b64' of '{one.name}' is not base64") from None


def _shape(one: TensorInfo, value: Any, where: str) -> tuple[int, ...]:
    is_shape = isinstance(value, list) and all(type(dim) is int and dim >= 0 for dim in value)
    if not is_shape:
        raise InvalidArgument(f"{where}: 'shape' of '{one.name}' is not a list of sizes")
    return tuple(value)


def _entry(one: TensorInfo, value: Any, where: str) -> Tensor:
    shape: tuple[int, ...] | None = None
    if isinstance(value, dict):
        if "shape" in value:
            shape = _shape(one, value["shape"], where)
        if "b64" in value:
            content = _decoded(one, value["b64"], where)
            shape = shape or _fixed(one)
            return (
                Tensor(one.name, one.datatype, shape, content)
                if one.datatype == "BYTES"
                else _raw(one, shape, content, where)
            )
        value = value.get("content")
    shape = shape or _fixed(one)
    flat = list(_flatten(value if isinstance(value, list) else [value]))
    if len(flat) != prod(shape):
        raise InvalidArgument(f"{where}: input '{one.name}' [{_text(shape)}] has {len(flat)} values")
    return Tensor(one.name, one.datatype, shape, _encoded(one, flat, where))


def _flatten(value: list[Any]) -> Iterator[Any]:
    for each in value:
        if isinstance(each, list):
            yield from _flatten(each)
        else:
            yield each


def _encoded(one: TensorInfo, flat: list[Any], where: str) -> bytes:
    try:
        if one.datatype == "BYTES":
            texts: NDArray[Any] = np.empty(len(flat), dtype=object)
            texts[:] = [each if isinstance(each, str) else json.dumps(each) for each in flat]
            return serialize_bytes(texts)
        if one.datatype == "BF16":
            return (np.array(flat, dtype="<f4").view("<u4") >> 16).astype("<u2").tobytes()
        return np.array(flat, dtype=dtype_of(one.datatype)).tobytes()
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidArgument(f"{where}: input '{one.name}' of {one.datatype}: {error}") from None
