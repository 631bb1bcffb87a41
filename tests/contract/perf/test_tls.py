# SPDX-License-Identifier: Apache-2.0
"""``pyinfer perf`` inside TLS: against pyinfer, grpcio's secure server, and Python's TLS before an HTTP server."""

from __future__ import annotations

import json
import os
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import grpc
import pytest

from contract.conftest import add_model, identity, tls_flags
from contract.perf.test_command import QUICK, command, perf
from pyinfer.config.messages import message
from pyinfer.testing import RunningServer, run_server

NOT_TRUSTED = "the server's certificate is not trusted: "
ONCE = ["--request-count=60", "--concurrency-range=4"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("plain")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    with run_server(repository) as server:
        yield server


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, certificates: Path) -> Iterator[RunningServer]:
    """pyinfer, whose gRPC port wants a certificate of its clients."""
    repository = tmp_path_factory.mktemp("secure")
    add_model(repository, "fixed", identity("TYPE_FP32", "16"))
    add_model(repository, "open", identity("TYPE_FP32", "-1", batch=0))
    mutual = tls_flags(certificates, f"--grpc-root-cert={certificates / 'ca.crt'}", "--grpc-use-ssl-mutual=true")
    with run_server(repository, *mutual) as server:
        yield server


def over(*arguments: str, status: int = 0) -> str:
    done = subprocess.run(command("-m", "fixed", *arguments), capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def grpc_flags(certificates: Path, client: str = "") -> list[str]:
    flags = ["--ssl-grpc-use-ssl=true", f"--ssl-grpc-root-certifications-file={certificates / 'ca.crt'}"]
    if client:
        flags += [f"--ssl-grpc-certificate-chain-file={certificates / client}.crt"]
        flags += [f"--ssl-grpc-private-key-file={certificates / client}.key"]
    return flags


@contextmanager
def in_front_of(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[str]:
    """Its address: what comes over TLS goes on to ``port`` and back."""

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(20)
            try:
                outside = context.wrap_socket(self.request, server_side=True)
            except OSError:
                return
            with outside, socket.create_connection(("127.0.0.1", port)) as inside, suppress(OSError):
                relay(outside, inside)

    # One thread both ways: a connection of OpenSSL is not to be read and written at the same time.
    def relay(outside: ssl.SSLSocket, inside: socket.socket) -> None:
        while True:
            ready: list[socket.socket] = (
                [outside] if outside.pending() else select.select([outside, inside], [], [], 20)[0]
            )
            for source in ready:
                if not (chunk := source.recv(65536)):
                    return
                (inside if source is outside else outside).sendall(chunk)
            if not ready:
                return

    with ThreadingTCPServer((host, 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"{host}:{server.server_address[1]}"
        server.shutdown()


def server_context(certificates: Path, *, mutual: bool = False, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.crt"))
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@pytest.mark.parametrize("streaming", [[], ["--streaming"]], ids=["unary", "stream"])
def test_grpc_with_certificates_of_both_sides(
    secure: RunningServer, certificates: Path, tmp_path: Path, streaming: list[str]
) -> None:
    export = tmp_path / "a.json"
    flags = [*grpc_flags(certificates, "client"), *ONCE, *streaming, f"--profile-export-file={export}"]
    perf(secure, "grpc", "fixed", *flags)
    assert len(json.loads(export.read_text())["experiments"][0]["requests"]) == 60


def test_large_requests_at_a_rate(secure: RunningServer, certificates: Path) -> None:
    """Many records of TLS each way, and frames that end within one."""
    flags = [
        *grpc_flags(certificates, "client"),
        "--shape=INPUT0:50000",
        "--request-rate-range=50",
        "--request-count=20",
    ]
    perf(secure, "grpc", "open", *flags, "--request-count=20")


@pytest.mark.parametrize("client", ["", "stranger"])
def test_server_that_does_not_trust_the_client(secure: RunningServer, certificates: Path, client: str) -> None:
    shown = perf(secure, "grpc", "fixed", *grpc_flags(certificates, client), *ONCE, status=1)
    assert "does it trust the client's certificate?" in shown


def test_grpc_servers_that_can_not_be_trusted(secure: RunningServer, plain: RunningServer, certificates: Path) -> None:
    """By default a certificate is looked at, and it is said what is wrong."""
    alone = ["--ssl-grpc-use-ssl=true", *ONCE]
    shown = perf(secure, "grpc", "fixed", *alone, status=1)
    assert NOT_TRUSTED in shown
    shown = perf(plain, "grpc", "fixed", *grpc_flags(certificates), *ONCE, status=1)
    assert "is this its gRPC port?" in shown or "wrong version number" in shown
    assert "is this its gRPC port?" in perf(secure, "grpc", "fixed", *ONCE, status=1)
    with in_front_of(plain.grpc_port, server_context(certificates)) as address:
        shown = over("-i", "grpc", "-u", address, *grpc_flags(certificates), *ONCE, status=1)
    assert "does not offer HTTP/2" in shown


def test_grpcio(certificates: Path) -> None:
    """The reference implementation, with a certificate of localhost."""

    def answer(method: str, response: Any) -> grpc.RpcMethodHandler:
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: response,
            request_deserializer=message(f"{method}Request").FromString,
            response_serializer=lambda one: one.SerializeToString(),
        )

    metadata = message("ModelMetadataResponse")(name="fixed")
    for side in (metadata.inputs, metadata.outputs):
        side.add(name="X", datatype="FP32", shape=[16])
    inferred = message("ModelInferResponse")(model_name="fixed", raw_output_contents=[bytes(64)])
    inferred.outputs.add(name="X", datatype="FP32", shape=[16])
    handlers = {"ModelMetadata": answer("ModelMetadata", metadata), "ModelInfer": answer("ModelInfer", inferred)}
    pair = ((certificates / "server.key").read_bytes(), (certificates / "server.crt").read_bytes())
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("inference.GRPCInferenceService", handlers),))
    port = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        root = f"--ssl-grpc-root-certifications-file={certificates / 'ca.crt'}"
        over("-i", "grpc", "-u", f"grpcs://localhost:{port}", root, *ONCE)
    finally:
        server.stop(None)


def in_der(certificates: Path, folder: Path) -> list[str]:
    for kind, suffix in (("x509", "crt"), ("pkey", "key")):
        argv = ["openssl", kind, "-in", str(certificates / f"client.{suffix}"), "-outform", "DER"]
        subprocess.run([*argv, "-out", str(folder / f"client.{suffix}")], check=True, capture_output=True)
    return [
        f"--ssl-https-client-certificate-file={folder / 'client.crt'}",
        "--ssl-https-client-certificate-type=DER",
        f"--ssl-https-private-key-file={folder / 'client.key'}",
        "--ssl-https-private-key-type=der",
    ]


def test_https(plain: RunningServer, certificates: Path, tmp_path: Path) -> None:
    """With a certificate of each side; without that of the client the server ends the connection."""
    root = f"--ssl-https-ca-certificates-file={certificates / 'ca.crt'}"
    with in_front_of(plain.http_port, server_context(certificates, mutual=True)) as address:
        url = f"https://{address}"
        over("-u", url, root, *in_der(certificates, tmp_path), *ONCE)
        pem = [f"--ssl-https-client-certificate-file={certificates / 'client.crt'}"]
        pem += [f"--ssl-https-private-key-file={certificates / 'client.key'}"]
        over("-u", url, root, *pem, *ONCE)
        shown = over("-u", url, root, *ONCE, status=1)
        # its alert may be lost where it closes at once
        assert "certificate required" in shown or "does it trust the client's certificate?" in shown
        assert "belong together" in over("-u", url, root, pem[0], *ONCE, status=1)


def test_what_is_looked_at_over_https(plain: RunningServer, certificates: Path) -> None:
    root = f"--ssl-https-ca-certificates-file={certificates / 'ca.crt'}"
    no_host, no_peer = "--ssl-https-verify-host=0", "--ssl-https-verify-peer=0"
    # the certificate is one of localhost and 127.0.0.1
    with in_front_of(plain.http_port, server_context(certificates), "127.0.0.2") as address:
        url = f"https://{address}"
        assert NOT_TRUSTED in over("-u", url, *ONCE, status=1)
        assert "127.0.0.2" in over("-u", url, root, *ONCE, status=1)
        assert NOT_TRUSTED in over("-u", url, no_host, *ONCE, status=1)
        assert "not one of '127.0.0.2'" in over("-u", url, no_peer, *QUICK, status=1)
        over("-u", url, root, no_host, *ONCE)
        over("-u", url, no_peer, no_host, *ONCE)
    shown = over("-u", f"https://{plain.http}", root, *ONCE, status=1)
    assert "TLS: wrong version number" in shown


def test_compare_inside_tls(plain: RunningServer, certificates: Path) -> None:
    root = f"--ssl-https-ca-certificates-file={certificates / 'ca.crt'}"
    with in_front_of(plain.http_port, server_context(certificates)) as address:
        servers = [f"bare=http://{plain.http}", f"tls=https://{address}"]
        argv = command("compare", *servers, "-m", "fixed", root, "--rounds=2", "--request-count=20")
        done = subprocess.run(argv, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tls / bare" in done.stdout


@pytest.mark.parametrize("says_so", [True, False], ids=["with its word", "cut"])
def test_an_answer_that_somebody_may_have_cut_is_none(certificates: Path, says_so: bool) -> None:
    """An answer that ends with the connection is whole only where the server has said, inside TLS, that it is."""

    def answer(stream: ssl.SSLSocket) -> None:
        asked = stream.recv(65536)
        while b"\r\n\r\n" not in asked:
            more = stream.recv(65536)
            if not more:  # a look whether it listens
                return
            asked += more
        is_load = asked.startswith(b"POST")
        stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}")
        if is_load and not says_so:
            stream.detach_and_close()  # type: ignore[attr-defined]
        else:
            stream.unwrap()

    with tls_server(server_context(certificates), answer) as address:
        payload = '{"data": [{"payload": [{"messages": []}]}]}'
        data = certificates / "payloads.json"
        data.write_text(payload)
        root = f"--ssl-https-ca-certificates-file={certificates / 'ca.crt'}"
        flags = ["-u", f"https://{address}", root, "--service-kind=openai", f"--input-data={data}"]
        shown = over(*flags, "--request-count=3", status=0 if says_so else 1)
    assert says_so or "the server has closed the connection" in shown


@contextmanager
def tls_server(context: ssl.SSLContext, answer: Callable[[Any], None]) -> Iterator[str]:
    """Its address: ``answer`` gets each connection."""

    class Stream(ssl.SSLSocket):
        def detach_and_close(self) -> None:
            """Without a word to the peer."""
            socket.socket(fileno=self.detach()).close()

    context.sslsocket_class = Stream

    class Handler(BaseRequestHandler):
        def handle(self) -> None:
            self.request.settimeout(20)
            try:
                with context.wrap_socket(self.request, server_side=True) as stream:
                    answer(stream)
            except OSError:  # a look whether it listens
                pass

    with ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.parametrize("kind", ["broken", "empty"])
def test_library_that_is_not_there(tmp_path: Path, kind: str) -> None:
    """A libssl.so.3 that is none, and one without its functions."""
    library = tmp_path / "libssl.so.3"
    if kind == "broken":
        library.write_text("no library")
    else:
        argv = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(library), "-"]
        subprocess.run(argv, input="int nothing;", text=True, check=True)
    program = (
        "from pyinfer._core import TlsClient as Client\n"
        "try: Client(host='x', alpn='h2')\nexcept RuntimeError as error: print(error)"
    )
    argv = [sys.executable, "-c", program]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert "TLS needs OpenSSL 3" in done.stdout
    assert ("lacks TLS_client_method" if kind == "empty" else "can not be opened; install it") in done.stdout


@pytest.mark.parametrize(
    ("flag", "content", "reason"),
    [
        ("--ssl-grpc-root-certifications-file", None, "is not there"),
        ("--ssl-grpc-root-certifications-file", "nothing", "can not be used as root certificates (PEM)"),
    ],
    ids=["missing", "no PEM"],
)
def test_files_that_are_no_good(
    secure: RunningServer, tmp_path: Path, flag: str, content: str | None, reason: str
) -> None:
    file = tmp_path / "file.pem"
    if content is not None:
        file.write_text(content)
    shown = perf(secure, "grpc", "fixed", "--ssl-grpc-use-ssl=true", f"{flag}={file}", *ONCE, status=1)
    assert f"{file} {reason}" in shown
    assert "Traceback" not in shown
