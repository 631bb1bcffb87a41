# SPDX-License-Identifier: Apache-2.0
"""The shared memory extensions: regions registered, used and forgotten, over both protocols."""

from __future__ import annotations

import base64
import json
import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from differential.case import Call, Case, Http
from differential.corpus.build import call, get, grpc_infer, json_infer, post, tensor

__all__ = ["grpc_memory", "http_memory", "memory"]

_KEY = f"pyinfer_differential_{os.getpid()}"
_WRITTEN = f"{_KEY}_written"
_SIZE = 4 * mmap.PAGESIZE


@contextmanager
def memory() -> Iterator[None]:
    """The POSIX shared memory objects that the requests name: one is read, with ``1.0`` and ``2.0`` as FP32 at the start
    of each page; both servers write to the other one, which nobody reads.
    """
    paths = [Path("/dev/shm", key) for key in (_KEY, _WRITTEN)]
    for path in paths:
        path.write_bytes((bytes.fromhex("0000803f00000040") + bytes(mmap.PAGESIZE - 8)) * 4)
    try:
        yield
    finally:
        for path in paths:
            path.unlink()


_SIZES = (0, 1, 8, mmap.PAGESIZE, _SIZE - 1, _SIZE, _SIZE + 1, 2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)
_OFFSETS = (0, 1, 8, mmap.PAGESIZE, _SIZE - 1, _SIZE, _SIZE + 1, 2**32, 2**63 - 1, 2**64 - 1)


def _region(name: str, action: str, body: object = b"", kind: str = "system") -> Http:
    return post(f"/v2/{kind}sharedmemory/region/{name}/{action}", body)


def _all_statuses(when: str) -> Iterator[Case]:
    for kind in ("system", "cuda"):
        yield Case(f"{when}: {kind}", get(f"/v2/{kind}sharedmemory/status"))


def http_memory() -> Iterable[Case]:
    yield from _all_statuses("at first")
    for name in ("a", "unknown"):
        yield Case(f"status of {name}, not registered", get(f"/v2/systemsharedmemory/region/{name}/status"))
        yield Case(f"unregister {name}, not registered", _region(name, "unregister"))
    good = {"key": f"/{_KEY}", "offset": 0, "byte_size": _SIZE}
    yield Case("register", _region("a", "register", good))
    yield Case("register again", _region("a", "register", good))
    yield Case("the same key under another name", _region("b", "register", {**good, "key": _KEY}))
    yield Case("register what is written", _region("o", "register", {**good, "key": f"/{_WRITTEN}"}))
    yield Case("status", get("/v2/systemsharedmemory/region/a/status"))
    yield Case("status as cuda", get("/v2/cudasharedmemory/region/a/status"))
    yield from _all_statuses("two regions")
    yield from _http_uses()
    yield Case("unregister", _region("b", "unregister"))
    yield Case("unregister as cuda", _region("a", "unregister", kind="cuda"))
    yield Case("unregister again", _region("b", "unregister"))
    yield from _all_statuses("one region")
    yield Case("unregister all of cuda", post("/v2/cudasharedmemory/unregister"))
    yield Case("unregister all", post("/v2/systemsharedmemory/unregister"))
    yield from _all_statuses("at the end")
    yield from _http_registrations(good)


def _http_registrations(good: dict[str, object]) -> Iterator[Case]:
    """Registrations at each boundary; what is taken is taken back."""
    for offset in _OFFSETS:
        for size in (8, mmap.PAGESIZE, _SIZE, _SIZE + 1):
            yield Case(
                f"offset {offset}, size {size}", _region("c", "register", {**good, "offset": offset, "byte_size": size})
            )
            yield Case(f"offset {offset}, size {size}: unregister", _region("c", "unregister"))
    for size in _SIZES:
        yield Case(f"size {size}", _region("c", "register", {**good, "byte_size": size}))
        yield Case(f"size {size}: status", get("/v2/systemsharedmemory/region/c/status"))
        yield Case(f"size {size}: unregister", _region("c", "unregister"))
    for key in (
        "unknown",
        "/unknown",
        "",
        "/",
        "//",
        "a/b",
        "../x",
        f"//{_KEY}",
        f"{_KEY}/",
        "triton_python_backend_shm_region_x",
        "/triton_python_backend_shm_region_1",
        "x" * 300,
    ):
        yield Case(f"key {key[:40]}", _region("c", "register", {**good, "key": key}))
        yield Case(f"key {key[:40]}: unregister", _region("c", "unregister"))
    for member in good:
        for value in (None, True, -1, 1.5, "1", [], {}):
            yield Case(f"{member}: {json.dumps(value)}", _region("c", "register", {**good, member: value}))
            yield Case(f"{member}: {json.dumps(value)}: unregister", _region("c", "unregister"))
        yield Case(f"without {member}", _region("c", "register", {k: v for k, v in good.items() if k != member}))
        yield Case(f"without {member}: unregister", _region("c", "unregister"))
    for body in ("", "{}", "[]", "null", "x", "{"):
        yield Case(f"body {body}", _region("c", "register", body))
    for kind in ("system", "cuda"):
        for body in ("", "{}", good):
            yield Case(f"{kind}: no name, {body}", post(f"/v2/{kind}sharedmemory/register", body))
        yield Case(f"{kind}: GET of a registration without a name", get(f"/v2/{kind}sharedmemory/register"))
        for body in ("{}", "x", "[]", '{"key":1}'):
            yield Case(f"{kind}: unregister all with {body}", post(f"/v2/{kind}sharedmemory/unregister", body))
            yield Case(f"{kind}: unregister with {body}", _region("c", "unregister", body, kind=kind))
    for name in ("%C3%A9", "a%20b", "a%5Cb", "a\\b", "a%0Ab", "a%2Fb", "..", "%2e%2e", "a%00", "x" * 300):
        yield Case(f"name {name[:10]}", _region(name, "register", good))
        yield Case(f"name {name[:10]}: status", get(f"/v2/systemsharedmemory/region/{name}/status"))
        yield Case(f"name {name[:10]}: unregister", _region(name, "unregister"))
    handle = {"raw_handle": {"b64": base64.b64encode(bytes(64)).decode()}, "device_id": 0, "byte_size": 64}
    for name, change in {
        "zeros": {},
        "device 99": {"device_id": 99},
        "short": {"raw_handle": {"b64": "AAAA"}},
        "no base64": {"raw_handle": {"b64": "!"}},
        "no handle": {"raw_handle": None},
        "size 0": {"byte_size": 0},
    }.items():
        yield Case(f"cuda: {name}", _region("d", "register", {**handle, **change}, kind="cuda"))


def _http_uses() -> Iterator[Case]:
    def infer(
        name: str, given: dict[str, object] | None = None, asked: dict[str, object] | None = None, **more: object
    ) -> Case:
        shape = more.pop("shape", [1, 2])
        inputs = (
            [tensor("INPUT0", "FP32", shape, more.pop("data", None), **given)]
            if given
            else [tensor("INPUT0", "FP32", shape, [1, 2])]
        )
        return Case(
            f"infer: {name}", json_infer("fp32", inputs, outputs=[{"name": "OUTPUT0", "parameters": asked or {}}])
        )

    region, written = {"shared_memory_region": "a"}, {"shared_memory_region": "o"}
    yield infer("input", {**region, "shared_memory_byte_size": 8})
    yield infer("output", None, {**written, "shared_memory_byte_size": 8, "shared_memory_offset": 64})
    yield infer(
        "both",
        {**region, "shared_memory_byte_size": 8},
        {**region, "shared_memory_byte_size": 8, "shared_memory_offset": 64},
    )
    for size in (0, 4, 7, 9, 16, _SIZE, _SIZE + 1, 2**32 + 8, 2**63, 2**64 - 1):
        yield infer(f"input size {size}", {**region, "shared_memory_byte_size": size})
        yield infer(f"output size {size}", None, {**written, "shared_memory_byte_size": size})
    for offset in (1, 8, mmap.PAGESIZE, _SIZE - 8, _SIZE - 7, _SIZE, _SIZE + 1, 2**32, 2**63 - 8, 2**64 - 8, 2**64 - 1):
        yield infer(f"input offset {offset}", {**region, "shared_memory_byte_size": 8, "shared_memory_offset": offset})
        yield infer(
            f"output offset {offset}", None, {**written, "shared_memory_byte_size": 8, "shared_memory_offset": offset}
        )
    yield infer("unknown input region", {"shared_memory_region": "unknown", "shared_memory_byte_size": 8})
    yield infer("unknown output region", None, {"shared_memory_region": "unknown", "shared_memory_byte_size": 8})
    yield infer("no size", region)
    yield infer("no size of the output", None, written)
    yield infer("size without region", {"shared_memory_byte_size": 8})
    yield infer("offset without region", None, {"shared_memory_offset": 8})
    yield infer("data and region", {**region, "shared_memory_byte_size": 8}, data=[1, 2])
    yield infer("binary and region", {**region, "shared_memory_byte_size": 8, "binary_data_size": 8})
    yield infer("classes and region", None, {**written, "shared_memory_byte_size": 64, "classification": 1})
    yield infer("binary answer and region", None, {**written, "shared_memory_byte_size": 64, "binary_data": True})
    for offset in (0, 8, _SIZE - 1, _SIZE):
        at = {**region, "shared_memory_byte_size": 0, "shared_memory_offset": offset}
        yield infer(f"no elements, offset {offset}", at, shape=[1, 0])
        yield infer(f"no elements are not two, offset {offset}", at)
        yield infer(f"output of no bytes, offset {offset}", None, {**at, **written})
    for member in ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"):
        for value in (None, True, -1, 1.5, "1", []):
            given = {**region, "shared_memory_byte_size": 8, "shared_memory_offset": 0, member: value}
            yield infer(f"{member}: {json.dumps(value)}", given)
            yield infer(
                f"output {member}: {json.dumps(value)}",
                None,
                {**written, **{k: v for k, v in given.items() if v != "a"}},
            )


def grpc_memory() -> Iterable[Case]:
    def register(name: str, key: str = f"/{_KEY}", offset: int = 0, size: int = _SIZE) -> Call:
        return call("SystemSharedMemoryRegister", name=name, key=key, offset=offset, byte_size=size)

    def statuses(when: str) -> Iterator[Case]:
        for kind in ("System", "Cuda"):
            for name in ("", "g", "unknown"):
                yield Case(f"{when}: {kind} {name!r}", call(f"{kind}SharedMemoryStatus", name=name))

    yield from statuses("at first")
    yield Case("register", register("g"))
    yield Case("register again", register("g"))
    yield Case("register what is written", register("o", key=f"/{_WRITTEN}"))
    yield from statuses("registered")
    yield from _grpc_uses()
    yield Case("unregister unknown", call("SystemSharedMemoryUnregister", name="unknown"))
    yield Case("unregister", call("SystemSharedMemoryUnregister", name="g"))
    yield from statuses("unregistered")
    for offset in _OFFSETS:
        for size in (8, _SIZE, _SIZE + 1, 2**63 - 1, 2**64 - 1):
            yield Case(f"offset {offset}, size {size}", register("h", offset=offset, size=size))
            yield Case(f"offset {offset}, size {size}: unregister", call("SystemSharedMemoryUnregister", name="h"))
    for name, key in (("", f"/{_KEY}"), ("h", ""), ("h", "/"), ("h", "unknown"), ("é", f"/{_KEY}")):
        yield Case(f"name {name!r}, key {key[:9]!r}", register(name, key=key))
        yield Case(f"name {name!r}, key {key[:9]!r}: unregister", call("SystemSharedMemoryUnregister", name=name))
    yield Case("unregister all", call("SystemSharedMemoryUnregister"))
    yield Case("unregister all of cuda", call("CudaSharedMemoryUnregister"))
    for handle in (b"", bytes(63), bytes(64), bytes(65)):
        yield Case(
            f"cuda handle of {len(handle)} bytes",
            call("CudaSharedMemoryRegister", name="i", raw_handle=handle, device_id=0, byte_size=64),
        )
    yield from statuses("at the end")


def _grpc_uses() -> Iterator[Case]:
    def infer(
        name: str,
        given: dict[str, object] | None = None,
        asked: dict[str, object] | None = None,
        raw: int | None = None,
    ) -> Case:
        entry: tuple[Any, ...] = ("INPUT0", "FP32", [1, 2], {}, given or {})
        data = [bytes(8)] * (raw if raw is not None else 0 if given else 1)
        return Case(f"infer: {name}", grpc_infer("fp32", [entry], data, outputs=[("OUTPUT0", asked or {})]))

    region, written = {"shared_memory_region": "g"}, {"shared_memory_region": "o"}
    full: dict[str, object] = {**region, "shared_memory_byte_size": 8}
    yield infer("input", full)
    yield infer("output", None, {**written, "shared_memory_byte_size": 8, "shared_memory_offset": 64})
    yield infer("both", full, {**written, "shared_memory_byte_size": 8, "shared_memory_offset": 64})
    yield infer("input and raw data", full, raw=1)
    for size in (0, 4, 9, 16, _SIZE, _SIZE + 1, -1, 2**63 - 1):
        yield infer(f"input size {size}", {**region, "shared_memory_byte_size": size})
        yield infer(f"output size {size}", None, {**written, "shared_memory_byte_size": size})
    for offset in (0, 1, 8, _SIZE - 8, _SIZE - 7, _SIZE, -1, 2**63 - 8):
        yield infer(f"input offset {offset}", {**full, "shared_memory_offset": offset})
        yield infer(
            f"output offset {offset}", None, {**written, "shared_memory_byte_size": 8, "shared_memory_offset": offset}
        )
    yield infer("unknown region", {**full, "shared_memory_region": "unknown"})
    yield infer(
        "unknown output region", None, {**written, "shared_memory_byte_size": 8, "shared_memory_region": "unknown"}
    )
    yield infer("no size", region)
    yield infer("no size of the output", None, written)
    yield infer("size without region", {"shared_memory_byte_size": 8})
    yield infer("offset without region", None, {"shared_memory_offset": 8})
    yield infer("classes and region", None, {**written, "shared_memory_byte_size": 8, "classification": 1})
    for member in ("shared_memory_region", "shared_memory_byte_size", "shared_memory_offset"):
        for value in (True, "1", 1.5, 5, ("uint64_param", 8)):
            yield infer(f"{member}: {value!r}", {**full, member: value})
            yield infer(f"output {member}: {value!r}", None, {**written, "shared_memory_byte_size": 8, member: value})
    yield Case(
        "infer: contents and region",
        grpc_infer("fp32", [("INPUT0", "FP32", [1, 2], {"fp32_contents": [1.0, 2.0]}, full)]),
    )
    pair = [("A", "INT32", [1, 2], {}, full), ("B", "INT32", [1, 2])]
    yield Case("infer: one region, one raw", grpc_infer("pair", pair, [bytes(8)]))
    yield Case("infer: one raw, one region", grpc_infer("pair", pair[::-1], [bytes(8)]))
    yield Case("infer: one region, and raw data for it", grpc_infer("pair", pair, [bytes(8)] * 2))
    asked = [("SUM", {**written, "shared_memory_byte_size": 8}), "DIFFERENCE"]
    yield Case(
        "infer: one output in a region",
        grpc_infer("pair", [("A", "INT32", [1, 2]), ("B", "INT32", [1, 2])], [bytes(8)] * 2, outputs=asked),
    )
