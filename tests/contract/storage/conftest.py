# SPDX-License-Identifier: Apache-2.0
"""One server of each kind of object store for all tests of this folder; each test has a prefix of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from contract.storage.azure import AzureServer
from contract.storage.servers import AzureBucket, Bucket, GcsBucket, S3Bucket, fake_gcs_server, moto_server
from pyinfer.repository.cloud.cache import ObjectCache
from pyinfer.repository.storage import RemoteRepository


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Bucket]:
    with moto_server(tmp_path_factory.mktemp("moto") / "log") as port:
        yield S3Bucket(port)


@pytest.fixture(scope="session")
def gs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GcsBucket]:
    with fake_gcs_server(tmp_path_factory.mktemp("gcs") / "log") as port:
        yield GcsBucket(port)


@pytest.fixture(scope="session")
def azure() -> Iterator[AzureBucket]:
    with AzureServer() as server:
        yield AzureBucket(server)


@pytest.fixture
def prefix() -> str:
    return f"p{uuid.uuid4().hex[:12]}/models"


@pytest.fixture(params=["s3", "gs", "azure"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    found: Bucket = request.getfixturevalue(request.param)
    return found


class Opener:
    """Opens repositories with the environment that their store needs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path, opened: ExitStack) -> None:
        self.monkeypatch, self.folder, self.opened = monkeypatch, folder, opened

    def __call__(self, bucket: Bucket, path: str, *, port: int | None = None) -> RemoteRepository:
        for name, value in bucket.environment(port).items():
            self.monkeypatch.setenv(name, value)
        repository = RemoteRepository(bucket.url(path, port), ObjectCache(self.folder / "cache", 1 << 30))
        self.opened.callback(repository.close)
        return repository


@pytest.fixture
def open_repository(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Opener]:
    with ExitStack() as opened:
        yield Opener(monkeypatch, tmp_path, opened)
