# SPDX-License-Identifier: Apache-2.0
"""TLS and mutual TLS on the gRPC port."""

from __future__ import annotations

import contextlib
import socket
import ssl
from pathlib import Path

import grpc
import pytest

from contract.conftest import tls_flags
from pyinfer.testing import RunningServer, run_server


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
    with run_server(models, "--grpc-use-ssl=true", *tls_flags(certificates)) as server:
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
    mutual = tls_flags(certificates, f"--grpc-root-cert={certificates / 'ca.crt'}")
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
