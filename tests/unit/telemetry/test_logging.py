# SPDX-License-Identifier: Apache-2.0
"""Switches of the log, and their change while the server runs."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyinfer.errors import InvalidArgument, InvalidLogFormat, Unsupported
from pyinfer.telemetry.log_format import log_table
from pyinfer.telemetry.logging import LogOptions, LogSettings, verbose_level

LOG = logging.getLogger("pyinfer.some.module")


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("pyinfer", "asyncio")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        for handler in [handler for handler in logger.handlers if handler not in handlers]:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(level)
        logger.propagate = propagate


def _lines(tmp_path: Path, **options: Any) -> list[str]:
    """The messages that come through, of one line for each level."""
    LogSettings(LogOptions(file=str(tmp_path / "log"), **options)).install()
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
    LogSettings(LogOptions(file=str(tmp_path / "log"), info=False)).install()
    assert not LOG.isEnabledFor(logging.INFO)
    assert not LOG.isEnabledFor(verbose_level(1))
    assert LOG.isEnabledFor(logging.WARNING)


def test_lines_go_to_standard_error_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    LogSettings(LogOptions()).install()
    LOG.info("hello")
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(rf'I\d{{4}} \d\d:\d\d:\d\d\.\d{{6}} {os.getpid()} test_logging\.py:\d+\] "hello"\n', err)


def test_configuring_again_replaces(tmp_path: Path) -> None:
    LogSettings(LogOptions(file=str(tmp_path / "first"))).install()
    LogSettings(LogOptions(file=str(tmp_path / "second"))).install()
    LOG.info("hello")
    assert (tmp_path / "first").read_text() == ""
    assert (tmp_path / "second").read_text().count("hello") == 1


def test_escaping_is_switched_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_SERVER_ESCAPE_LOG_MESSAGES", "0")
    LogSettings(LogOptions(file=str(tmp_path / "log"))).install()
    LOG.info('a "b"')
    assert (tmp_path / "log").read_text().endswith('] a "b"\n')


def test_bad_options(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown log format 'xml'"):
        LogSettings(LogOptions(format="xml"))
    with pytest.raises(OSError):
        LogSettings(LogOptions(file=str(tmp_path / "absent" / "log")))


def test_tables_keep_their_lines(tmp_path: Path) -> None:
    LogSettings(LogOptions(file=str(tmp_path / "log"))).install()
    log_table(LOG, ("Model",), [("a\nb",)])
    assert "+\n| a\\nb  |\n+" in (tmp_path / "log").read_text()
    LogSettings(LogOptions(file=str(tmp_path / "quiet"), info=False)).install()
    log_table(LOG, ("Model",), [("a",)])
    assert (tmp_path / "quiet").read_text() == ""


def test_a_table_is_one_record_in_json(tmp_path: Path) -> None:
    LogSettings(LogOptions(file=str(tmp_path / "log"), format="json")).install()
    log_table(LOG, ("Model",), [("a",)])
    [line] = (tmp_path / "log").read_text().splitlines()
    assert "| a " in json.loads(line)["message"]


def test_asyncio_reports_into_the_log(tmp_path: Path) -> None:
    LogSettings(LogOptions(file=str(tmp_path / "log"), verbose=9)).install()
    logging.getLogger("asyncio").debug("too much")
    logging.getLogger("asyncio").error("a task\nfailed")
    [line] = (tmp_path / "log").read_text().splitlines()
    assert line.endswith('] "a task\\nfailed"')


DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def test_settings_are_shown_in_tritons_order() -> None:
    assert list(LogSettings().describe().items()) == list(DEFAULTS.items())


def test_settings_change_what_is_written(tmp_path: Path) -> None:
    settings = LogSettings(LogOptions(file=str(tmp_path / "log")))
    settings.install()
    LOG.debug("hidden")
    settings.update({"log_verbose_level": 1, "log_info": False})
    LOG.debug("shown")
    LOG.info("hidden")
    settings.update({"log_format": "json", "log_verbose_level": 0})
    LOG.debug("hidden")
    LOG.warning("in json")
    first, second = (tmp_path / "log").read_text().splitlines()
    assert first.endswith('] "shown"')
    assert json.loads(second)["message"] == "in json"
    changed = {"log_info": False, "log_format": "json", "log_file": str(tmp_path / "log")}
    assert settings.describe() == {**DEFAULTS, **changed}


def test_what_is_not_given_or_unknown_changes_nothing() -> None:
    settings = LogSettings()
    settings.update({})
    settings.update({"log_info": None, "log_file": None, "no_such_setting": 7})
    assert settings.describe() == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        *(("log_info", value, "expect boolean for 'log_info'") for value in (1, 0, "true", [], {})),
        ("log_warning", "x", "expect boolean for 'log_warning'"),
        ("log_error", 1.0, "expect boolean for 'log_error'"),
        *(
            ("log_verbose_level", value, "expect int32 for 'log_verbose_level'")
            for value in (True, -1, 2**31, 1.0, "1", [1])
        ),
        ("log_format", True, "expect string for 'log_format'"),
    ],
)
def test_values_of_a_wrong_type(name: str, value: object, text: str) -> None:
    settings = LogSettings()
    with pytest.raises(InvalidArgument, match=re.escape(text)):
        settings.update({"log_verbose_level": 3, "log_error": False, name: value})
    assert settings.describe() == DEFAULTS, "all or nothing"


def test_an_unknown_form_of_lines() -> None:
    with pytest.raises(InvalidLogFormat, match=r"^invalid argument for log_format, got: x+$") as caught:
        LogSettings().update({"log_format": "x" * 1000})
    assert len(str(caught.value)) < 120


def test_the_file_stays_where_the_operator_put_it() -> None:
    text = "log file location can not be updated through network protocol"
    for value in ("", "/etc/passwd", 1):
        with pytest.raises(Unsupported, match=text):
            LogSettings().update({"log_file": value})


def test_lost_lines_are_counted_and_reported(tmp_path: Path) -> None:
    file = tmp_path / "logs" / "log"
    file.parent.mkdir()
    settings = LogSettings(LogOptions(file=str(file)))
    settings.install()
    file.unlink()
    file.parent.rmdir()
    for _ in range(3):
        LOG.info("lost")
    [(_, name, _, [(_, _, dropped)])] = settings.families()
    assert (name, dropped) == ("pyinfer_log_dropped_lines_total", 3)
    file.parent.mkdir()
    LOG.info("again")
    LOG.info("and again")
    messages = [json.loads(line.partition("] ")[2]) for line in file.read_text().splitlines()]
    assert messages == ["again", "3 lines of the log could not be written", "and again"]
