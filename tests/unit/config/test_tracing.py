# SPDX-License-Identifier: Apache-2.0
"""What ``--trace-config`` and the flags that it replaced ask for."""

from __future__ import annotations

import pytest

from pyinfer.config.options import UsageError, parse
from pyinfer.config.tracing import TraceOptions, read_trace_options


def test_defaults_are_tritons() -> None:
    assert read_trace_options() == TraceOptions("triton", (), 1000, -1, "", 0, ())


def test_all_settings_of_mode_triton() -> None:
    options = read_trace_options(
        ["rate=5", "count=7", "level=TENSORS", "level=timestamps", "triton,file=t", "triton,log-frequency=3"]
    )
    assert options == TraceOptions("triton", ("TIMESTAMPS", "TENSORS"), 5, 7, "t", 3)


def test_all_settings_of_mode_opentelemetry() -> None:
    url = "http://localhost:4318/v1/traces?a=b,c=d"
    given = [f"opentelemetry,url={url}", "opentelemetry,resource=a=b", "opentelemetry,resource=c=d=e"]
    options = read_trace_options(["mode=opentelemetry", "rate=0", *given, "OpenTelemetry,bsp_max_queue_size=9"])
    assert (options.mode, options.rate) == ("opentelemetry", 0)
    assert options.exporter == (
        ("url", url),
        ("resource", "a=b"),
        ("resource", "c=d=e"),
        ("bsp_max_queue_size", "9"),
    )


@pytest.mark.parametrize("level", ["on", "true", "MIN", "max", "Timestamps"])
def test_aliases_of_timestamps(level: str) -> None:
    assert read_trace_options([f"level={level}"]).levels == ("TIMESTAMPS",)


@pytest.mark.parametrize("level", ["off", "FALSE"])
def test_off_wins_over_other_levels(level: str) -> None:
    assert read_trace_options(["level=TIMESTAMPS", f"level={level}"]).levels == ()
    assert read_trace_options(["level=TIMESTAMPS"], level=[level]).levels == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("foo", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got foo"),
        ("rate=", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got rate="),
        ("triton,file=", "--trace-config option format is '<trace mode>,<setting>=<value>'. Got triton,file="),
        (",file=x", "No trace mode specified."),
        ("foo,file=x", "invalid value for trace mode option: foo"),
        ("mode=foo", 'Available options are "triton" and "opentelemetry"'),
        ("level=foo", "invalid value for trace level option: foo"),
        ("rate=x", "rate: expected an integer"),
        ("rate=-5", "rate: expected an integer"),
        ("rate=4294967296", "rate: expected an integer"),
        ("count=-2", "count: expected an integer"),
        ("nosuch=1", "unknown trace setting 'nosuch'; known are mode, level, rate, count"),
        ("triton,nosuch=1", "unknown trace setting 'nosuch'; known of triton are file, log-frequency"),
        ("opentelemetry,bsp_schedule_delay=x", "opentelemetry,bsp_schedule_delay: expected"),
        ("opentelemetry,resource=x", "expected <attribute>=<value>"),
        ("opentelemetry,url=localhost:4318", "expected a URL"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(["--model-repository=r", "--trace-config", text])
    assert problem in str(caught.value)


def test_deprecated_flags_still_count() -> None:
    options = parse(
        [
            "--model-repository=r",
            "--trace-file=f",
            "--trace-rate=3",
            "--trace-count=4",
            "--trace-log-frequency=5",
            "--trace-level=TIMESTAMPS",
            "--trace-level=TENSORS",
        ]
    ).trace_options()
    assert options == TraceOptions("triton", ("TIMESTAMPS", "TENSORS"), 3, 4, "f", 5)
    assert options.warnings == ()


def test_new_settings_override_deprecated_flags_with_a_warning() -> None:
    options = read_trace_options(["rate=7", "triton,file=new"], rate=5, file="old", count=2)
    assert (options.rate, options.file, options.count) == (7, "new", 2)
    assert [warning.split(" in ")[0] for warning in options.warnings] == [
        "Overriding deprecated '--trace-rate'",
        "Overriding deprecated '--trace-file'",
    ]


def test_a_file_means_nothing_to_mode_opentelemetry() -> None:
    (warning,) = read_trace_options(["mode=opentelemetry"], file="f").warnings
    assert warning == "'--trace-file' is deprecated and will be ignored with opentelemetry tracing mode."
