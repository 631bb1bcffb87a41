# SPDX-License-Identifier: Apache-2.0
"""What the command line says about tracing: ``--trace-config`` and the flags that it replaced.

Pure: no file and no environment is looked at. It does NOT know what tracing does with its options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pyinfer.config.flags import integer

__all__ = ["LEVELS", "TraceOptions", "read_trace_options", "trace_level"]

#: what may be traced, by the names of the trace extension
LEVELS = ("TIMESTAMPS", "TENSORS")

_MODES = ("triton", "opentelemetry")
_OFF = frozenset(("off", "false"))
_TIMESTAMPS = frozenset(("timestamps", "true", "on", "min", "max"))
_UINT32 = integer(0, 2**32 - 1)
_COUNT = integer(-1, 2**31 - 1)


@dataclass(frozen=True)
class TraceOptions:
    """How requests are traced from the start. Immutable."""

    mode: str = "triton"
    #: those of LEVELS that are traced, in that order; none: tracing is off
    levels: tuple[str, ...] = ()
    #: one of so many requests is traced; 0, in mode opentelemetry only: those whose client traces them
    rate: int = 1000
    #: traces that are made; -1: any number
    count: int = -1
    #: mode triton: where traces go, and how many into each file (0: all into one)
    file: str = ""
    log_frequency: int = 0
    #: mode opentelemetry: its settings by Triton's names, as given; only ``resource`` may come more than once
    exporter: tuple[tuple[str, str], ...] = ()
    #: what an operator should be told about the flags
    warnings: tuple[str, ...] = field(default=(), compare=False)


def trace_level(text: str) -> str:
    """One of LEVELS, or "OFF", for a value of ``--trace-config level=``. Raises ValueError for any other."""
    plain = text.lower()
    if plain in _OFF:
        return "OFF"
    if plain in _TIMESTAMPS:
        return "TIMESTAMPS"
    if plain == "tensors":
        return "TENSORS"
    raise ValueError(f"invalid value for trace level option: {text}")


def _mode(text: str) -> str:
    if text.lower() in _MODES:
        return text.lower()
    raise ValueError(f'invalid value for trace mode option: {text}. Available options are "triton" and "opentelemetry"')


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected a URL that begins with http:// or https://")
    return text


def _resource(text: str) -> str:
    if not text.partition("=")[0] or "=" not in text:
        raise ValueError("expected <attribute>=<value>")
    return text


def _text(text: str) -> str:
    return text


#: mode ("" for those of all modes) -> setting -> how its value is read
_SETTINGS: dict[str, dict[str, Callable[[str], object]]] = {
    "": {"mode": _mode, "level": trace_level, "rate": _UINT32, "count": _COUNT},
    "triton": {"file": _text, "log-frequency": _UINT32},
    "opentelemetry": {
        "url": _url,
        "resource": _resource,
        "bsp_max_queue_size": integer(1, 2**31 - 1),
        "bsp_schedule_delay": integer(1, 2**31 - 1),
        "bsp_max_export_batch_size": integer(1, 2**31 - 1),
    },
}


@dataclass(frozen=True)
class _Setting:
    """One ``--trace-config``, taken apart and checked."""

    mode: str
    name: str
    text: str
    value: object


def _setting(text: str) -> _Setting:
    mode, comma, rest = text.partition(",")
    if comma and "=" not in mode:
        if not mode:
            raise ValueError(
                "No trace mode specified. --trace-config option format is <trace mode>,<setting>=<value> or "
                f"<setting>=<value>. Got {text}"
            )
        mode = _mode(mode)
    else:
        mode, rest = "", text
    name, _, value = rest.partition("=")
    if not name or not value:
        raise ValueError(f"--trace-config option format is '<trace mode>,<setting>=<value>'. Got {text}")
    known = _SETTINGS[mode]
    if name not in known:
        raise ValueError(f"unknown trace setting '{name}'; known {f'of {mode} ' if mode else ''}are {', '.join(known)}")
    try:
        return _Setting(mode, name, value, known[name](value))
    except ValueError as error:
        raise ValueError(f"{mode + ',' if mode else ''}{name}: {error}") from None


def read_trace_options(
    config: Iterable[str] = (),
    *,
    level: Iterable[str] = (),
    rate: int = 1000,
    count: int = -1,
    file: str = "",
    log_frequency: int = 0,
) -> TraceOptions:
    """The options that the values of ``--trace-config`` ask for, over those of the deprecated flags (the others).

    Raises ValueError, with Triton's text where Triton has one, for a setting that is unknown or out of range.
    """
    settings = [_setting(text) for text in config]
    last = {(one.mode, one.name): one.value for one in settings}
    mode = str(last.get(("", "mode"), "triton"))
    old_levels = [trace_level(text) for text in level]
    levels = [*old_levels, *(str(one.value) for one in settings if one.name == "level")]
    plain = TraceOptions()
    return TraceOptions(
        mode=mode,
        levels=() if "OFF" in levels else tuple(one for one in LEVELS if one in levels),
        rate=int(str(last.get(("", "rate"), rate))),
        count=int(str(last.get(("", "count"), count))),
        file=str(last.get(("triton", "file"), file)),
        log_frequency=int(str(last.get(("triton", "log-frequency"), log_frequency))),
        exporter=_exporter(settings),
        warnings=(
            *(
                _overridden(name)
                for name, given in (
                    ("rate", rate != plain.rate),
                    ("count", count != plain.count),
                    ("level", bool(old_levels)),
                )
                if given and ("", name) in last
            ),
            *_about_file("file", file != plain.file, mode, ("triton", "file") in last),
            *_about_file(
                "log-frequency", log_frequency != plain.log_frequency, mode, ("triton", "log-frequency") in last
            ),
        ),
    )


def _about_file(name: str, given: bool, mode: str, overridden: bool) -> list[str]:
    """What is to be said of a deprecated flag of mode triton."""
    if given and mode != "triton":
        return [f"'--trace-{name}' is deprecated and will be ignored with opentelemetry tracing mode."]
    return [_overridden(name)] if given and overridden else []


def _overridden(name: str) -> str:
    what = name if name == "level" else f"{name} value" if name == "rate" else name
    return f"Overriding deprecated '--trace-{name}' in favor of provided {what} in --trace-config!"


def _exporter(settings: list[_Setting]) -> tuple[tuple[str, str], ...]:
    """The last value of each setting, in the order in which they first came; all of ``resource``."""
    given = [one for one in settings if one.mode == "opentelemetry"]
    texts: dict[tuple[str, str], str] = {}
    for one in given:
        texts[one.name, one.text if one.name == "resource" else ""] = one.text
    return tuple((name, text) for (name, _), text in texts.items())
