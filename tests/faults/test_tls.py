# SPDX-License-Identifier: Apache-2.0
"""Row 71: what goes wrong in a TLS handshake concerns that socket alone; a control client keeps its right answers."""

from __future__ import annotations

import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from contract.conftest import tls_flags
from pyinfer.testing import RunningServer, run_server

LIVE = "/inference.GRPCInferenceService/ServerLive"


@pytest.fixture(scope="module")
def server(models: Path, certificates: Path) -> Iterator[RunningServer]:
    mutual = (f"--grpc-root-cert={certificates / 'ca.crt'}", "--grpc-use-ssl-mutual=true")
    with run_server(models, *tls_flags(certificates), *mutual) as running:
        yield running
        assert running.stop() == 0, running.log


@pytest.fixture
def control(server: RunningServer, certificates: Path) -> Iterator[None]:
    """A client that is served before and after, on one connection and on a new one."""
    files = [(certificates / name).read_bytes() for name in ("ca.crt", "client.key", "client.crt")]
    credentials = grpc.ssl_channel_credentials(*files)
    target = f"localhost:{server.grpc_port}"
    with grpc.secure_channel(target, credentials) as channel:
        call = channel.unary_unary(LIVE)
        assert call(b"", timeout=60) == b"\x08\x01"
        yield
        assert call(b"", timeout=60) == b"\x08\x01"
    with grpc.secure_channel(target, credentials, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        assert channel.unary_unary(LIVE)(b"", timeout=60) == b"\x08\x01"


def context(certificates: Path, name: str) -> ssl.SSLContext:
    made = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
    made.set_alpn_protocols(["h2"])
    if name:
        made.load_cert_chain(certificates / f"{name}.crt", certificates / f"{name}.key")
    return made


def read_to_end(sock: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := sock.recv(65536):
            received += chunk
    except ConnectionResetError:
        pass
    return received


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize(
    "sent",
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
        b"GET /v2/health/live HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x40\x00" + b"\xff" * 0x4000,  # a record of a handshake that is none
        b"\x16\x03\x01\x00\x00" * 1000,  # empty records
        bytes(100_000),
    ],
)
def test_row_71_what_is_no_tls_ends_that_connection(server: RunningServer, sent: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), 20) as sock:
        try:
            sock.sendall(sent)
        except (ConnectionResetError, BrokenPipeError):
            return
        assert len(read_to_end(sock)) < 100  # an alert at most


@pytest.mark.usefixtures("control")
def test_row_71_a_handshake_in_single_bytes_is_a_handshake(server: RunningServer, certificates: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(certificates, "client").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", server.grpc_port), 20) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while True:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                done = False
            for byte in outgoing.read():
                sock.sendall(bytes([byte]))
            if done:
                break
            received = sock.recv(65536)
            assert received
            incoming.write(received)
        assert tls.selected_alpn_protocol() == "h2"


@pytest.mark.usefixtures("control")
@pytest.mark.parametrize("name", ["", "stranger"])
def test_row_71_a_client_without_a_good_certificate_gets_nothing(
    server: RunningServer, certificates: Path, name: str
) -> None:
    with socket.create_connection(("127.0.0.1", server.grpc_port), 20) as plain:
        try:
            with context(certificates, name).wrap_socket(plain, server_hostname="localhost") as sock:
                sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9))
                assert sock.recv(100) == b""
        except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
            pass  # TLS 1.3 tells a client after its handshake is done


@pytest.mark.usefixtures("control")
def test_row_71_renegotiation_is_refused(server: RunningServer, certificates: Path) -> None:
    pair = ("-cert", str(certificates / "client.crt"), "-key", str(certificates / "client.key"))
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{server.grpc_port}", "-tls1_2", "-alpn", "h2", *pair]
    ran = subprocess.run(command, input=b"R\n", capture_output=True, timeout=60, check=False)
    assert b"RENEGOTIATING" in ran.stdout + ran.stderr
    assert b"no renegotiation" in ran.stderr


@pytest.mark.usefixtures("control")
def test_row_71_a_connection_cut_amid_the_handshake_is_forgotten(server: RunningServer, certificates: Path) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(certificates, "client").wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    hello = outgoing.read()
    for cut in range(0, len(hello), 40):
        with socket.create_connection(("127.0.0.1", server.grpc_port), 20) as sock:
            sock.sendall(hello[:cut])
