# SPDX-License-Identifier: Apache-2.0
"""TLS of the connections to a server: that of the load, which is the core's, and that of what is asked beside it."""

from __future__ import annotations

import http.client
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyinfer._core import TlsClient
from pyinfer.errors import InvalidArgument, Unavailable

__all__ = ["Tls", "TlsFlags", "TlsSettings"]

#: how a key may be called in PEM, by what its DER is
_KEYS = ("PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY")


@dataclass(frozen=True)
class TlsSettings:
    """What perf_analyzer's ``--ssl-*`` flags say of one protocol. Files are paths, "" for none."""

    root_certificates: str = ""
    certificate: str = ""
    private_key: str = ""
    certificate_type: str = "PEM"
    private_key_type: str = "PEM"
    verifies_peer: bool = True
    verifies_host: bool = True


@dataclass(frozen=True)
class TlsFlags:
    """Of both protocols. gRPC is inside TLS with ``uses_grpc`` or the scheme grpcs, HTTP with the scheme https."""

    uses_grpc: bool = False
    grpc: TlsSettings = field(default_factory=TlsSettings)
    https: TlsSettings = field(default_factory=TlsSettings)


class Tls:
    """TLS with the server at ``host``. Raises InvalidArgument for files that are no good, Unavailable without OpenSSL.

    ``client``: for loads and gRPC calls.
    """

    def __init__(self, settings: TlsSettings, host: str, *, is_grpc: bool) -> None:
        self._host = host
        for name in (settings.root_certificates, settings.certificate, settings.private_key):
            if name and not Path(name).is_file():
                raise InvalidArgument(f"{name} is not there, or no file")
        if bool(settings.certificate) != bool(settings.private_key):
            raise InvalidArgument("the client's certificate and its private key belong together: give both, or neither")
        with _in_pem(settings) as found:
            try:
                self.client = TlsClient(
                    host=host,
                    alpn="h2" if is_grpc else "http/1.1",
                    root_certificates=found.root_certificates,
                    certificate=found.certificate,
                    private_key=found.private_key,
                    verifies_peer=found.verifies_peer,
                    verifies_host=found.verifies_host,
                )
            except ValueError as error:
                raise InvalidArgument(str(error)) from None
            except RuntimeError as error:
                raise Unavailable(str(error)) from None
            self._context = None if is_grpc else _context(found)

    def connection(self, address: str, port: int, timeout_s: float) -> http.client.HTTPConnection:
        """To ``address``, an IP address of the host, where that is asked over HTTP."""
        assert self._context is not None
        return _Connection(address, port, timeout_s, self._context, self._host)

    @staticmethod
    def reason(error: Exception) -> str:
        """For people, why a connection has not come about, or was lost before an answer."""
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"the server's certificate is not trusted: {error.verify_message.rstrip('.')}"
        # a server that refuses a certificate may be gone before its reason is read
        if isinstance(error, (ssl.SSLEOFError, ConnectionResetError, BrokenPipeError)):
            return "the server has closed the connection; does it trust the client's certificate?"
        if isinstance(error, ssl.SSLError):
            return f"TLS: {(error.reason or str(error)).replace('_', ' ').lower()}"
        return getattr(error, "strerror", None) or str(error)


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str, port: int, timeout_s: float, context: ssl.SSLContext, host: str) -> None:
        super().__init__(address, port, timeout=timeout_s)
        self._context, self._name = context, host

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._name)


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.root_certificates or None)
    # Without verified certificates Python can not look at names; the load does.
    context.check_hostname = settings.verifies_host and settings.verifies_peer
    context.verify_mode = ssl.CERT_REQUIRED if settings.verifies_peer else ssl.CERT_NONE
    if settings.certificate:
        context.load_cert_chain(settings.certificate, settings.private_key)
    return context


@contextmanager
def _in_pem(settings: TlsSettings) -> Iterator[TlsSettings]:
    """The same with files in PEM. Those that had to be made for it are gone afterwards."""
    if settings.certificate_type == settings.private_key_type == "PEM" or not settings.certificate:
        yield settings
        return
    with tempfile.TemporaryDirectory(prefix="pyinfer-perf-") as folder:
        certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
        content = Path(settings.certificate).read_bytes()
        if settings.certificate_type == "DER":
            content = ssl.DER_cert_to_PEM_cert(content).encode()
        certificate.write_bytes(content)
        secret = Path(settings.private_key).read_bytes()
        if settings.private_key_type == "PEM":
            key.write_bytes(secret)
        elif not any(_is_pair(certificate, key, secret, label) for label in _KEYS):
            raise InvalidArgument(
                f"{settings.private_key} can not be used as the key (DER) of {settings.certificate}"
            ) from None
        yield replace(settings, certificate=str(certificate), private_key=str(key))


def _is_pair(certificate: Path, key: Path, secret: bytes, label: str) -> bool:
    armored = ssl.DER_cert_to_PEM_cert(secret).replace("CERTIFICATE", label)
    key.write_text(armored)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key)
    except ssl.SSLError:
        return False
    return True
