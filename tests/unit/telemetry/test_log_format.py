# SPDX-License-Identifier: Apache-2.0
"""How lines look, and that whatever they hold they are lines."""

from __future__ import annotations

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.telemetry.log_format import FORMATS, TritonFormatter, format_table, formatter

HOSTILE = st.text() | st.text('\n\r\x00\x0b\x0c\x1b\x1c\x85\u2028\u2029\ud800"\\%{}', min_size=1)


def _record(message: str, level: int = logging.INFO) -> logging.LogRecord:
    record = logging.LogRecord("pyinfer.x", level, "/a/b/loader.py", 441, message, (), None)
    record.created = 1716235405.829575  # 2024-05-20 20:03:25 UTC
    record.process = 3355
    return record


@pytest.mark.parametrize(
    ("level", "letter"),
    [(logging.DEBUG, "I"), (logging.INFO, "I"), (logging.WARNING, "W"), (logging.ERROR, "E"), (logging.CRITICAL, "E")],
)
def test_the_default_format(level: int, letter: str) -> None:
    assert (
        TritonFormatter().format(_record("text", level)) == f'{letter}0520 20:03:25.829575 3355 loader.py:441] "text"'
    )


def test_the_iso_format() -> None:
    line = TritonFormatter(iso8601=True).format(_record("text", logging.WARNING))
    assert line == '2024-05-20T20:03:25Z W 3355 loader.py:441] "text"'


def test_messages_may_be_left_unescaped() -> None:
    assert TritonFormatter(escape=False).format(_record('a "b"')).endswith('] a "b"')


@given(HOSTILE)
def test_a_message_stays_one_line_and_can_be_read_back(message: str) -> None:
    line = TritonFormatter().format(_record(message))
    assert len(line.splitlines()) == 1
    line.encode()
    assert json.loads(line.partition("] ")[2]) == message


def test_a_traceback_stays_in_the_line() -> None:
    record = _record("failed")
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    line = TritonFormatter().format(record)
    assert "\n" not in line
    assert "ValueError: why" in json.loads(line.partition("] ")[2])


def test_the_json_format() -> None:
    line = formatter("json").format(_record("text", logging.WARNING))
    assert json.loads(line) == {
        "time": "2024-05-20T20:03:25.829575Z",
        "level": "warning",
        "pid": 3355,
        "file": "loader.py",
        "line": 441,
        "message": "text",
    }


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.DEBUG, "verbose"), (logging.INFO, "info"), (logging.WARNING, "warning"), (logging.CRITICAL, "error")],
)
def test_levels_in_json(level: int, name: str) -> None:
    assert json.loads(formatter("json").format(_record("text", level)))["level"] == name


@given(HOSTILE)
def test_json_stays_one_line_and_can_be_read_back(message: str) -> None:
    line = formatter("json", escape=False).format(_record(message))
    assert len(line.splitlines()) == 1
    assert json.loads(line.encode())["message"] == message


def test_an_exception_in_json() -> None:
    record = _record("failed")
    try:
        raise ValueError("why")
    except ValueError as error:
        record.exc_info = (type(error), error, error.__traceback__)
    fields = json.loads(formatter("json").format(record))
    assert fields["message"] == "failed"
    assert fields["exception"].endswith("ValueError: why")


@pytest.mark.parametrize("name", FORMATS)
def test_arguments_that_can_not_be_formatted(name: str) -> None:
    record = _record("%d of %s")
    record.args = ("x",)
    assert "%d of %s (its arguments could not be formatted)" in formatter(name).format(record)


@pytest.mark.parametrize("name", FORMATS)
def test_a_message_has_a_longest_length(name: str) -> None:
    line = formatter(name).format(_record("x" * 1_000_000))
    assert len(line) < 66_000
    assert "... (934464 more characters)" in line


def test_an_unknown_format() -> None:
    with pytest.raises(ValueError, match="unknown log format 'xml', expected one of default, ISO8601, json"):
        formatter("xml")


def test_tables() -> None:
    rows = [("a", "1", "READY"), ("long name", "-", "UNAVAILABLE: line\nbreak")]
    table = format_table(("Model", "Version", "Status"), rows)
    assert table.splitlines() == [
        "+-----------+---------+--------------------------+",
        "| Model     | Version | Status                   |",
        "+-----------+---------+--------------------------+",
        "| a         | 1       | READY                    |",
        "| long name | -       | UNAVAILABLE: line\\nbreak |",
        "+-----------+---------+--------------------------+",
    ]
