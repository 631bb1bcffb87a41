# SPDX-License-Identifier: Apache-2.0
"""Shared memory of hostile clients: files in /dev/shm that are theirs to change, and requests that name them.

It does NOT know any row. A request is asked for over one of three ways: HTTP, gRPC, or a gRPC stream.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import grpc
from tritonclient.grpc import service_pb2 as pb

from contract.http.raw import Raw, post
from faults.client import check_text
from pyinfer.testing import RunningServer

__all__ = ["WAYS", "Asker", "Memory", "Part", "mapped", "memory"]

WAYS = ("http", "grpc", "stream")
#: Triton calls this one an internal error
TOO_SMALL = "bytes to hold the results"
_SERVICE = "/inference.GRPCInferenceService/"
_numbers = itertools.count()


class Part(NamedTuple):
    """A range of a region."""

    region: str
    size: int
    offset: int = 0

    def parameters(self) -> dict[str, str | int]:
        return {
            "shared_memory_region": self.region,
            "shared_memory_byte_size": self.size,
            "shared_memory_offset": self.offset,
        }


class Memory:
    """A POSIX shared memory object, mapped."""

    def __init__(self, size: int) -> None:
        self.key = f"/pyinfer_faults_{os.getpid()}_{next(_numbers)}"
        self.path = Path("/dev/shm", self.key[1:])
        self.size = size
        with self.path.open("wb+") as file:
            file.truncate(size)
            self.map = mmap.mmap(file.fileno(), size)

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)

    def close(self) -> None:
        self.map.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def memory(size: int) -> Iterator[Memory]:
    made = Memory(size)
    try:
        yield made
    finally:
        made.close()


def mapped(server: RunningServer) -> int:
    """How many objects of these tests the server has mapped."""
    return Path("/proc", str(server.pid), "maps").read_text().count(f"/dev/shm/pyinfer_faults_{os.getpid()}_")


class Asker:
    """One client, over one way. One thread at a time."""

    def __init__(self, server: RunningServer, way: str) -> None:
        self.way = way
        self._raw = Raw(server.http_port, timeout_s=120)
        self._channel = grpc.insecure_channel(server.grpc, options=[("grpc.use_local_subchannel_pool", 1)])

    def __enter__(self) -> Asker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._raw.socket.close()
        self._channel.close()

    def register(self, name: str, of: Memory, size: int | None = None, offset: int = 0) -> str:
        """The text of the error; empty where there is none."""
        body = {"key": of.key, "byte_size": of.size if size is None else size, "offset": offset}
        return self._control(f"region/{name}/register", body)

    def unregister(self, name: str = "") -> None:
        assert not self._control(f"region/{name}/unregister" if name else "unregister", {})

    def _control(self, path: str, body: dict[str, Any]) -> str:
        answer = self._raw.send(post(f"/v2/systemsharedmemory/{path}", json.dumps(body).encode())).receive()
        return "" if answer.status == 200 else check_text(answer.document["error"])

    def ask(
        self,
        model: str,
        shape: list[int],
        source: Part | bytes,
        place: Part | None = None,
        *,
        datatype: str = "FP32",
        **parameters: str,
    ) -> bytes | str:
        """The bytes of OUTPUT0 (none where they are put elsewhere), or the text of the error."""
        ask = self._http if self.way == "http" else self._grpc
        return ask(model, shape, source, place, datatype, parameters)

    def _http(
        self,
        model: str,
        shape: list[int],
        source: Part | bytes,
        place: Part | None,
        datatype: str,
        parameters: dict[str, str],
    ) -> bytes | str:
        data = source if isinstance(source, bytes) else b""
        given = {"name": "INPUT0", "shape": shape, "datatype": datatype}
        how: dict[str, Any] = {"binary_data_size": len(data)} if isinstance(source, bytes) else source.parameters()
        wanted = {"name": "OUTPUT0", "parameters": {"binary_data": True} if place is None else place.parameters()}
        document = {"inputs": [{**given, "parameters": how}], "outputs": [wanted], "parameters": parameters}
        head = json.dumps(document).encode()
        length = f"Inference-Header-Content-Length: {len(head)}"
        answer = self._raw.send(post(f"/v2/models/{model}/infer", head + data, length)).receive()
        if answer.status != 200:
            text = check_text(answer.document["error"])
            assert answer.status in (400, 404) or (answer.status == 500 and TOO_SMALL in text), answer
            return text
        return answer.body[int(answer.headers.get("inference-header-content-length", len(answer.body))) :]

    def _grpc(
        self,
        model: str,
        shape: list[int],
        source: Part | bytes,
        place: Part | None,
        datatype: str,
        parameters: dict[str, str],
    ) -> bytes | str:
        request = pb.ModelInferRequest(model_name=model)
        given = request.inputs.add(name="INPUT0", datatype=datatype, shape=shape)
        wanted = request.outputs.add(name="OUTPUT0")
        for part, tensor in ((source, given), (place, wanted)):
            if isinstance(part, Part):
                for key, value in part.parameters().items():
                    kind = "string_param" if isinstance(value, str) else "int64_param"
                    setattr(tensor.parameters[key], kind, value)
        for name, text in parameters.items():
            request.parameters[name].string_param = text
        if isinstance(source, bytes):
            request.raw_input_contents.append(source)
        return self._unary(request) if self.way == "grpc" else self._stream(request)

    def _unary(self, request: pb.ModelInferRequest) -> bytes | str:
        call = self._channel.unary_unary(_SERVICE + "ModelInfer")
        try:
            answer = call(request.SerializeToString(), timeout=120)
        except grpc.RpcError as error:
            text = check_text(error.details())
            refused = error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)
            if not refused and not (error.code() is grpc.StatusCode.INTERNAL and TOO_SMALL in text):
                raise
            return text
        return data_of(pb.ModelInferResponse.FromString(answer))

    def _stream(self, request: pb.ModelInferRequest) -> bytes | str:
        call = self._channel.stream_stream(_SERVICE + "ModelStreamInfer")
        [answer] = call(iter([request.SerializeToString()]), timeout=120)
        response = pb.ModelStreamInferResponse.FromString(answer)
        if response.error_message:
            return check_text(response.error_message)
        return data_of(response.infer_response)


def data_of(response: pb.ModelInferResponse) -> bytes:
    return bytes(response.raw_output_contents[0])
