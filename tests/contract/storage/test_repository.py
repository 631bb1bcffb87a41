# SPDX-License-Identifier: Apache-2.0
"""A repository on each kind of store: what is listed, what is copied, and all that may go wrong between the two."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from contract.storage.azure import ACCOUNT, KEY, AzureServer
from contract.storage.conftest import Opener
from contract.storage.servers import AzureBucket, Bucket, S3Bucket
from pyinfer.errors import InvalidArgument, ModelError
from pyinfer.repository.cloud.cache import ObjectCache
from pyinfer.repository.cloud.store import StoreError
from pyinfer.repository.scan import RepositoryUnreadable
from pyinfer.repository.storage import RemoteEntry, RemoteRepository, Workspace
from pyinfer.testing import FaultProxy

FILES = {
    "a/config.pbtxt": b"name: 'a'",
    "a/labels.txt": b"one\ntwo",
    "a/1/model.py": b"version 1",
    "a/2/model.py": b"version 2",
    "a/2/deep/er/data": b"",
    "b/3/x y+z%2f\xc3\xa9.bin".encode("latin-1").decode(): bytes(range(256)) * 40,
    "README": b"beside the models",
    ".git/config": b"hidden",
}


def fill(bucket: Bucket, prefix: str, files: dict[str, bytes] = FILES) -> None:
    for key, content in files.items():
        bucket.put(f"{prefix}/{key}", content)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def copied(entry: RemoteEntry) -> dict[str, bytes]:
    directory, lease = entry.localize()
    try:
        return contents(directory)
    finally:
        lease.release()


def left_behind(repository: RemoteRepository) -> list[str]:
    return [path.name for path in repository.directory.iterdir() if path.name != ".lock"]


def test_listing_and_copying(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    fill(bucket, prefix)
    fill(bucket, f"{prefix}2", {"c/1/model.py": b"another repository, whose name begins the same"})
    repository = open_repository(bucket, prefix)
    assert list(repository.names()) == ["a", "b"]
    entries = repository.entries()
    assert {name: entry.versions for name, entry in entries.items()} == {"a": (1, 2), "b": (3,)}
    directory, lease = entries["a"].localize()
    assert directory.name == "a"
    assert contents(directory) == {key[2:]: content for key, content in FILES.items() if key.startswith("a/")}
    assert copied(entries["b"]) == {key[2:]: content for key, content in FILES.items() if key.startswith("b/")}
    lease.release()
    assert left_behind(repository) == []


def test_the_whole_bucket_is_a_repository(azure: AzureBucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with AzureServer() as server:
        bucket = AzureBucket(server)
        fill(bucket, "a", {"1/model.py": b"x"})
        for name, value in bucket.environment().items():
            monkeypatch.setenv(name, value)
        repository = RemoteRepository(f"as://{ACCOUNT}/models", ObjectCache(tmp_path / "cache", 1 << 20))
        assert copied(repository.entries()["a"]) == {"1/model.py": b"x"}
        repository.close()


def test_an_entry_changes_with_what_it_is_made_of(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    fill(bucket, prefix)
    repository = open_repository(bucket, prefix)
    before = repository.entries(["a"])["a"]
    assert repository.entries(["a"])["a"].fingerprint == before.fingerprint
    assert repository.entries()["a"] == before
    changes = {
        "a/config.pbtxt": ("config_fingerprint", b"name: 'a' # changed"),
        "a/labels.txt": ("common_fingerprint", b"three"),
        "a/2/model.py": ("version_fingerprints", b"version 2, again"),
        "a/7/model.py": ("versions", b"version 7"),
    }
    for key, (part, content) in changes.items():
        bucket.put(f"{prefix}/{key}", content)
        after = repository.entries(["a"])["a"]
        assert after.fingerprint != before.fingerprint
        assert getattr(after, part) != getattr(before, part)
        assert after.version_fingerprints[1] == before.version_fingerprints[1]
        before = after
    bucket.delete(f"{prefix}/a/1/model.py")
    assert repository.entries()["a"].versions == (2, 7)


def test_only_what_changed_is_fetched(
    bucket: Bucket, prefix: str, open_repository: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    fill(bucket, prefix)
    caplog.set_level("INFO")
    repository = open_repository(bucket, prefix)
    assert len(copied(repository.entries()["a"])) == 5
    assert "5 objects, 34 bytes; 0 objects were in the cache" in caplog.text
    assert len(copied(repository.entries()["a"])) == 5
    assert "5 objects were in the cache" in caplog.text
    bucket.put(f"{prefix}/a/2/model.py", b"new")
    again = open_repository(bucket, prefix)  # as after a restart
    assert copied(again.entries()["a"])["2/model.py"] == b"new"
    assert "4 objects were in the cache" in caplog.text


def test_an_object_that_vanishes(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    fill(bucket, prefix)
    repository = open_repository(bucket, prefix)
    entry = repository.entries()["a"]
    bucket.delete(f"{prefix}/a/labels.txt")
    with pytest.raises(StoreError, match=r"'a/labels.txt' of the model repository is not in the object store: 404"):
        entry.localize()
    assert left_behind(repository) == []
    assert "labels.txt" not in copied(repository.entries()["a"])


def test_an_object_that_changes_after_the_listing(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    fill(bucket, prefix)
    repository = open_repository(bucket, prefix)
    entry = repository.entries()["a"]
    bucket.put(f"{prefix}/a/1/model.py", b"version!1")  # of the same size
    with pytest.raises(StoreError, match=r"'a/1/model.py' was changed while the model was fetched; try again"):
        entry.localize()
    assert left_behind(repository) == []
    assert copied(repository.entries()["a"])["1/model.py"] == b"version!1"


def test_a_store_that_is_gone(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    repository = open_repository(bucket, prefix, port=port)
    for ask in (repository.names, repository.entries, lambda: repository.entries(["a"])):
        with pytest.raises(RepositoryUnreadable) as caught:
            ask()
        assert "could not be read: the object store can not be reached, or broke off" in str(caught.value)
        assert str(port) not in str(caught.value)


@pytest.mark.parametrize("bucket", ["s3", "azure"], indirect=True)  # fake-gcs-server wants to see its own port
def test_a_connection_that_breaks_off(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    content = os.urandom(3 << 20)
    fill(bucket, prefix, {"a/1/weights": content, "a/1/model.py": b"x"})
    with FaultProxy(bucket.port) as proxy:
        repository = open_repository(bucket, prefix, port=proxy.port)
        entry = repository.entries()["a"]
        proxy.set(cut_after=100_000)
        with pytest.raises(
            StoreError, match="'a/1/weights' of the model repository could not be read: the object store"
        ):
            entry.localize()
        assert left_behind(repository) == []
        proxy.set(cut_after=-1)
        assert copied(entry) == {"1/weights": content, "1/model.py": b"x"}


def test_a_bucket_that_is_not_there(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    repository = open_repository(bucket, prefix)
    url = repository.label.replace("/models/", "/absent/") if "/models/" in repository.label.partition("//")[2] else ""
    url = url.replace("//models", "//absent") or repository.label.replace("gs://models", "gs://absent")
    absent = RemoteRepository(url, ObjectCache(open_repository.folder / "cache", 1))
    open_repository.opened.callback(absent.close)
    # fake-gcs-server answers 500, the service itself 404
    with pytest.raises(
        RepositoryUnreadable, match="the model repository (is not in the object store: 404|.* answered 500)"
    ):
        absent.entries()


def test_an_empty_prefix_is_an_empty_repository(bucket: Bucket, prefix: str, open_repository: Opener) -> None:
    repository = open_repository(bucket, prefix)
    assert (repository.names(), repository.entries(), repository.entries(["a"])) == ({}, {}, {})


def test_objects_that_mark_directories(s3: S3Bucket, prefix: str, open_repository: Opener) -> None:
    """The console of S3 makes an empty object whose key ends in a slash for each directory."""
    fill(s3, prefix, {"": b"", "a/": b"", "a/1/": b"", "a/1/model.py": b"x", "a/2/": b"", "b/": b"", "a/warmup/": b""})
    fill(s3, prefix, {"a/warmup/data": b"y"})
    repository = open_repository(s3, prefix)
    assert list(repository.names()) == ["a", "b"]
    entries = repository.entries()
    assert {name: entry.versions for name, entry in entries.items()} == {"a": (1, 2), "b": ()}
    directory, lease = entries["a"].localize()
    assert sorted(str(path.relative_to(directory)) for path in directory.rglob("*")) == [
        *("1", "1/model.py", "2", "warmup", "warmup/data"),
    ]
    lease.release()


HOSTILE = [
    *("../../escape", "1/../../../escape", "./x", "1//x", "/etc/passwd", "1/" + "x" * 256, "1/model.py/inner"),
    "1/line\nbreak",
    "1/\x1b[31mred",
]


@pytest.mark.parametrize(
    ("bucket", "key"),
    # moto has no keys with control characters, and fake-gcs-server does not write them as they are
    [(name, key) for name in ("s3", "gs", "azure") for key in HOSTILE if name == "azure" or key.isprintable()],
    indirect=["bucket"],
)
def test_keys_that_can_be_no_file_spoil_their_model_alone(
    bucket: Bucket, prefix: str, open_repository: Opener, key: str
) -> None:
    fill(bucket, prefix, {"good/1/model.py": b"good", "bad/1/model.py": b"bad"})
    bucket.put(f"{prefix}/bad/{key}", b"hostile")
    repository = open_repository(bucket, prefix)
    before = sorted(open_repository.folder.rglob("*"))
    for entries in (repository.entries(), repository.entries(["good", "bad"])):
        assert copied(entries["good"]) == {"1/model.py": b"good"}
        if "bad" in entries and not entries["bad"].fault:
            # the store itself has made a plain key of it
            assert set(copied(entries["bad"])) <= {"1/model.py", "x", "1/x", "etc/passwd"}
            continue
        with pytest.raises(ModelError, match="can be no file|both a file and a directory"):
            entries["bad"].localize()
    assert left_behind(repository) == []
    after = {path for path in open_repository.folder.rglob("*") if "/cache/" not in str(path)}
    assert after <= {*before, open_repository.folder / "cache"}


# Credentials


def test_wrong_credentials(azure: AzureBucket, prefix: str, open_repository: Opener) -> None:
    fill(azure, prefix)
    repository = open_repository(azure, prefix)
    open_repository.monkeypatch.setenv("AZURE_STORAGE_KEY", "d3Jvbmc=")
    wrong = RemoteRepository(azure.url(prefix), ObjectCache(open_repository.folder / "cache", 1 << 20))
    open_repository.opened.callback(wrong.close)
    with pytest.raises(RepositoryUnreadable) as caught:
        wrong.entries()
    assert str(caught.value) == "access to the model repository was denied: 403 Forbidden (AuthenticationFailed)"
    assert len(repository.entries()) == 2


def test_credentials_that_are_exchanged_while_the_server_runs(
    azure: AzureBucket, prefix: str, open_repository: Opener
) -> None:
    fill(azure, prefix)
    file = open_repository.folder / "credentials.json"
    open_repository.monkeypatch.setenv("TRITON_CLOUD_CREDENTIAL_PATH", str(file))

    def write(key: str) -> None:
        file.write_text(json.dumps({"as": {"": {"account_key": "d3Jvbmc="}, f"as://{ACCOUNT}": {"account_key": key}}}))

    write("d3Jvbmc=")
    repository = open_repository(azure, prefix)
    with pytest.raises(RepositoryUnreadable, match="was denied"):
        repository.entries()
    write(KEY)
    assert set(repository.entries()) == {"a", "b"}


def test_credentials_that_are_broken_while_the_server_runs(
    azure: AzureBucket, prefix: str, open_repository: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with the operator's file is for the log; a client may see the error."""
    file = open_repository.folder / "credentials.json"
    file.write_text(json.dumps({"as": {"": {"account_key": "d3Jvbmc="}}}))
    open_repository.monkeypatch.setenv("TRITON_CLOUD_CREDENTIAL_PATH", str(file))
    repository = open_repository(azure, prefix)
    file.write_text("{")
    with pytest.raises(RepositoryUnreadable, match="^access to the model repository was denied"):
        repository.entries()
    assert f"'{file}' is not JSON" in caplog.text


def test_a_public_container_needs_no_credentials(open_repository: Opener) -> None:
    with AzureServer(public=True) as server:
        bucket = AzureBucket(server)
        fill(bucket, "r")
        repository = open_repository(bucket, "r")
        open_repository.monkeypatch.delenv("AZURE_STORAGE_KEY")
        assert set(repository.entries()) == {"a", "b"}


def test_s3_keys_that_are_refused(s3: S3Bucket, prefix: str, open_repository: Opener) -> None:
    fill(s3, prefix)
    repository = open_repository(s3, prefix)
    s3.deny(True)
    try:
        with pytest.raises(RepositoryUnreadable) as caught:
            repository.entries()
    finally:
        s3.deny(False)
    assert str(caught.value) == "access to the model repository was denied: 403 Forbidden (InvalidAccessKeyId)"
    assert set(repository.entries()) == {"a", "b"}


def test_an_aws_profile(s3: S3Bucket, prefix: str, open_repository: Opener) -> None:
    fill(s3, prefix)
    file = open_repository.folder / "aws"
    file.write_text("[prod]\naws_access_key_id = a\naws_secret_access_key = b\n")
    open_repository(s3, prefix)
    patch = open_repository.monkeypatch
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        patch.delenv(name)
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    patch.setenv("AWS_CONFIG_FILE", str(file))
    cache = ObjectCache(open_repository.folder / "cache", 1 << 20)
    patch.setenv("AWS_PROFILE", "prod")
    repository = RemoteRepository(s3.url(prefix), cache)
    open_repository.opened.callback(repository.close)
    assert set(repository.entries()) == {"a", "b"}
    patch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(InvalidArgument, match="AWS profile 'absent': The config profile .absent. could not be found"):
        RemoteRepository(s3.url(prefix), cache)


# Where copies are made


def test_mount_directory(s3: S3Bucket, prefix: str, open_repository: Opener) -> None:
    fill(s3, prefix)
    mount = open_repository.folder / "mount"
    open_repository.monkeypatch.setenv("TRITON_AWS_MOUNT_DIRECTORY", str(mount))
    with pytest.raises(InvalidArgument, match=f"can not copy models to '{mount}': No such file or directory"):
        open_repository(s3, prefix)
    mount.mkdir()
    repository = open_repository(s3, prefix)
    directory, _ = repository.entries()["a"].localize()
    assert directory.is_relative_to(mount)
    repository.close()
    assert list(mount.iterdir()) == []


def test_what_a_killed_server_left_is_removed(tmp_path: Path) -> None:
    living, killed = Workspace(tmp_path), Workspace(tmp_path)
    (killed.directory / "model").mkdir()
    os.close(os.dup(killed._lock.fileno()))
    killed._lock.close()  # as the end of its process does
    third = Workspace(tmp_path)
    assert set(tmp_path.iterdir()) == {living.directory, third.directory}
    living.close()
    third.close()
    assert list(tmp_path.iterdir()) == []
