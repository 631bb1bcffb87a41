# SPDX-License-Identifier: Apache-2.0
"""The trace and logging extensions, over both protocols."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from differential.case import Call, Case
from differential.corpus.build import call, get, post
from pyinfer.config.messages import message

__all__ = ["grpc_logging", "grpc_trace", "http_logging", "http_trace"]

# Logging

_LOG_VALUES = (
    "true",
    "false",
    "0",
    "1",
    "2",
    "-1",
    "1.5",
    '"x"',
    '"default"',
    '"ISO8601"',
    '""',
    "null",
    "[]",
    "{}",
    str(2**31),
    str(2**32),
)
_LOG_KEYS = ("log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format", "unknown", "")
_LOG_RESET = {"log_info": True, "log_warning": True, "log_error": True, "log_verbose_level": 0, "log_format": "default"}


def http_logging() -> Iterable[Case]:
    yield Case("as it is", get("/v2/logging"))
    for key in _LOG_KEYS:
        for value in _LOG_VALUES:
            yield Case(f"{key}: {value}", post("/v2/logging", f'{{"{key}":{value}}}'))
        yield Case(f"reset after {key}", post("/v2/logging", _LOG_RESET))
    for body in (
        "",
        "{}",
        "[]",
        "null",
        "x",
        "{",
        '{"log_info":false,"log_error":false}',
        '{"log_info":false,"log_info":true}',
        '{"log_info":true,"unknown":1}',
    ):
        yield Case(f"body {body}", post("/v2/logging", body))
        yield Case(f"after {body}", get("/v2/logging"))
    for path in ("/v2/logging/", "/v2/models/fp32/logging", "/v2/logging/setting"):
        yield Case(path, get(path))
    yield Case("reset", post("/v2/logging", _LOG_RESET))


def grpc_logging() -> Iterable[Case]:
    values: tuple[tuple[str, object], ...] = (
        ("bool_param", True),
        ("bool_param", False),
        ("uint32_param", 0),
        ("uint32_param", 1),
        ("uint32_param", 2**32 - 1),
        ("string_param", "x"),
        ("string_param", "default"),
        ("string_param", "ISO8601"),
        ("string_param", ""),
        ("", None),
    )
    yield Case("as it is", call("LogSettings"))
    for key in _LOG_KEYS:
        for kind, value in values:
            yield Case(f"{key}: {kind} {value}", _log(**{key: (kind, value)}))
        yield Case(f"reset after {key}", _log_reset())


def _log_reset() -> Call:
    flags: dict[str, tuple[str, object]] = {
        f"log_{level}": ("bool_param", True) for level in ("info", "warning", "error")
    }
    return _log(**flags, log_verbose_level=("uint32_param", 0), log_format=("string_param", "default"))


def _log(**settings: tuple[str, object]) -> Call:
    request: Any = message("LogSettingsRequest")()
    for key, (kind, value) in settings.items():
        request.settings[key].SetInParent()
        if kind:
            setattr(request.settings[key], kind, value)
    return Call("LogSettings", request.SerializeToString())


# Trace

_TRACE: dict[str, tuple[object, ...]] = {
    "trace_level": (
        ["OFF"],
        ["TIMESTAMPS"],
        ["TENSORS"],
        ["TIMESTAMPS", "TENSORS"],
        ["OFF", "TIMESTAMPS"],
        ["MAX"],
        ["MIN"],
        ["x"],
        [],
        "OFF",
        "",
        None,
        1,
        {},
        [1],
        ["TIMESTAMPS", "TIMESTAMPS"],
    ),
    "trace_rate": ("1", "0", "1000", "-1", "x", "", "1.5", "4294967296", 5, None, [], ["1"], ["1", "2"]),
    "trace_count": ("-1", "0", "5", "-2", "x", "", 5, None, []),
    "log_frequency": ("0", "1", "-1", "x", "", 5, None, []),
    "trace_file": ("x", "", None, 5),
    "trace_mode": ("triton", "opentelemetry", "x", "", None, 5),
    "unknown": ("x", None),
}
_TRACE_RESET = {"trace_level": ["OFF"], "trace_rate": "1000", "trace_count": "-1", "log_frequency": "0"}


def http_trace() -> Iterable[Case]:
    for place, target in (("all", "/v2/trace/setting"), ("a model", "/v2/models/fp32/trace/setting")):
        yield Case(f"{place}: as it is", get(target))
        for key, values in _TRACE.items():
            for value in values:
                yield Case(f"{place}: {key}: {json.dumps(value)}", post(target, {key: value}))
            yield Case(f"{place}: reset after {key}", post(target, _TRACE_RESET))
        yield Case(f"{place}: as it is now", get(target))
        for body in (
            "",
            "{}",
            "[]",
            "null",
            "x",
            "{",
            '{"trace_rate":"1","trace_rate":"2"}',
            '{"trace_rate":"1","unknown":"2"}',
        ):
            yield Case(f"{place}: body {body}", post(target, body))
        yield Case(f"{place}: reset", post(target, _TRACE_RESET if place == "all" else dict.fromkeys(_TRACE_RESET)))
        yield Case(f"{place}: after the reset", get(target))
    for path in (
        "/v2/trace",
        "/v2/trace/setting/",
        "/v2/trace/settings",
        "/v2/models/fp32/trace",
        "/v2/models/fp32/versions/1/trace/setting",
        "/v2/models/unknown/trace/setting",
    ):
        yield Case(f"GET {path}", get(path))
        yield Case(f"POST {path}", post(path, {"trace_rate": "5"}))


def grpc_trace() -> Iterable[Case]:
    reset = {key: [value] if isinstance(value, str) else list(value) for key, value in _TRACE_RESET.items()}
    for model in ("", "fp32", "unknown"):
        place = model or "all"
        yield Case(f"{place}: as it is", _trace(model))
        for key, values in _TRACE.items():
            lists = [value if isinstance(value, list) else [value] for value in values if isinstance(value, list | str)]
            given = [["5"], [], *(texts for texts in lists if all(isinstance(text, str) for text in texts))]
            for texts in dict.fromkeys(map(tuple, given)):
                yield Case(f"{place}: {key}: {texts}", _trace(model, **{key: list(texts)}))
            yield Case(f"{place}: reset after {key}", _trace(model, **reset))
        taken_back: dict[str, list[str]] = {key: [] for key in reset}
        yield Case(f"{place}: reset", _trace(model, **(taken_back if model else reset)))
        yield Case(f"{place}: after the reset", _trace(model))


def _trace(model: str = "", **settings: list[str]) -> Call:
    request: Any = message("TraceSettingRequest")(model_name=model)
    for key, value in settings.items():
        request.settings[key].SetInParent()
        request.settings[key].value.extend(value)
    return Call("TraceSetting", request.SerializeToString())
