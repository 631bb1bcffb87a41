# SPDX-License-Identifier: Apache-2.0
"""What a load test asks the server beside the load: metadata, configuration, statistics. Over HTTP or gRPC, alike.

It does NOT send inferences.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from pyinfer._core import grpc_call
from pyinfer.config.messages import message
from pyinfer.errors import ModelError, PyinferError, Unavailable
from pyinfer.perf.tls import Tls, TlsFlags, TlsSettings

__all__ = ["GrpcTarget", "HttpTarget", "ModelInfo", "ServerTimes", "Target", "TensorInfo", "open_target"]

_NO_FLAGS = TlsFlags()
_TIMEOUT_S = 10.0
_LOAD_TIMEOUT_S = 600.0
_PARTS = ("success", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@dataclass(frozen=True)
class TensorInfo:
    """``shape`` with the batch dimension where the model has one; -1 is variable."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelInfo:
    """A model as the server describes it. ``max_batch_size`` 0: requests have no batch dimension."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[str, ...]
    max_batch_size: int
    has_sequences: bool = False
    is_decoupled: bool = False
    optional: frozenset[str] = frozenset()
    output_tensors: tuple[TensorInfo, ...] = ()
    #: of an ensemble: the models that it is made of
    steps: tuple[str, ...] = ()

    def row_shape(self, tensor: TensorInfo) -> tuple[int, ...]:
        """The shape of one entry of a batch; of a model that does not batch, that of the tensor."""
        return tensor.shape[1:] if self.max_batch_size else tensor.shape


@dataclass(frozen=True)
class ServerTimes:
    """Cumulative statistics of one model: (count, nanoseconds) by part, and counts of inferences and executions.

    ``batches``: how many executions there were of each batch size; empty where the server does not tell.
    """

    parts: Mapping[str, tuple[int, int]]
    inferences: int
    executions: int
    batches: Mapping[int, int] = field(default_factory=dict)

    def minus(self, before: ServerTimes) -> ServerTimes:
        """What has come since ``before``."""
        parts = {
            name: (count - before.parts[name][0], ns - before.parts[name][1])
            for name, (count, ns) in self.parts.items()
        }
        since = {size: count - before.batches.get(size, 0) for size, count in self.batches.items()}
        batches = {size: count for size, count in sorted(since.items()) if count > 0}
        return ServerTimes(parts, self.inferences - before.inferences, self.executions - before.executions, batches)


class Target(ABC):
    """A server and a model on it. Errors are PyinferError, with the server's own words where it has any."""

    def __init__(self, url: str, model: str, version: str, tls: TlsSettings | None = None) -> None:
        self.url, self.model, self.version = url, model, version
        host, _, port = url.rpartition(":")
        self.host = host.strip("[]")
        if not self.host or not port.isdigit() or not 0 < int(port) < 65536:
            raise Unavailable(f"'{url}' is not HOST:PORT")
        self.port = int(port)
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise Unavailable(f"the host '{self.host}' is unknown: {error.strerror}") from None
        #: in digits; IPv4 where there is one, as tools for Triton do
        self.address = str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
        self.tls = None if tls is None else Tls(tls, self.host, is_grpc=isinstance(self, GrpcTarget))

    @abstractmethod
    def metadata(self) -> Mapping[str, Any]:
        """ModelMetadataResponse. Raises PyinferError, as do the next two."""

    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """ModelConfig."""

    @abstractmethod
    def model_stats(self) -> Sequence[Mapping[str, Any]]:
        """ModelStatistics of each version."""

    @abstractmethod
    def live(self) -> bool:
        """Whether the server answers; False where it can not be asked."""

    @abstractmethod
    def load_model(self, config: str = "") -> None:
        """Load the model, with ``config`` (JSON) in place of its own.

        Raises ModelError with the server's words, Unavailable where it can not be asked.
        """

    @abstractmethod
    def unload_model(self) -> None:
        """Unload the model. Raises as :meth:`load_model`."""

    @abstractmethod
    def register_memory(self, name: str, key: str, size: int) -> None:
        """Have the server open system shared memory."""

    @abstractmethod
    def register_device_memory(self, name: str, handle: bytes, device: int, size: int) -> None:
        """Have the server open memory of a CUDA device."""

    @abstractmethod
    def unregister_memory(self, kind: str, name: str) -> None:
        """Have it forget that again. ``kind`` is ``system`` or ``cuda``."""

    @abstractmethod
    def set_trace(self, settings: Mapping[str, Sequence[str]]) -> None:
        """Change settings of the model's tracing."""

    def info(self) -> ModelInfo:
        """Metadata and, where the server knows it, configuration of the model."""
        metadata = self.metadata()
        try:
            config = self.config()
        except PyinferError:  # an extension; MLServer, for one, does not have it
            config = {}
        inputs, outputs = (
            tuple(
                TensorInfo(one["name"], one["datatype"], tuple(int(dim) for dim in one["shape"]))
                for one in metadata.get(kind, ())
            )
            for kind in ("inputs", "outputs")
        )
        return ModelInfo(
            inputs,
            tuple(one.name for one in outputs),
            int(config.get("max_batch_size", 0)),
            "sequence_batching" in config,
            bool(config.get("model_transaction_policy", {}).get("decoupled", False)),
            frozenset(one["name"] for one in config.get("input", ()) if one.get("optional")),
            outputs,
            tuple(str(step["model_name"]) for step in config.get("ensemble_scheduling", {}).get("step", ())),
        )

    def statistics(self) -> ServerTimes | None:
        """Of the version that is asked, or of all together; None where the server has no such extension."""
        try:
            versions = self.model_stats()
        except PyinferError:
            return None
        if not versions:
            return None
        sums = {part: [0, 0] for part in _PARTS}
        batches: Counter[int] = Counter()
        for one in versions:
            for part in _PARTS:
                entry = one.get("inference_stats", {}).get(part, {})
                sums[part][0] += int(entry.get("count", 0))
                sums[part][1] += int(entry.get("ns", 0))
            for entry in one.get("batch_stats", ()):
                batches[int(entry.get("batch_size", 0))] += int(entry.get("compute_infer", {}).get("count", 0))
        return ServerTimes(
            {part: (count, ns) for part, (count, ns) in sums.items()},
            sum(int(one.get("inference_count", 0)) for one in versions),
            sum(int(one.get("execution_count", 0)) for one in versions),
            batches,
        )


class HttpTarget(Target):
    """A server and a model, asked over HTTP/1.1."""

    def path(self, tail: str = "") -> str:
        """Of the model, with ``tail`` after it."""
        version = f"/versions/{quote(self.version, safe='')}" if self.version else ""
        return f"/v2/models/{quote(self.model, safe='')}{version}{tail}"

    def metadata(self) -> Mapping[str, Any]:
        return self._get(self.path())

    def config(self) -> Mapping[str, Any]:
        return self._get(self.path("/config"))

    def model_stats(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._get(self.path("/stats")).get("model_stats", ())
        return found

    def live(self) -> bool:
        try:
            return self._answer("GET", "/v2/health/live")[0] == 200
        except Unavailable:
            return False

    def load_model(self, config: str = "") -> None:
        self._control("load", {"config": config} if config else {})

    def unload_model(self) -> None:
        self._control("unload", {})

    def _control(self, verb: str, parameters: Mapping[str, str]) -> None:
        path = f"/v2/repository/models/{quote(self.model, safe='')}/{verb}"
        status, said, _ = self._answer("POST", path, {"parameters": parameters}, _LOAD_TIMEOUT_S)
        if status != 200:
            raise ModelError(said)

    def register_memory(self, name: str, key: str, size: int) -> None:
        self._ask("POST", f"/v2/systemsharedmemory/region/{name}/register", {"key": key, "byte_size": size})

    def register_device_memory(self, name: str, handle: bytes, device: int, size: int) -> None:
        raw = {"b64": base64.b64encode(handle).decode()}
        sent = {"raw_handle": raw, "device_id": device, "byte_size": size}
        self._ask("POST", f"/v2/cudasharedmemory/region/{name}/register", sent)

    def unregister_memory(self, kind: str, name: str) -> None:
        self._ask("POST", f"/v2/{kind}sharedmemory/region/{name}/unregister", {})

    def set_trace(self, settings: Mapping[str, Sequence[str]]) -> None:
        # a level is a list, all else is one text
        sent = {name: list(values) if name == "trace_level" else values[0] for name, values in settings.items()}
        self._ask("POST", f"/v2/models/{quote(self.model, safe='')}/trace/setting", sent)

    def _get(self, path: str) -> dict[str, Any]:
        parsed = self._ask("GET", path)
        if not isinstance(parsed, dict):
            raise Unavailable(f"the server has answered no JSON to {path}")
        return parsed

    def _ask(self, method: str, path: str, sent: Mapping[str, Any] | None = None) -> Any:
        """The body of an answer 200: as JSON, None where it is none."""
        status, said, parsed = self._answer(method, path, sent)
        if status == 200:
            return parsed
        raise Unavailable(said)

    def _answer(
        self, method: str, path: str, sent: Mapping[str, Any] | None = None, timeout_s: float = _TIMEOUT_S
    ) -> tuple[int, str, Any]:
        """(status, the server's words if it is an error, the body as JSON). Raises Unavailable without an answer."""
        if self.tls is None:
            connection = http.client.HTTPConnection(self.address, self.port, timeout=timeout_s)
        else:
            connection = self.tls.connection(self.address, self.port, timeout_s)
        try:
            content = None if sent is None else json.dumps(sent)
            connection.request(method, path, content, {"Host": self.url})
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self.tls is not None:
                raise Unavailable(
                    f"the server at {self.url} can not be asked over HTTPS: {Tls.reason(error)}"
                ) from None
            reason = getattr(error, "strerror", None) or str(error) or "it does not speak HTTP"
            raise Unavailable(f"the server at {self.url} can not be asked over HTTP: {reason}") from None
        finally:
            connection.close()
        try:
            parsed = json.loads(body)
        except ValueError:
            parsed = None
        said = parsed.get("error") if isinstance(parsed, dict) else None
        return answer.status, str(said or f"the server has answered {answer.status} {answer.reason} to {path}"), parsed


class GrpcTarget(Target):
    """A server and a model, asked over gRPC."""

    def headers(self, method: str, more: Sequence[tuple[str, str]] = ()) -> list[tuple[str, str]]:
        """Those of a call, pseudo-headers first."""
        return [
            (":method", "POST"),
            (":scheme", "http" if self.tls is None else "https"),
            (":path", f"/inference.GRPCInferenceService/{method}"),
            (":authority", self.url),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            ("user-agent", "pyinfer-perf"),
            *((name.lower(), value) for name, value in more),
        ]

    def metadata(self) -> Mapping[str, Any]:
        return self._ask("ModelMetadata")

    def config(self) -> Mapping[str, Any]:
        config: Mapping[str, Any] = self._ask("ModelConfig").get("config", {})
        return config

    def model_stats(self) -> Sequence[Mapping[str, Any]]:
        found: Sequence[Mapping[str, Any]] = self._ask("ModelStatistics").get("model_stats", ())
        return found

    def live(self) -> bool:
        return not self._send("ServerLive", _TIMEOUT_S)[0]

    def load_model(self, config: str = "") -> None:
        parameters = {"config": {"string_param": config}} if config else {}
        self._control("RepositoryModelLoad", parameters=parameters)

    def unload_model(self) -> None:
        self._control("RepositoryModelUnload")

    def _control(self, method: str, **fields: Any) -> None:
        error, _ = self._send(method, _LOAD_TIMEOUT_S, model_name=self.model, **fields)
        if error:
            raise ModelError(error)

    def register_memory(self, name: str, key: str, size: int) -> None:
        self._call("SystemSharedMemoryRegister", name=name, key=key, byte_size=size)

    def register_device_memory(self, name: str, handle: bytes, device: int, size: int) -> None:
        self._call("CudaSharedMemoryRegister", name=name, raw_handle=handle, device_id=device, byte_size=size)

    def unregister_memory(self, kind: str, name: str) -> None:
        self._call(f"{kind.capitalize()}SharedMemoryUnregister", name=name)

    def set_trace(self, settings: Mapping[str, Sequence[str]]) -> None:
        values = {name: {"value": list(each)} for name, each in settings.items()}
        self._call("TraceSetting", model_name=self.model, settings=values)

    def _ask(self, method: str) -> Mapping[str, Any]:
        return self._call(method, name=self.model, version=self.version)

    def _call(self, method: str, **fields: Any) -> Mapping[str, Any]:
        from google.protobuf.json_format import MessageToDict

        error, body = self._send(method, _TIMEOUT_S, **fields)
        if error:
            raise Unavailable(f"the server at {self.url} does not answer {method}: {error}")
        return MessageToDict(message(f"{method}Response").FromString(body), preserving_proto_field_name=True)

    def _send(self, method: str, timeout_s: float, **fields: Any) -> tuple[str, bytes]:
        """(error, message of the answer)"""
        request = message(f"{method}Request")(**fields).SerializeToString()
        tls = self.tls.client if self.tls else None
        return grpc_call(self.address, self.port, self.headers(method), request, timeout_s, tls)


def open_target(
    protocol: str,
    url: str,
    model: str,
    version: str,
    tls: TlsFlags = _NO_FLAGS,
    http_target: type[HttpTarget] = HttpTarget,
) -> HttpTarget | GrpcTarget:
    """The target that ``url`` names: HOST:PORT, or "" for perf_analyzer's default. Connects to nothing.

    A scheme may go before it: http, https (whose port may be missing), grpc or grpcs. Raises PyinferError.
    """
    scheme, separator, rest = url.partition("://")
    scheme = scheme.lower() if separator else ""
    place = (rest if separator else url).rstrip("/")
    if scheme not in ("", protocol, f"{protocol}s"):
        raise Unavailable(f"'{url}' is not what -i {protocol} asks for, {protocol}:// or {protocol}s://")
    if protocol == "grpc":
        settings = tls.grpc if tls.uses_grpc or scheme == "grpcs" else None
        return GrpcTarget(place or "localhost:8001", model, version, settings)
    if scheme == "https" and ":" not in place.rpartition("]")[2]:
        place += ":443"
    return http_target(place or "localhost:8000", model, version, tls.https if scheme == "https" else None)
