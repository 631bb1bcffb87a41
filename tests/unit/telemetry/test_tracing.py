# SPDX-License-Identifier: Apache-2.0
"""Settings of tracing: what holds for all models, what for one, and what is taken back. Over the real core."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from pyinfer._core import Engine
from pyinfer.config.tracing import TraceOptions
from pyinfer.errors import InvalidArgument, Unsupported
from pyinfer.telemetry.tracing import TraceSettings

OPTIONS = TraceOptions(levels=("TIMESTAMPS",), rate=1, count=9, file="t", log_frequency=2)
SHOWN = {
    "trace_level": ["TIMESTAMPS"],
    "trace_rate": ["1"],
    "trace_count": ["9"],
    "log_frequency": ["2"],
    "trace_file": ["t"],
    "trace_mode": ["triton"],
}


@pytest.fixture
def settings() -> TraceSettings:
    return TraceSettings(Engine().tracer, OPTIONS)


def test_the_command_line_holds_for_all(settings: TraceSettings) -> None:
    assert settings.describe() == settings.describe("m") == SHOWN
    assert list(settings.describe()) == list(SHOWN), "in Triton's order"


def test_without_options_tracing_is_off() -> None:
    shown = TraceSettings(Engine().tracer).describe()
    assert (shown["trace_level"], shown["trace_rate"], shown["trace_count"]) == (["OFF"], ["1000"], ["-1"])


def test_a_model_has_its_own_over_those_of_all(settings: TraceSettings) -> None:
    settings.update("m", {"trace_rate": "3"})
    assert settings.describe() == SHOWN
    assert settings.describe("m") == {**SHOWN, "trace_rate": ["3"]}
    settings.update("", {"trace_rate": ["4"], "log_frequency": "0"})
    assert settings.describe("m") == {**SHOWN, "trace_rate": ["3"], "log_frequency": ["0"]}
    assert settings.describe("other") == {**SHOWN, "trace_rate": ["4"], "log_frequency": ["0"]}


@pytest.mark.parametrize("back", [None, []])
def test_settings_are_taken_back(settings: TraceSettings, back: Any) -> None:
    settings.update("", {"trace_rate": "5"})
    settings.update("m", {"trace_rate": "3", "trace_level": ["OFF"], "trace_count": "1"})
    settings.update("m", {"trace_rate": back, "trace_level": back, "trace_count": back})
    assert settings.describe("m") == {**SHOWN, "trace_rate": ["5"]}
    settings.update("", {"trace_rate": back})
    assert settings.describe() == SHOWN


def test_other_names_are_ignored(settings: TraceSettings) -> None:
    settings.update("", {"trace_mode": "opentelemetry", "nosuch": 1})
    assert settings.describe() == SHOWN


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trace_rate": "x"}, "Unable to parse 'trace_rate', got: x"),
        ({"trace_rate": ""}, "Unable to parse 'trace_rate', got: "),
        ({"trace_rate": "12abc"}, "Unable to parse 'trace_rate', got: 12abc"),
        ({"trace_rate": "99999999999"}, "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: "),
        ({"trace_rate": "9" * 5000}, "Unable to parse 'trace_rate', value is out of range"),
        ({"trace_rate": "-1"}, "Unable to parse 'trace_rate', value is out of range [ 0, 4294967295 ], got: -1"),
        ({"trace_rate": 5}, "expect string for 'trace_rate'"),
        ({"trace_rate": ["1", "2"]}, "expect only 1 value for 'trace_rate'"),
        ({"trace_rate": "0"}, "Attempting to set invalid trace setting :sample rate must be non-zero"),
        ({"trace_count": "-2"}, "Unable to parse 'trace_count'. Expecting value >= -1, got: -2"),
        ({"trace_count": "99999999999"}, "Unable to parse 'trace_count', value is out of range [ -1, 2147483647 ]"),
        ({"log_frequency": "x"}, "Unable to parse 'log_frequency', got: x"),
        ({"trace_level": "OFF"}, "expect array of strings for 'trace_level'"),
        ({"trace_level": ["TIMESTAMPS", 1]}, "expect string for 'trace_level'"),
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, "Expect only one trace level 'OFF' is specified"),
        ({"trace_level": ["MAX"]}, "unknown trace level 'MAX'"),
    ],
)
def test_refusals_change_nothing(settings: TraceSettings, change: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        settings.update("", {"log_frequency": "7", **change})
    assert str(caught.value).startswith(text)
    assert settings.describe() == SHOWN


@pytest.mark.parametrize("value", ["x", None])
def test_the_file_can_not_be_changed(settings: TraceSettings, value: str | None) -> None:
    with pytest.raises(Unsupported, match="trace file location can not be updated through network protocol"):
        settings.update("", {"trace_file": value})


def test_without_a_file_nothing_can_be_traced(caplog: pytest.LogCaptureFixture) -> None:
    settings = TraceSettings(Engine().tracer, TraceOptions())
    with pytest.raises(InvalidArgument, match="invalid trace setting :trace file name is not given"):
        settings.update("", {"trace_level": ["TIMESTAMPS"]})
    with caplog.at_level(logging.WARNING, "pyinfer"):
        TraceSettings(Engine().tracer, TraceOptions(levels=("TIMESTAMPS",)))
    assert "nothing is traced: trace file name is not given" in caplog.text


def test_mode_opentelemetry_shows_its_exporter_and_takes_rate_0() -> None:
    exporter = (("url", "http://a"), ("resource", "a=b"), ("resource", "c=d"))
    settings = TraceSettings(Engine().tracer, TraceOptions(mode="opentelemetry", rate=0), exporter)
    settings.update("", {"trace_level": ["TIMESTAMPS"]})
    assert settings.describe() == {
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["0"],
        "trace_count": ["-1"],
        "trace_mode": ["opentelemetry"],
        "url": ["http://a"],
        "resource": ["a=b", "c=d"],
    }
