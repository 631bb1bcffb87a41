# SPDX-License-Identifier: Apache-2.0
"""The TLS context of the gRPC port. Imported only where TLS is switched on; it does NOT read options."""

from __future__ import annotations

import ssl
from pathlib import Path

from pyinfer.errors import InvalidArgument

__all__ = ["grpc_context"]


def grpc_context(cert: str, key: str, root: str, *, mutual: bool) -> ssl.SSLContext:
    """A server context that offers ALPN ``h2`` only; files are PEM.

    With ``mutual`` the client must show a certificate that ``root`` signs. Raises InvalidArgument, with a text for the
    operator, where a file is missing or does not fit.
    """
    if not cert or not key:
        raise InvalidArgument("--grpc-use-ssl needs --grpc-server-cert and --grpc-server-key")
    if mutual and not root:
        raise InvalidArgument("--grpc-use-ssl-mutual needs --grpc-root-cert")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    # a client must not make us repeat the costly part on one connection
    context.options |= ssl.OP_NO_RENEGOTIATION
    for option, file in (("cert", cert), ("key", key), ("root", root)):
        if file and not Path(file).is_file():
            raise InvalidArgument(f"the {option} file of the gRPC port does not exist: {file}")
    try:
        context.load_cert_chain(cert, key)
        if root:
            context.load_verify_locations(root)
    except ssl.SSLError as error:
        raise InvalidArgument(f"the TLS files of the gRPC port can not be used: {error}") from None
    if mutual:
        context.verify_mode = ssl.CERT_REQUIRED
    return context
