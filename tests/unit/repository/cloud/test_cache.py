# SPDX-License-Identifier: Apache-2.0
"""The cache of objects: whole files, checked contents, a bound, and servers that share it."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.repository.cloud import cache as cache_module
from pyinfer.repository.cloud.cache import ObjectCache, default_cache_directory


class Store:
    """Counts how often an object is read."""

    def __init__(self, content=b"contents", pieces=3):
        self.content, self.pieces, self.reads = content, pieces, 0

    def read(self):
        self.reads += 1
        step = max(1, len(self.content) // self.pieces)
        for start in range(0, len(self.content), step):
            yield self.content[start : start + step]


@pytest.fixture
def cache(tmp_path):
    return ObjectCache(tmp_path / "cache", 1 << 20)


def copy(cache, store, target, identity="x", size=None):
    return cache.copy(identity, len(store.content) if size is None else size, target, store.read)


def kept(tmp_path):
    return sorted(path for path in (tmp_path / "cache/objects").glob("*/*"))


def test_an_object_is_read_once_and_survives(cache, tmp_path):
    store = Store()
    assert not copy(cache, store, tmp_path / "a")
    assert copy(cache, store, tmp_path / "b")
    # a server started later, on the same directory
    assert copy(ObjectCache(tmp_path / "cache", 1 << 20), store, tmp_path / "c")
    assert store.reads == 1
    assert {(tmp_path / name).read_bytes() for name in "abc"} == {store.content}
    (file,) = kept(tmp_path)
    assert file.name == hashlib.sha256(store.content).hexdigest()
    assert list((tmp_path / "cache/incoming").iterdir()) == []


def test_equal_contents_are_kept_once(cache, tmp_path):
    copy(cache, Store(), tmp_path / "a", "x")
    copy(cache, Store(), tmp_path / "b", "y")
    copy(cache, Store(b"other"), tmp_path / "c", "z")
    assert len(kept(tmp_path)) == 2


def test_an_empty_object(cache, tmp_path):
    assert not copy(cache, Store(b""), tmp_path / "a")
    assert copy(cache, Store(b""), tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b""


def test_copies_are_independent(cache, tmp_path):
    """A model may write to its own files."""
    store = Store()
    copy(cache, store, tmp_path / "a")
    (tmp_path / "a").write_bytes(b"changed")
    assert (tmp_path / "a").stat().st_nlink == 1
    assert copy(cache, store, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == store.content


@pytest.mark.parametrize("damage", [b"", b"content", b"contentz", b"contents and more"])
def test_damaged_contents_are_read_again(cache, tmp_path, damage):
    store = Store()
    copy(cache, store, tmp_path / "a")
    (file,) = kept(tmp_path)
    file.chmod(0o600)
    file.write_bytes(damage)
    assert not copy(cache, store, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == store.content
    assert copy(cache, store, tmp_path / "c")
    assert store.reads == 2


@pytest.mark.parametrize("entry", ["", "../../../etc/passwd", "0" * 63, "g" * 64, "0" * 64, "\udcff"])
def test_a_damaged_index_is_a_miss(cache, tmp_path, entry):
    store = Store()
    copy(cache, store, tmp_path / "a")
    (index,) = (tmp_path / "cache/index").glob("*/*")
    index.write_text(entry, errors="surrogateescape")
    assert not copy(cache, store, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == store.content


@pytest.mark.parametrize(
    ("size", "text"), [(7, "an object of 7 bytes has more"), (9, "an object of 9 bytes has only 8")]
)
def test_sizes_that_differ(cache, tmp_path, size, text):
    with pytest.raises(ModelError, match=text):
        copy(cache, Store(), tmp_path / "a", size=size)
    assert not (tmp_path / "a").exists()
    assert kept(tmp_path) == []
    assert list((tmp_path / "cache/incoming").iterdir()) == []


def test_an_endless_object_is_cut_at_its_size(cache, tmp_path):
    def endless():
        while True:
            yield b"x" * 1000

    with pytest.raises(ModelError, match="has more"):
        cache.copy("x", 5000, tmp_path / "a", endless)


def test_a_read_that_fails_leaves_nothing(cache, tmp_path):
    def failing():
        yield b"cont"
        raise ModelError("the store broke off")

    with pytest.raises(ModelError, match="broke off"):
        cache.copy("x", 8, tmp_path / "a", failing)
    assert not (tmp_path / "a").exists()
    assert kept(tmp_path) == []
    assert not copy(cache, Store(), tmp_path / "a")


def test_a_disk_that_is_full(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(
        cache_module.shutil, "disk_usage", lambda path: os.statvfs_result and type("U", (), {"free": 5})
    )
    with pytest.raises(ModelError, match="an object of 8 bytes does not fit: the disk has 5 bytes left"):
        copy(cache, Store(), tmp_path / "a")


def test_a_directory_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InvalidArgument, match="can not use the cache directory '.*': "):
        ObjectCache(tmp_path / "file" / "cache", 1)
    with pytest.raises(ModelError, match="the model could not be written to disk: No such file"):
        copy(ObjectCache(tmp_path / "cache", 0), Store(b""), tmp_path / "absent" / "a")


def test_the_directory_is_for_its_owner_alone(cache, tmp_path):
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


# The bound


def age(tmp_path, content, seconds):
    file = tmp_path / "cache/objects" / hashlib.sha256(content).hexdigest()[:2] / hashlib.sha256(content).hexdigest()
    os.utime(file, (seconds, seconds))


def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path):
    cache = ObjectCache(tmp_path / "cache", 20)
    contents = [bytes([65 + number]) * 10 for number in range(3)]
    for number, content in enumerate(contents):
        copy(cache, Store(content), tmp_path / f"a{number}", str(number))
        age(tmp_path, content, number)
    copy(cache, Store(contents[0]), tmp_path / "b", "0")  # used again
    cache.trim()
    assert {file.read_bytes() for file in kept(tmp_path)} == {contents[0], contents[2]}
    store = Store(contents[1])
    assert not copy(cache, store, tmp_path / "c", "1")
    assert store.reads == 1


def test_nothing_is_removed_within_the_bound(cache, tmp_path):
    copy(cache, Store(), tmp_path / "a")
    cache.trim()
    assert len(kept(tmp_path)) == 1


@pytest.mark.parametrize("bound", [0, 7])
def test_what_is_larger_than_the_bound_is_not_kept(tmp_path, bound):
    cache, store = ObjectCache(tmp_path / "cache", bound), Store()
    for name in "ab":
        assert not copy(cache, store, tmp_path / name)
        assert (tmp_path / name).read_bytes() == store.content
    assert store.reads == 2
    assert kept(tmp_path) == []


def test_the_index_of_what_is_gone_goes_too(tmp_path):
    cache = ObjectCache(tmp_path / "cache", 8)
    for number in range(3):
        copy(cache, Store(bytes([number]) * 8), tmp_path / str(number), str(number))
    cache.trim()
    assert len(list((tmp_path / "cache/index").glob("*/*"))) == len(kept(tmp_path)) == 1


def test_what_a_killed_server_left_is_removed_after_a_day(cache, tmp_path):
    for name, seconds in (("old", 0), ("new", None)):
        folder = tmp_path / "cache/incoming" / name
        folder.mkdir()
        (folder / "object").write_bytes(b"half")
        if seconds is not None:
            os.utime(folder, (seconds, seconds))
    cache.trim()
    assert [path.name for path in (tmp_path / "cache/incoming").iterdir()] == ["new"]


# Sharing


def test_two_servers_and_one_directory(tmp_path):
    """One trims to almost nothing while the other copies: it reads again where it must, and is never wrong."""
    first, second = ObjectCache(tmp_path / "cache", 1 << 20), ObjectCache(tmp_path / "cache", 1)
    ending = threading.Event()

    def trim():
        while not ending.is_set():
            second.trim()

    trimming = threading.Thread(target=trim)
    trimming.start()
    try:
        for number in range(300):
            content = bytes([number % 7]) * 1000
            target = tmp_path / "copy"
            first.copy(str(number % 7), len(content), target, Store(content).read)
            assert target.read_bytes() == content
            target.unlink()
    finally:
        ending.set()
        trimming.join()


def test_the_same_object_by_many_threads(cache, tmp_path):
    store = Store(os.urandom(100_000), pieces=10)
    threads = [threading.Thread(target=copy, args=(cache, store, tmp_path / str(number))) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((tmp_path / str(number)).read_bytes() == store.content for number in range(8))
    assert len(kept(tmp_path)) == 1


def test_while_another_server_trims_this_one_does_not(cache, tmp_path, monkeypatch):
    def busy(file, operation):
        raise BlockingIOError

    monkeypatch.setattr(cache_module.fcntl, "flock", busy)
    small = ObjectCache(tmp_path / "cache", 1)
    copy(cache, Store(), tmp_path / "a")
    small.trim()
    assert len(kept(tmp_path)) == 1


def test_file_systems_that_can_not_share_blocks(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(cache_module.os, "copy_file_range", refuse)
    cache, store = ObjectCache(tmp_path / "cache", 1 << 23), Store(os.urandom(3_000_000))
    assert not copy(cache, store, tmp_path / "a")
    assert copy(cache, store, tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == store.content


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / "pyinfer"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_directory() == tmp_path / ".cache/pyinfer"

    def homeless():
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(InvalidArgument, match="--repository-cache-directory"):
        default_cache_directory()
