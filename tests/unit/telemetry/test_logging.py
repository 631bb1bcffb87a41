# SPDX-License-Identifier: Apache-2.0
"""Formats, switches and the one-line promise of log lines."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyinfer.telemetry.logging import LogOptions, TritonFormatter, configure, format_table, log_table, verbose_level

LOG = logging.getLogger("pyinfer.some.module")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    logger = logging.getLogger("pyinfer")
    before = (logger.level, logger.propagate, list(logger.handlers))
    yield
    for handler in list(logger.handlers):
        if handler not in before[2]:
            logger.removeHandler(handler)
            handler.close()
    logger.setLevel(before[0])
    logger.propagate = before[1]
    for handler in before[2]:
        logger.addHandler(handler)


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


@given(st.text() | st.text('\n\r\x00\x0b\x0c\x1c\x85\u2028\u2029\ud800"\\', min_size=1))
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


def _lines(tmp_path: Path, **options: Any) -> list[str]:
    """The messages that come through, of one line for each level."""
    configure(LogOptions(file=str(tmp_path / "log"), **options))
    LOG.error("error")
    LOG.warning("warning")
    LOG.info("info")
    for level in (1, 2, 3):
        LOG.log(verbose_level(level), "verbose %d", level)
    text = (tmp_path / "log").read_text()
    return [json.loads(line.partition("] ")[2]) for line in text.splitlines()]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["error", "warning", "info"]),
        ({"info": False}, ["error", "warning"]),
        ({"warning": False}, ["error", "info"]),
        ({"error": False}, ["warning", "info"]),
        ({"info": False, "warning": False}, ["error"]),
        ({"info": False, "warning": False, "error": False}, []),
        ({"verbose": 1}, ["error", "warning", "info", "verbose 1"]),
        ({"verbose": 2, "info": False}, ["error", "warning", "verbose 1", "verbose 2"]),
        ({"verbose": 99}, ["error", "warning", "info", "verbose 1", "verbose 2", "verbose 3"]),
    ],
)
def test_switches(tmp_path: Path, options: dict[str, Any], shown: list[str]) -> None:
    assert _lines(tmp_path, **options) == shown


def test_a_disabled_line_is_never_made(tmp_path: Path) -> None:
    configure(LogOptions(file=str(tmp_path / "log"), info=False))
    assert not LOG.isEnabledFor(logging.INFO)
    assert not LOG.isEnabledFor(verbose_level(1))
    assert LOG.isEnabledFor(logging.WARNING)


def test_lines_go_to_standard_error_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    configure(LogOptions())
    LOG.info("hello")
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(rf'I\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} {os.getpid()} test_logging\.py:\d+\] "hello"\n', err)


def test_configuring_again_replaces(tmp_path: Path) -> None:
    configure(LogOptions(file=str(tmp_path / "first")))
    configure(LogOptions(file=str(tmp_path / "second")))
    LOG.info("hello")
    assert (tmp_path / "first").read_text() == ""
    assert (tmp_path / "second").read_text().count("hello") == 1


def test_escaping_is_switched_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "0")
    configure(LogOptions(file=str(tmp_path / "log")))
    LOG.info('a "b"')
    assert (tmp_path / "log").read_text().endswith('] a "b"\n')


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown log format 'xml', expected one of default, ISO8601"):
        configure(LogOptions(format="xml"))
    with pytest.raises(OSError):
        configure(LogOptions(file=str(tmp_path / "absent" / "log")))


def test_tables(tmp_path: Path) -> None:
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
    configure(LogOptions(file=str(tmp_path / "log")))
    log_table(LOG, ("Model", "Version", "Status"), rows)
    assert table in (tmp_path / "log").read_text()
    configure(LogOptions(file=str(tmp_path / "quiet"), info=False))
    log_table(LOG, ("Model",), [("a",)])
    assert (tmp_path / "quiet").read_text() == ""
