# SPDX-License-Identifier: Apache-2.0
"""Tensors in memory that the load shares with a server on this machine, so that no request carries them. Linux.

There is one region with the inputs of all requests, and one that every answer writes its outputs to, both of the host
or both of the first CUDA device. On the host their names are gone as soon as the server has opened them, and memory of
a device has none: nothing is left behind, however the load or the server ends. The server forgets them when the load is
done; where it can not be told, when it ends itself.
"""

from __future__ import annotations

import mmap
import os
import secrets
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

from pyinfer._core import CudaMemory, cuda_available
from pyinfer.errors import InvalidArgument, PyinferError, Unavailable
from pyinfer.perf.options import PerfOptions
from pyinfer.perf.target import GrpcTarget, HttpTarget, ModelInfo
from pyinfer.perf.tensors import Tensor, dtype_of

__all__ = ["Place", "SharedRegions", "check"]

_FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory is
_ALIGNMENT = 64
#: as perf_analyzer has it
_DEVICE = 0


@dataclass(frozen=True)
class Place:
    """Where a tensor is: the parameters of an input or output in shared memory. Bytes."""

    region: str
    offset: int
    size: int


class SharedRegions:
    """The regions of one load, registered on its server until :meth:`close`, or until nobody has this any more.

    ``inputs``: by request and input, in their order. ``outputs``: of each output of the model. Raises Unavailable where
    there is not enough memory, or the server does not take them.
    """

    def __init__(
        self,
        target: HttpTarget | GrpcTarget,
        info: ModelInfo,
        options: PerfOptions,
        requests: Sequence[Sequence[Tensor]],
    ) -> None:
        name = f"pyinfer_perf_{os.getpid()}_{secrets.token_hex(4)}"
        raws = [one.raw for request in requests for one in request]
        spots = iter(_places(f"{name}_in", [len(raw) for raw in raws]))
        self.inputs = [[next(spots) for _ in request] for request in requests]
        self.outputs = dict(
            zip(info.outputs, _places(f"{name}_out", _output_sizes(info, options)), strict=True),
        )
        kind = options.shared_memory
        if kind == "cuda" and not cuda_available():
            raise Unavailable("--shared-memory cuda needs an NVIDIA GPU and its driver (libcuda.so.1) on this machine")
        share = _share_device if kind == "cuda" else _share_host
        registered: dict[str, CudaMemory | None] = {}
        self.close = weakref.finalize(self, _unregister, target, kind, registered)
        try:
            for region, places, data in (
                (f"{name}_in", [place for one in self.inputs for place in one], raws),
                (f"{name}_out", list(self.outputs.values()), []),
            ):
                if places:
                    size = max(place.offset + max(1, place.size) for place in places)
                    registered[region] = share(target, region, size, list(zip(places, data, strict=False)))
        except BaseException:
            self.close()
            raise


def _places(region: str, sizes: Sequence[int]) -> list[Place]:
    steps = [max(1, -(-size // _ALIGNMENT)) * _ALIGNMENT for size in sizes]
    offsets = [end - step for end, step in zip(accumulate(steps), steps, strict=True)]
    return [Place(region, offset, size) for offset, size in zip(offsets, sizes, strict=True)]


def _output_sizes(info: ModelInfo, options: PerfOptions) -> list[int]:
    """What each output needs where that is known; otherwise what the options say, for each entry of the batch."""
    batch = options.batch_size if info.max_batch_size else 1
    sizes = []
    for one in info.output_tensors:
        shape = info.row_shape(one)
        known = one.datatype != "BYTES" and min(shape, default=0) >= 0
        sizes.append(
            batch * (prod(shape) * dtype_of(one.datatype).itemsize if known else options.output_shared_memory_size)
        )
    return sizes


def _share_device(
    target: HttpTarget | GrpcTarget, name: str, size: int, content: Sequence[tuple[Place, bytes]]
) -> CudaMemory:
    """The memory, which the server has opened."""
    try:
        memory = CudaMemory(_DEVICE, size)
        for place, raw in content:
            memory.write(place.offset, raw)
    except RuntimeError as error:
        raise Unavailable(f"--shared-memory cuda: {size} bytes on device {_DEVICE}: {error}") from None
    target.register_device_memory(name, memory.handle, _DEVICE, size)
    return memory


def _share_host(target: HttpTarget | GrpcTarget, name: str, size: int, content: Sequence[tuple[Place, bytes]]) -> None:
    path = _FOLDER / name
    try:
        handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable(f"--shared-memory: {path}: {error.strerror}") from None
    try:
        try:
            os.posix_fallocate(handle, 0, size)
        except OSError as error:
            raise Unavailable(f"--shared-memory: {size} bytes in {_FOLDER}: {error.strerror}") from None
        with mmap.mmap(handle, size) as memory:
            for place, raw in content:
                memory[place.offset : place.offset + len(raw)] = raw
        target.register_memory(name, f"/{name}", size)
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _unregister(target: HttpTarget | GrpcTarget, kind: str, regions: dict[str, CudaMemory | None]) -> None:
    # where the server is gone, what it had opened is, too
    with suppress(PyinferError):
        for name in regions:
            target.unregister_memory(kind, name)
    regions.clear()


def check(info: ModelInfo, options: PerfOptions, *, validates: bool) -> None:
    """Raises InvalidArgument for what shared memory is not for."""
    if options.shared_memory == "none":
        return
    if options.streaming and options.protocol == "http":
        raise InvalidArgument("generate_stream takes no tensors in shared memory; use -i grpc")
    if validates:
        raise InvalidArgument("validation_data can not be compared with outputs in shared memory")
    if not info.inputs:
        raise InvalidArgument("the model has no inputs that could be in shared memory")
