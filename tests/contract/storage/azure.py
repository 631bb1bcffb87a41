# SPDX-License-Identifier: Apache-2.0
"""The part of Azure Blob Storage that a model repository needs: List Blobs and Get Blob, with Shared Key signatures.

No package has such a server (the emulator of Microsoft is not in Python), so this is ours: small, in memory, after the
REST reference. It knows nothing of the client that is tested, and refuses what it does not know.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

__all__ = ["ACCOUNT", "KEY", "AzureServer"]

ACCOUNT = "fakeaccount"
KEY = base64.b64encode(b"the key of the fake account").decode()
CONTAINER = "models"
#: as the service does, a listing comes in pages
PAGE = 3
#: what a listing repeats of its request
ASKED = ("prefix", "marker", "delimiter")


@dataclass
class Blob:
    content: bytes
    etag: str
    modified: str = field(default_factory=lambda: formatdate(usegmt=True))


class AzureServer(ThreadingHTTPServer):
    """Serves one account with one container on a free port of loopback. A context manager."""

    daemon_threads = True

    def __init__(self, *, public: bool = False, token: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.blobs: dict[str, Blob] = {}
        self.public = public
        #: what stands for a signature, where it is set
        self.token = token
        #: method and path of each request
        self.requests: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{ACCOUNT}"

    def put(self, name: str, content: bytes) -> None:
        self.blobs[name] = Blob(content, f'"0x{hashlib.sha256(content).hexdigest()[:15].upper()}"')

    def __enter__(self) -> AzureServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: AzureServer

    def do_GET(self) -> None:
        split = urlsplit(self.path)
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        self.server.requests.append(f"{self.command} {split.path}")
        _, account, container, *name = unquote(split.path).split("/", 3)
        if account != ACCOUNT or not (self.server.public or self._is_signed(split.path, query)):
            self._fail(403, "AuthenticationFailed")
        elif container != CONTAINER:
            self._fail(404, "ContainerNotFound")
        elif not name and query.get("restype") == "container" and query.get("comp") == "list":
            self._list(query)
        elif name and name[0] in self.server.blobs and not query:
            self._get(self.server.blobs[name[0]])
        else:
            self._fail(404, "BlobNotFound")

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter, marker = (query.get(key, "") for key in ("prefix", "delimiter", "marker"))
        items: dict[str, str] = {}
        for name, blob in sorted(self.server.blobs.items()):
            if not name.startswith(prefix):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
            if found:
                folder = f"{prefix}{head}{delimiter}"
                items[folder] = f"<BlobPrefix><Name>{escape(folder)}</Name></BlobPrefix>"
            else:
                items[name] = (
                    f"<Blob><Name>{escape(name)}</Name><Properties><Last-Modified>{blob.modified}</Last-Modified>"
                    f"<Etag>{blob.etag.strip(chr(34))}</Etag><Content-Length>{len(blob.content)}</Content-Length>"
                    "<Content-Type>text/plain</Content-Type><BlobType>BlockBlob</BlobType></Properties></Blob>"
                )
        names = [name for name in sorted(items) if name >= marker]
        page, rest = names[:PAGE], names[PAGE:]
        asked = "".join(f"<{key.title()}>{escape(query[key])}</{key.title()}>" for key in ASKED if key in query)
        listed = "".join(items[name] for name in page)
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="{CONTAINER}">{asked}'
            f"<Blobs>{listed}</Blobs><NextMarker>{escape(rest[0]) if rest else ''}</NextMarker></EnumerationResults>"
        )
        self._answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _get(self, blob: Blob) -> None:
        wanted = self.headers.get("If-Match", blob.etag)
        if wanted != blob.etag:
            self._fail(412, "ConditionNotMet")
            return
        headers = {"ETag": blob.etag, "Last-Modified": blob.modified, "x-ms-blob-type": "BlockBlob"}
        self._answer(200, blob.content, headers)

    def _is_signed(self, path: str, query: dict[str, str]) -> bool:
        """Whether the request has the Shared Key signature of the account, or the token that stands for it."""
        if self.server.token:
            return self.headers.get("Authorization", "") == f"Bearer {self.server.token}"
        names = ("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type", "Date")
        names += ("If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range")
        values = [self.headers.get(name, "") for name in names]
        values[2] = "" if values[2] == "0" else values[2]
        own = sorted(
            (name.lower(), value.strip()) for name, value in self.headers.items() if name.lower().startswith("x-ms-")
        )
        text = "\n".join([self.command, *values, *(f"{name}:{value}" for name, value in own), f"/{ACCOUNT}{path}"])
        text += "".join(f"\n{name}:{query[name]}" for name in sorted(query))
        signature = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
        return hmac.compare_digest(self.headers.get("Authorization", ""), f"SharedKey {ACCOUNT}:{signature}")

    def _fail(self, status: int, code: str) -> None:
        body = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>no</Message></Error>'
        self._answer(status, body.encode(), {"Content-Type": "application/xml", "x-ms-error-code": code})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
