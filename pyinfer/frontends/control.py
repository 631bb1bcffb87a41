# SPDX-License-Identifier: Apache-2.0
"""Control requests in the dialect of HTTP: targets to endpoints, JSON to arguments, values and errors to answers.

It does NOT know connections; inference only passes as a name, the core does the rest.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from hmac import compare_digest
from typing import Any

from pyinfer._core import error_table
from pyinfer.config.restrictions import NO_RESTRICTIONS, Restrictions
from pyinfer.errors import InvalidArgument, PyinferError
from pyinfer.frontends.endpoints import INFERENCES, Answer, Arguments, Endpoint, Router
from pyinfer.frontends.head import Action, Result
from pyinfer.service import Service

__all__ = ["JSON_HEADERS", "ApiSite", "FixedAction", "error_body", "error_result", "refusal"]

_log = logging.getLogger(__name__)

JSON_HEADERS = (("Content-Type", "application/json"),)
_STATUS = {code: statuses[0] for code, statuses in error_table().items()}

_dump = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
#: items of a list
_LONG = 64

#: settings of tracing that are lists over gRPC alone
_PLAIN_SETTINGS = {"log_frequency", "trace_count", "trace_rate"}


def error_body(text: str) -> bytes:
    """The one form of errors over HTTP."""
    return _dump({"error": text}).encode("utf-8", "replace")


def error_result(status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Result:
    return Result(status, error_body(text), (*JSON_HEADERS, *headers))


class FixedAction(Action):
    """Always the same answer, whatever the body says."""

    __slots__ = ("_result",)

    def __init__(self, result: Result) -> None:
        super().__init__()
        self._result = result

    def run(self, body: bytes) -> Result:
        return self._result


def refusal(verb: bytes, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> FixedAction:
    """An error, without a body for HEAD: its answers have none."""
    result = error_result(status, text, headers)
    return FixedAction(Result(status, None, result.headers) if verb == b"HEAD" else result)


class _ControlAction(Action):
    """A call of the service."""

    __slots__ = ("_arguments", "_endpoint", "_service", "_target")

    def __init__(self, service: Service, endpoint: Endpoint, arguments: Arguments, target: bytes) -> None:
        super().__init__()
        self._service, self._endpoint, self._arguments, self._target = service, endpoint, arguments, target

    def blocks(self) -> bool:
        return self._endpoint.blocks(self._service)

    def run(self, body: bytes) -> Result:
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("HTTP request: %s %s", self._endpoint.verb, self._target.decode("latin-1"))
        try:
            arguments = self._arguments
            endpoint = self._endpoint
            if endpoint.verb == "POST" and endpoint.reads_body and (body or endpoint.answer is Answer.SETTINGS):
                arguments = _with_body(endpoint, arguments, body)
            return _result(endpoint, endpoint.handle(self._service, arguments))
        except PyinferError as error:
            return error_result(_STATUS[error.http_code or error.code], str(error))
        except Exception:
            _log.exception("%s failed", self._endpoint.rpc)
            return error_result(500, "internal error")


def _with_body(endpoint: Endpoint, arguments: Arguments, body: bytes) -> Arguments:
    document = _parse(body)
    if not isinstance(document, dict):
        raise InvalidArgument("failed to parse the request JSON buffer: the request must be a JSON object at 0")
    if endpoint.answer is Answer.SETTINGS:
        for name in _PLAIN_SETTINGS & document.keys():
            if isinstance(document[name], list):
                raise InvalidArgument(f"expect string for '{name}'")
        return replace(arguments, settings=document)
    if endpoint.rpc == "RepositoryIndex":
        ready = document.get("ready", False)
        if not isinstance(ready, bool):
            raise InvalidArgument("Invalid value for 'ready': expected a boolean")
        return replace(arguments, ready=ready)
    parameters = document.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InvalidArgument("Invalid value for 'parameters': expected an object")
    return replace(arguments, parameters=parameters, members=document)


def _refuse_constant(name: str) -> Any:
    raise InvalidArgument(f"failed to parse the request JSON buffer: {name} is not JSON")


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise InvalidArgument("failed to parse the request JSON buffer: Duplicate member name in the request.")
    return document


# What Python's json would take: NaN, Infinity, and the last one of several members of a name.
_loads = partial(json.loads, parse_constant=_refuse_constant, object_pairs_hook=_refuse_duplicates)


def _parse(body: bytes) -> Any:
    try:
        return _loads(body.decode())
    except UnicodeDecodeError as error:
        raise InvalidArgument(f"failed to parse the request JSON buffer: invalid UTF-8 at {error.start}") from None
    except json.JSONDecodeError as error:
        raise InvalidArgument(f"failed to parse the request JSON buffer: {error.msg} at {error.pos}") from None
    except RecursionError:
        raise InvalidArgument("failed to parse the request JSON buffer: nested too deeply") from None
    except ValueError as error:  # integers of thousands of digits
        raise InvalidArgument(f"failed to parse the request JSON buffer: {error}") from None


def _result(endpoint: Endpoint, value: Any) -> Result:
    if endpoint.answer is Answer.WRITTEN:
        return Result(200, value.json(), JSON_HEADERS)
    if endpoint.answer is Answer.FLAG:
        if all(value.values()):
            return Result(200)
        if endpoint.rpc == "ModelReady":
            return error_result(400, "Model version not ready")
        return Result(400)
    if endpoint.answer is Answer.EMPTY:
        return Result(200)
    shown: Any = value
    if endpoint.answer is Answer.INNER:
        shown = next(iter(value.values()))
    elif endpoint.answer is Answer.VALUES:
        shown = list(next(iter(value.values())).values())
    elif endpoint.answer is Answer.SETTINGS:
        shown = {name: _shown_setting(name, next(iter(typed.values()))) for name, typed in value["settings"].items()}
    return Result(200, _text(shown).encode(), JSON_HEADERS)


def _text(value: Any) -> str:
    """The JSON of ``value``; of long lists, each item for itself: in one go no other thread could run meanwhile."""
    if isinstance(value, list) and len(value) > _LONG:
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict) and len(value) == 1:
        return "".join(f"{{{_dump(key)}:{_text(inner)}}}" for key, inner in value.items())
    return _dump(value)


def _shown_setting(name: str, value: Any) -> Any:
    """A setting as JSON shows it: lists of texts are joined, but for the levels, which are an array."""
    return ",".join(value) if isinstance(value, list) and name != "trace_level" else value


class ApiSite:
    """What the HTTP port offers: the endpoint table over one service."""

    def __init__(self, service: Service, restrictions: Restrictions = NO_RESTRICTIONS) -> None:
        """``restrictions``: category of endpoints -> name and value of the header that a request must have."""
        self._service = service
        self._router = Router()
        self._restrictions = {
            category: (key, key.lower().encode(), value.encode()) for category, (key, value) in restrictions.items()
        }

    def resolve(self, verb: bytes, target: bytes, fields: Mapping[bytes, bytes]) -> Action:
        match = self._router.resolve(target)
        if match is None:
            return refusal(verb, 404, "Not Found")
        restriction = self._restrictions.get(match.category)
        if restriction is not None:
            shown, name, value = restriction
            if not compare_digest(fields.get(name, b""), value):
                return refusal(verb, 403, f"This API is restricted, expecting header '{shown}'")
        endpoint = match.endpoints.get(verb)
        if endpoint is None:
            return refusal(verb, 405, "Method Not Allowed", (("Allow", match.allow),))
        if match.problem:
            return FixedAction(error_result(400, match.problem))
        if endpoint.answer in INFERENCES:
            return Action(model=match.arguments.model, version=match.arguments.version, kind=endpoint.answer.value)
        return _ControlAction(self._service, endpoint, match.arguments, target)
