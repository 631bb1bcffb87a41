# SPDX-License-Identifier: Apache-2.0
"""TLS and mutual TLS on the gRPC port, with certificates made by the openssl program."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import grpc
import pytest

from pyinfer.testing import RunningServer, run_server

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="needs the openssl program")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``ca``, ``server``, ``client`` and ``stranger`` (signed by nobody known) as .crt and .key."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*arguments: str) -> None:
        subprocess.run([str(OPENSSL), *arguments], cwd=folder, check=True, capture_output=True)

    for name in ("ca", "stranger"):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        openssl("req", "-x509", *key, "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key")
        openssl("req", *key, "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signer = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signer)
    return folder


def flags(folder: Path, *more: str) -> tuple[str, ...]:
    return (f"--grpc-server-cert={folder / 'server.crt'}", f"--grpc-server-key={folder / 'server.key'}", *more)


def live(server: RunningServer, credentials: grpc.ChannelCredentials | None) -> bytes:
    target = f"localhost:{server.grpc_port}"
    channel = grpc.secure_channel(target, credentials) if credentials else grpc.insecure_channel(target)
    with channel:
        answer: bytes = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=10)
    return answer


def client(folder: Path, name: str = "") -> grpc.ChannelCredentials:
    pair = ((folder / f"{name}.key").read_bytes(), (folder / f"{name}.crt").read_bytes()) if name else (None, None)
    return grpc.ssl_channel_credentials((folder / "ca.crt").read_bytes(), *pair)


def test_tls(models: Path, certificates: Path) -> None:
    with run_server(models, "--grpc-use-ssl=true", *flags(certificates)) as server:
        assert live(server, client(certificates)) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            live(server, None)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        with (
            socket.create_connection(("127.0.0.1", server.grpc_port), 10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as wrapped,
        ):
            assert wrapped.selected_alpn_protocol() is None
            with contextlib.suppress(ConnectionResetError, ssl.SSLError):
                assert wrapped.recv(100) == b""  # without ALPN h2 there is no service
        assert live(server, client(certificates)) == b"\x08\x01"


def test_mutual_tls(models: Path, certificates: Path) -> None:
    mutual = flags(certificates, f"--grpc-root-cert={certificates / 'ca.crt'}")
    with run_server(models, "--grpc-use-ssl-mutual=true", *mutual) as server:
        assert live(server, client(certificates, "client")) == b"\x08\x01"
        for wrong in (client(certificates), client(certificates, "stranger")):
            with pytest.raises(grpc.RpcError):
                live(server, wrong)
        assert live(server, client(certificates, "client")) == b"\x08\x01"


def test_certificate_that_does_not_exist(models: Path, certificates: Path) -> None:
    wrong = ("--grpc-server-cert=missing.crt", f"--grpc-server-key={certificates / 'server.key'}")
    with pytest.raises(RuntimeError, match=r"missing\.crt"), run_server(models, "--grpc-use-ssl=true", *wrong):
        pass
