# SPDX-License-Identifier: Apache-2.0
"""Credentials that are no key of the store: tokens that are fetched or signed, and what the store is shown of them."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import pytest

from contract.storage.azure import KEY, AzureServer
from contract.storage.conftest import Opener
from contract.storage.servers import AzureBucket
from pyinfer.repository.cloud.cache import ObjectCache
from pyinfer.repository.scan import RepositoryUnreadable
from pyinfer.repository.storage import RemoteRepository

TOKEN = "a-token-of-the-machine"


class Answering(ThreadingHTTPServer):
    """Answers every GET by what a function makes of its query, and keeps its headers."""

    daemon_threads = True

    def __init__(self, answer: Callable[[dict[str, str]], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.queries: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query))
        self.server.queries.append(query)
        self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
        body = self.server.answer(query)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def answering(answer: Callable[[dict[str, str]], bytes]) -> Iterator[Answering]:
    with Answering(answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def token(query: dict[str, str]) -> bytes:
    """As the identity endpoint of a virtual machine or a container answers."""
    until = str(int(time.time()) + 3600)
    told = {"access_token": TOKEN, "expires_on": until, "expires_in": "3600", "token_type": "Bearer"}
    return json.dumps({**told, "not_before": "0", "resource": query.get("resource", "")}).encode()


def open_azure(server: AzureServer, opener: Opener, **environment: str) -> RemoteRepository:
    bucket = AzureBucket(server)
    bucket.put("models/a/1/model.py", b"x")
    for name, value in {"AZURE_STORAGE_ENDPOINT": server.endpoint, **environment}.items():
        opener.monkeypatch.setenv(name, value)
    repository = RemoteRepository(bucket.url("models"), ObjectCache(opener.folder / "cache", 1 << 20))
    opener.opened.callback(repository.close)
    return repository


@pytest.mark.parametrize("client", ["", "one-of-several"])
def test_azure_asks_for_the_token_of_a_managed_identity(open_repository: Opener, client: str) -> None:
    with answering(token) as identity, AzureServer(token=TOKEN) as server:
        chosen = {"AZURE_STORAGE_CLIENT_ID": client} if client else {}
        repository = open_azure(
            server,
            open_repository,
            AZURE_STORAGE_AUTH_TYPE="managed_identity",
            IDENTITY_ENDPOINT=identity.url,
            IDENTITY_HEADER="of-this-container",
            **chosen,
        )
        assert set(repository.entries()) == {"a"}
        assert set(repository.entries()) == {"a"}
    (asked,), (headers,) = identity.queries, identity.headers  # once: it is kept
    assert asked["resource"] == "https://storage.azure.com"
    assert asked.get("client_id", "") == client
    assert headers["x-identity-header"] == "of-this-container"


def test_azure_refuses_the_token_of_another_identity(open_repository: Opener) -> None:
    with answering(token) as identity, AzureServer(token="another") as server:
        repository = open_azure(
            server, open_repository, AZURE_STORAGE_AUTH_TYPE="managed_identity", IDENTITY_ENDPOINT=identity.url
        )
        with pytest.raises(RepositoryUnreadable, match="was denied") as caught:
            repository.entries()
    assert TOKEN not in str(caught.value)


def test_azure_takes_what_its_environment_has(open_repository: Opener) -> None:
    """``default``: a key of the environment first, else the identity of the machine."""
    with AzureServer() as server:
        repository = open_azure(
            server, open_repository, AZURE_STORAGE_AUTH_TYPE="default", AZURE_STORAGE_ACCOUNT_KEY=KEY
        )
        assert set(repository.entries()) == {"a"}
    open_repository.monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    with answering(token) as identity, AzureServer(token=TOKEN) as server:
        repository = open_azure(
            server, open_repository, AZURE_STORAGE_AUTH_TYPE="default", IDENTITY_ENDPOINT=identity.url
        )
        assert set(repository.entries()) == {"a"}


EMPTY = b'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><Name>models</Name></ListBucketResult>'


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def test_google_is_shown_what_the_key_of_a_service_account_signs(open_repository: Opener, tmp_path: Path) -> None:
    key, public, signature = (tmp_path / name for name in ("key.pem", "public.pem", "signature"))
    for command in (
        ("genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", str(key)),
        ("pkey", "-in", str(key), "-pubout", "-out", str(public)),
    ):
        subprocess.run(["openssl", *command], check=True, capture_output=True, timeout=60)
    account = {
        "type": "service_account",
        "private_key": key.read_text(),
        "private_key_id": "the-key",
        "client_email": "server@models.test",
        "client_id": "7",
        "token_uri": "http://127.0.0.1:9/none",
    }
    file = tmp_path / "account.json"
    file.write_text(json.dumps(account))
    open_repository.monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    with answering(lambda query: EMPTY) as store:
        open_repository.monkeypatch.setenv("GOOGLE_BASE_URL", store.url)
        repository = RemoteRepository("gs://models/here", ObjectCache(tmp_path / "cache", 1 << 20))
        open_repository.opened.callback(repository.close)
        assert repository.entries() == {}
    kind, _, signed = store.headers[0]["authorization"].partition(" ")
    assert kind == "Bearer"
    head, claims, proof = signed.split(".")
    assert json.loads(decoded(head))["kid"] == "the-key"
    assert json.loads(decoded(claims))["iss"] == "server@models.test"
    signature.write_bytes(decoded(proof))
    verify = ["openssl", "dgst", "-sha256", "-verify", str(public), "-signature", str(signature)]
    subprocess.run(verify, input=f"{head}.{claims}".encode(), check=True, capture_output=True, timeout=60)
