# SPDX-License-Identifier: Apache-2.0
"""The one table of what the server offers: verb, HTTP routes, RPC, messages, restriction category and handler.

HTTP routes, RPCs and restrictions are all derived from :data:`ENDPOINTS`. A handler is handed plain arguments and
returns a plain value in Triton's JSON form; this module does NOT read or write any wire format.

Longer than 400 lines: the table is read as a whole, with the handlers that it names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol
from urllib.parse import unquote_to_bytes

from pyinfer.errors import InvalidArgument, Unsupported
from pyinfer.frontends.bounded import BoundedCache
from pyinfer.service import Service

__all__ = [
    "ENDPOINTS",
    "GRPC_SERVICE",
    "INFERENCES",
    "RPCS",
    "Answer",
    "Arguments",
    "Endpoint",
    "Match",
    "Router",
    "Written",
]

GRPC_SERVICE = "inference.GRPCInferenceService"


class Written(Protocol):
    """What is written without being a plain value before: asked for often, or long."""

    def json(self) -> bytes: ...
    def message(self) -> bytes:
        """The response message."""


class Answer(Enum):
    """How HTTP shows the value of a handler; gRPC always sends it as the response message."""

    FLAG = "flag"  # one boolean: 200 or 400 with an empty body
    JSON = "json"
    EMPTY = "empty"  # 200 with an empty body
    INNER = "inner"  # the value of the response message's one field
    INFER = "infer"  # not a handler: the core does it, here and in the next two
    GENERATE = "generate"  # over HTTP only
    GENERATE_STREAM = "generate_stream"  # over HTTP only
    VALUES = "values"  # the values of the response message's one map
    STREAM = "stream"  # not a handler: over gRPC only, with any number of messages
    WRITTEN = "written"  # a Written, over gRPC as well
    SETTINGS = "settings"  # the values of the response message's settings, without the names of their types


@dataclass(frozen=True)
class Arguments:
    """What a control request says, whichever protocol it came by. Absent texts are empty."""

    model: str = ""
    version: str = ""
    repository: str = ""
    #: of shared memory
    region: str = ""
    ready: bool = False
    #: what else a registration says, by the names of its message's fields
    members: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    #: of the trace and logging extensions, by name: over HTTP what the JSON says, over gRPC the value, or a list of
    #: values where the message has that; empty where none is set
    settings: Mapping[str, Any] = field(default_factory=dict)


def _unreachable(service: Service, arguments: Arguments) -> Any:
    raise AssertionError("inference does not pass through a handler")


@dataclass(frozen=True)
class Endpoint:
    """One thing that a client can ask for."""

    #: the method of the RPC, after the service's name; empty where HTTP alone has the endpoint
    rpc: str
    verb: str
    #: templates of the path; ``{model}`` and ``{repository}`` stand for one segment, ``{version}`` for digits
    routes: tuple[str, ...]
    #: the group that ``--http-restricted-api`` and ``--grpc-restricted-protocol`` name
    category: str
    answer: Answer
    #: (service, arguments) -> the fields of the response message, a dict; or a :class:`Written`
    handle: Callable[[Service, Arguments], Any] = _unreachable
    #: whether it may take long, so that it must not run on the loop thread
    blocking: bool = False
    #: whether the answer may depend on a model's own code: then the same holds
    asks_models: bool = False
    #: whether it may be about all models: then the same holds where these are many
    of_all: bool = False
    #: whether the body of a POST says anything
    reads_body: bool = True
    grpc_service: str = GRPC_SERVICE
    #: full names of the messages; made from ``rpc`` where empty
    request: str = ""
    response: str = ""

    def blocks(self, service: Service) -> bool:
        """Whether :attr:`handle` must not run on the loop thread now."""
        return (
            self.blocking or (self.asks_models and service.asks_models()) or (self.of_all and service.has_many_models())
        )

    @property
    def grpc_path(self) -> str:
        return f"/{self.grpc_service}/{self.rpc}"

    @property
    def request_message(self) -> str:
        return self.request or f"inference.{self.rpc}Request"

    @property
    def response_message(self) -> str:
        return self.response or f"inference.{self.rpc}Response"


def _no_repository(arguments: Arguments) -> None:
    if arguments.repository:
        raise Unsupported("'repository_name' specification is not supported")


def _server_live(service: Service, arguments: Arguments) -> dict[str, Any]:
    return {"live": service.live()}


def _server_ready(service: Service, arguments: Arguments) -> dict[str, Any]:
    return {"ready": service.ready()}


def _health_check(service: Service, arguments: Arguments) -> dict[str, Any]:
    return {"status": "SERVING" if service.ready() else "NOT_SERVING"}


def _model_ready(service: Service, arguments: Arguments) -> dict[str, Any]:
    return {"ready": service.model_ready(arguments.model, arguments.version)}


def _server_metadata(service: Service, arguments: Arguments) -> dict[str, Any]:
    return service.server_metadata()


def _model_metadata(service: Service, arguments: Arguments) -> dict[str, Any]:
    return service.model_metadata(arguments.model, arguments.version)


def _model_config(service: Service, arguments: Arguments) -> dict[str, Any]:
    return {"config": service.model_config(arguments.model, arguments.version)}


def _statistics(service: Service, arguments: Arguments) -> Written:
    return service.statistics(arguments.model, arguments.version)


def _index(service: Service, arguments: Arguments) -> dict[str, Any]:
    _no_repository(arguments)
    return {"models": service.repository_index(arguments.ready)}


def _load(service: Service, arguments: Arguments) -> dict[str, Any]:
    _no_repository(arguments)
    service.load_model(arguments.model, arguments.parameters)
    return {}


def _unload(service: Service, arguments: Arguments) -> dict[str, Any]:
    _no_repository(arguments)
    service.unload_model(arguments.model, arguments.parameters.get("unload_dependents", False))
    return {}


def _log_settings(service: Service, arguments: Arguments) -> dict[str, Any]:
    service.update_log_settings(arguments.settings)
    types: dict[type, str] = {bool: "bool_param", int: "uint32_param", str: "string_param"}
    return {"settings": {name: {types[type(value)]: value} for name, value in service.log_settings().items()}}


def _memory_status(kind: str) -> Callable[[Service, Arguments], dict[str, Any]]:
    return lambda service, arguments: {"regions": service.shared_memory.status(kind, arguments.region)}


def _register_system(service: Service, arguments: Arguments) -> dict[str, Any]:
    service.shared_memory.register_system(arguments.region, arguments.members)
    return {}


def _register_cuda(service: Service, arguments: Arguments) -> dict[str, Any]:
    service.shared_memory.register_cuda(arguments.region, arguments.members)
    return {}


def _unregister(kind: str) -> Callable[[Service, Arguments], dict[str, Any]]:
    def handle(service: Service, arguments: Arguments) -> dict[str, Any]:
        service.shared_memory.unregister(kind, arguments.region)
        return {}

    return handle


def _memory(kind: str, action: str) -> tuple[str, str]:
    """For one region, and for all; a registration without a name is refused as such."""
    return f"/v2/{kind}sharedmemory/region/{{region}}/{action}", f"/v2/{kind}sharedmemory/{action}"


_SHM = "shared-memory"


def _trace_settings(service: Service, arguments: Arguments) -> dict[str, Any]:
    if arguments.settings:
        service.update_trace_settings(arguments.model, arguments.settings)
    shown = service.trace_settings(arguments.model)
    return {"settings": {name: {"value": values} for name, values in shown.items()}}


def _by_model(tail: str) -> tuple[str, str]:
    return f"/v2/models/{{model}}{tail}", f"/v2/models/{{model}}/versions/{{version}}{tail}"


def _stream(rpc: str, category: str, package: str, service: str, message: str) -> Endpoint:
    """An RPC that streams, which HTTP has no form for."""
    return Endpoint(
        rpc,
        "GET",
        (),
        category,
        Answer.STREAM,
        grpc_service=f"{package}.{service}",
        request=f"{package}.{message}Request",
        response=f"{package}.{message}Response",
    )


def _control(action: str) -> tuple[str, str]:
    return f"/v2/repository/models/{{model}}/{action}", f"/v2/repository/{{repository}}/models/{{model}}/{action}"


_TRACE = ("/v2/trace/setting", "/v2/models/{model}/trace/setting")

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("ModelInfer", "POST", _by_model("/infer"), "inference", Answer.INFER),
    Endpoint("ModelStreamInfer", "POST", (), "inference", Answer.INFER, request="inference.ModelInferRequest"),
    Endpoint("", "POST", _by_model("/generate"), "inference", Answer.GENERATE),
    Endpoint("", "POST", _by_model("/generate_stream"), "inference", Answer.GENERATE_STREAM),
    Endpoint("ServerLive", "GET", ("/v2/health/live",), "health", Answer.FLAG, _server_live),
    Endpoint("ServerReady", "GET", ("/v2/health/ready",), "health", Answer.FLAG, _server_ready, asks_models=True),
    Endpoint(
        "Check",
        "GET",
        (),
        "health",
        Answer.JSON,
        _health_check,
        asks_models=True,
        grpc_service="grpc.health.v1.Health",
        request="grpc.health.v1.HealthCheckRequest",
        response="grpc.health.v1.HealthCheckResponse",
    ),
    _stream("Watch", "health", "grpc.health.v1", "Health", "HealthCheck"),
    _stream("ServerReflectionInfo", "metadata", "grpc.reflection.v1", "ServerReflection", "ServerReflection"),
    _stream("ServerReflectionInfo", "metadata", "grpc.reflection.v1alpha", "ServerReflection", "ServerReflection"),
    Endpoint("ModelReady", "GET", _by_model("/ready"), "health", Answer.FLAG, _model_ready, asks_models=True),
    Endpoint("ServerMetadata", "GET", ("/v2",), "metadata", Answer.JSON, _server_metadata),
    # a model of the name "stats" is hidden by the statistics of all models, as it is in Triton
    Endpoint(
        "ModelStatistics",
        "GET",
        ("/v2/models/stats", *_by_model("/stats")),
        "statistics",
        Answer.WRITTEN,
        _statistics,
        of_all=True,
    ),
    Endpoint("ModelMetadata", "GET", _by_model(""), "metadata", Answer.JSON, _model_metadata),
    Endpoint("ModelConfig", "GET", _by_model("/config"), "model-config", Answer.INNER, _model_config),
    Endpoint(
        "RepositoryIndex",
        "POST",
        ("/v2/repository/index", "/v2/repository/{repository}/index"),
        "model-repository",
        Answer.INNER,
        _index,
        blocking=True,
    ),
    Endpoint("RepositoryModelLoad", "POST", _control("load"), "model-repository", Answer.EMPTY, _load, blocking=True),
    Endpoint(
        "RepositoryModelUnload", "POST", _control("unload"), "model-repository", Answer.EMPTY, _unload, blocking=True
    ),
    Endpoint(
        "SystemSharedMemoryStatus", "GET", _memory("system", "status"), _SHM, Answer.VALUES, _memory_status("system")
    ),
    Endpoint("CudaSharedMemoryStatus", "GET", _memory("cuda", "status"), _SHM, Answer.VALUES, _memory_status("cuda")),
    Endpoint(
        "SystemSharedMemoryRegister",
        "POST",
        _memory("system", "register"),
        _SHM,
        Answer.EMPTY,
        _register_system,
        blocking=True,
    ),
    Endpoint(
        "CudaSharedMemoryRegister",
        "POST",
        _memory("cuda", "register"),
        _SHM,
        Answer.EMPTY,
        _register_cuda,
        blocking=True,
    ),
    Endpoint(
        "SystemSharedMemoryUnregister",
        "POST",
        _memory("system", "unregister"),
        _SHM,
        Answer.EMPTY,
        _unregister("system"),
        blocking=True,
        reads_body=False,
    ),
    Endpoint(
        "CudaSharedMemoryUnregister",
        "POST",
        _memory("cuda", "unregister"),
        _SHM,
        Answer.EMPTY,
        _unregister("cuda"),
        blocking=True,
        reads_body=False,
    ),
    # GET can not bring settings to change; over gRPC both are one
    Endpoint("TraceSetting", "GET", _TRACE, "trace", Answer.SETTINGS, _trace_settings),
    Endpoint("TraceSetting", "POST", _TRACE, "trace", Answer.SETTINGS, _trace_settings),
    Endpoint("LogSettings", "GET", ("/v2/logging",), "logging", Answer.SETTINGS, _log_settings),
    Endpoint("LogSettings", "POST", ("/v2/logging",), "logging", Answer.SETTINGS, _log_settings),
)

#: those that gRPC has
RPCS = tuple(endpoint for endpoint in ENDPOINTS if endpoint.rpc)

#: answers that the core gives, without a handler
INFERENCES = frozenset((Answer.INFER, Answer.GENERATE, Answer.GENERATE_STREAM))

_DIGITS = re.compile(rb"[0-9]+")
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ABSOLUTE = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f/\\]")


@dataclass(frozen=True)
class Match:
    """What a path stands for: its endpoints by verb, and the names in it. ``problem``: why these can not be names."""

    endpoints: Mapping[bytes, Endpoint]
    arguments: Arguments
    problem: str = ""

    @property
    def allow(self) -> str:
        return ", ".join(sorted(verb.decode() for verb in self.endpoints))

    @property
    def category(self) -> str:
        """The group that the path belongs to, whatever the verb."""
        return next(iter(self.endpoints.values())).category


def _decode(raw: bytes) -> str:
    """The text of a percent-encoded segment. Raises InvalidArgument where it is none."""
    if _BAD_ESCAPE.search(raw):
        raise InvalidArgument("malformed percent-encoding in the URL")
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidArgument("the URL is not UTF-8") from None


def _decode_name(raw: bytes) -> str:
    """The name of a model, a version or a repository: part of a path on disk. Raises InvalidArgument for others."""
    name = _decode(raw)
    if _FORBIDDEN.search(name) or name in (".", ".."):
        raise InvalidArgument(
            f"invalid model name '{name[:256]}', model name must not contain path traversal or control characters"
        )
    return name


class Router:
    """Resolves request targets. Loop thread only.

    A path matches a template as a whole; answers are cached by the raw bytes of the target.
    """

    __slots__ = ("_cache", "_templates")

    def __init__(self, endpoints: tuple[Endpoint, ...] = ENDPOINTS, *, cache_size: int = 1024) -> None:
        self._templates = [
            (tuple(route.encode().split(b"/")), endpoint) for endpoint in endpoints for route in endpoint.routes
        ]
        self._cache: BoundedCache[bytes, Match] = BoundedCache(cache_size)

    def resolve(self, target: bytes) -> Match | None:
        """What ``target`` (as it stood in the request line) means; None for an unknown path."""
        match = self._cache.get(target)
        if match is None:
            match = self._find(target)
            if match is not None and len(target) <= 1024:
                self._cache.put(target, match)
        return match

    def _find(self, target: bytes) -> Match | None:
        absolute = _ABSOLUTE.match(target)
        path = target[absolute.end() :] if absolute else target
        segments = path.split(b"?", 1)[0].split(b"/")
        found: dict[bytes, Endpoint] = {}
        names: dict[str, bytes] = {}
        for template, endpoint in self._templates:
            values = _match(template, segments)
            if values is not None and (not found or values == names):
                names = values
                found.setdefault(endpoint.verb.encode(), endpoint)
        if not found:
            return None
        try:
            decoded = {key: (_decode if key == "region" else _decode_name)(value) for key, value in names.items()}
        except InvalidArgument as error:
            return Match(found, Arguments(), str(error))
        return Match(
            found,
            Arguments(
                decoded.get("model", ""),
                decoded.get("version", ""),
                decoded.get("repository", ""),
                decoded.get("region", ""),
            ),
        )


def _match(template: tuple[bytes, ...], segments: list[bytes]) -> dict[str, bytes] | None:
    if len(template) != len(segments):
        return None
    values: dict[str, bytes] = {}
    for wanted, given in zip(template, segments, strict=True):
        if wanted[:1] == b"{":
            if not given or (wanted == b"{version}" and _DIGITS.fullmatch(given) is None):
                return None
            values[wanted[1:-1].decode()] = given
        elif wanted != given:
            return None
    return values
