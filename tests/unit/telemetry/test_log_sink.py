# SPDX-License-Identifier: Apache-2.0
"""Row 57 of the bad inputs: a log whose file is rotated, deleted or can not be written loses lines, and counts them."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyinfer.telemetry.log_sink import LineSink


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "log"


@pytest.fixture
def sink(file: Path) -> Iterator[LineSink]:
    file.parent.mkdir()
    made = LineSink(str(file))
    yield made
    made.close()


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """What a full disk does: writes beyond ``size`` are cut, then fail."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_lines_are_appended(file: Path) -> None:
    file.parent.mkdir()
    file.write_text("before\n")
    sink = LineSink(str(file))
    assert sink.write(b"one\n")
    assert sink.write(b"two\n")
    assert file.read_text() == "before\none\ntwo\n"
    sink.close()


def test_a_rotated_file_is_followed(sink: LineSink, file: Path) -> None:
    sink.write(b"one\n")
    file.rename(file.with_suffix(".1"))
    assert sink.write(b"two\n")
    file.rename(file.with_suffix(".2"))
    file.touch()  # a rotation that makes the new file itself
    assert sink.write(b"three\n")
    texts = [path.read_text() for path in (file.with_suffix(".1"), file.with_suffix(".2"), file)]
    assert (texts, sink.dropped) == (["one\n", "two\n", "three\n"], 0)


def test_a_truncated_file_is_continued(sink: LineSink, file: Path) -> None:
    sink.write(b"one\n")
    os.truncate(file, 0)
    sink.write(b"two\n")
    assert file.read_text() == "two\n"


def test_lines_without_a_directory_are_dropped_and_counted(sink: LineSink, file: Path) -> None:
    file.unlink()
    file.parent.rmdir()
    assert [sink.write(b"lost\n"), sink.write(b"lost\n")] == [False, False]
    assert sink.dropped == 2
    file.parent.mkdir()
    assert sink.write(b"again\n")
    assert (file.read_text(), sink.dropped) == ("again\n", 2)


def test_a_file_that_can_not_be_looked_at_is_written_on(sink: LineSink, file: Path) -> None:
    moved = file.parent.rename(file.parent.with_name("moved"))
    file.parent.write_text("no directory any more")
    assert sink.write(b"one\n")
    assert ((moved / "log").read_text(), sink.dropped) == ("one\n", 0)


def test_a_full_disk_cuts_no_later_line(sink: LineSink, file: Path) -> None:
    with largest_file(10):
        assert sink.write(b"1234\n")
        assert not sink.write(b"a line too long\n")
        assert not sink.write(b"lost\n")
    assert sink.write(b"later\n")
    assert file.read_text() == "1234\na lin\nlater\n"
    assert sink.dropped == 2


def test_a_pipe_that_nobody_reads_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    sink = LineSink(str(tmp_path / "pipe"))
    results = [sink.write(b"x" * 1023 + b"\n") for _ in range(200)]
    assert results[0]
    assert not results[-1]
    assert sink.dropped == results.count(False)
    os.close(reader)
    assert not sink.write(b"nobody\n")
    sink.close()


def test_closed(sink: LineSink, file: Path) -> None:
    sink.close()
    sink.close()
    file.unlink()
    assert not sink.write(b"late\n")
    assert not file.exists()


def test_a_file_that_can_not_be_opened(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LineSink(str(tmp_path / "absent" / "log"))
    with pytest.raises(IsADirectoryError):
        LineSink(str(tmp_path))
