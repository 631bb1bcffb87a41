# SPDX-License-Identifier: Apache-2.0
"""What RFC 9110 and RFC 9112 have a server serve, or answer without closing, as messages: the bytes and the clause.

It does NOT send anything; test_http11.py does.
"""

from __future__ import annotations

from dataclasses import dataclass

from contract.http.raw import post
from faults.http11 import BODY, CHUNKED, HIDDEN, INFER, SIZE, WHOLE, get, sized, target

__all__ = ["SERVED", "Served"]

HIDDEN_LENGTH = b"Content-Length: %d" % len(HIDDEN)


@dataclass(frozen=True)
class Served:
    """Answered with these statuses, in order, and then kept, or ``closed``."""

    clause: str
    sent: bytes
    statuses: tuple[int, ...] = (200,)
    closed: bool = False


def text(sent: str) -> bytes:
    """A head, its lines parted by `` | ``."""
    return sent.replace(" | ", "\r\n").encode("latin-1") + b"\r\n\r\n"


def posted(*lines: str, body: bytes = BODY) -> bytes:
    return post(INFER, body, *lines)


SERVED = {
    "empty lines before": Served("9112 2.2", b"\r\n\r\n" + get(b"Host: test")),
    "origin form with a query": Served("9112 3.2.1", target(b"/v2?x=%20&y")),
    "absolute form": Served("9112 3.2.2", target(b"http://test/v2")),
    "absolute form, another Host": Served("9112 3.2.2", target(b"http://other:80/v2")),
    "OPTIONS *": Served("9112 3.2.4", target(b"*", verb=b"OPTIONS"), (404,)),
    "* with GET": Served("9112 3.2.4", target(b"*"), (404,)),
    "empty Host": Served("9112 3.2", get(b"Host:")),
    "Host with an address": Served("9112 3.2", get(b"Host: [::1]:8000")),
    "Host with an odd name": Served("9112 3.2", get(b"Host: a_b.c-d.e,f~%41:")),
    "names in any case": Served("9110 5.1", get(b"hOsT: test")),
    "no blank after the colon": Served("9112 5.1", get(b"Host:test")),
    "blanks around a value": Served("9112 5.1", get(b"Host: \t test \t ")),
    "empty value": Served("9110 5.5", get(b"Host: test", b"X:")),
    "8-bit character in a value": Served("9110 5.5", get(b"Host: test", b"X: \xe9")),
    "no length, no body": Served("9112 6.3", text(f"POST {INFER} HTTP/1.1 | Host: test"), (400,)),
    "length of 0": Served("9112 6.3", posted(body=b""), (400,)),
    "blanks around a length": Served("9110 8.6", sized(b" \t" + SIZE + b" \t")),
    "length with zeros before": Served("9110 8.6", sized(b" 000" + SIZE)),
    "GET with a body": Served("9110 9.3.1", get(b"Host: test", HIDDEN_LENGTH) + HIDDEN),
    "GET with a chunked body": Served(
        "9110 9.3.1",
        get(b"Host: test", b"Transfer-Encoding: chunked") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN),
    ),
    "OPTIONS with a body": Served(
        "9110 9.3.7",
        target(b"/v2", b"Host: test", HIDDEN_LENGTH, verb=b"OPTIONS") + HIDDEN,
        (405,),
    ),
    "DELETE with a body": Served(
        "9110 9.3.5",
        target(b"/v2", b"Host: test", HIDDEN_LENGTH, verb=b"DELETE") + HIDDEN,
        (405,),
    ),
    "HEAD has no body": Served("9110 9.3.2", target(b"/v2", verb=b"HEAD"), (405,)),
    "TRACE": Served("9110 9.3.8", target(b"/v2", verb=b"TRACE"), (405,)),
    "CONNECT": Served("9110 9.3.6", target(b"test:80", verb=b"CONNECT"), (404,), closed=True),
    "CONNECT without a port": Served("9110 9.3.6", target(b"test", verb=b"CONNECT"), (404,), closed=True),
    "CONNECT of a path": Served("9110 9.3.6", target(b"/v2", verb=b"CONNECT"), (405,), closed=True),
    "chunked": Served("9112 7.1", CHUNKED + WHOLE),
    "chunked in capitals": Served("9112 7", CHUNKED.replace(b"chunked", b"CHUNKED") + WHOLE),
    "chunked, blanks around": Served("9112 5.1", CHUNKED.replace(b" chunked", b" \t chunked ") + WHOLE),
    "another name than Transfer-Encoding": Served("9112 6.1", posted("Transfer_Encoding: chunked")),
    "no chunks": Served("9112 7.1", CHUNKED + b"0\r\n\r\n", (400,)),
    "several chunks": Served("9112 7.1", CHUNKED + b"1\r\n{\r\n%X\r\n%s\r\n00\r\n\r\n" % (len(BODY) - 1, BODY[1:])),
    "size with zeros before": Served("9112 7.1", CHUNKED + b"0000" + WHOLE),
    "extensions": Served("9112 7.1.1", CHUNKED + WHOLE.replace(b"\r\n", b';a;b=c;d="e \\" f"\r\n', 1)),
    "extension with blanks": Served("9112 7.1.1", CHUNKED + WHOLE.replace(b"\r\n", b" ; a\t=\tb ;c\r\n", 1)),
    "extension of the last chunk": Served("9112 7.1.1", CHUNKED + WHOLE.replace(b"0\r\n", b"0;a=b\r\n")),
    **{
        f"trailer {line!r} is no header": Served("9110 6.5.1", CHUNKED + WHOLE[:-2] + line + b"\r\n\r\n")
        for line in (
            b"X: y",
            b"Content-Length: 1000",
            b"Transfer-Encoding: gzip",
            b"Host: other",
            b"Connection: close",
            b"Content-Encoding: gzip",
        )
    },
    "Expect, and the body at once": Served("9110 10.1.1", posted("Expect: 100-continue")),
    "unknown Expect": Served("9110 10.1.1", posted("Expect: 200-ok")),
    "Expect of HTTP/1.0": Served(
        "9110 10.1.1", posted("Expect: 100-continue").replace(b"HTTP/1.1", b"HTTP/1.0"), closed=True
    ),
    "Upgrade to h2c": Served("9110 7.8", get(b"Host: test", b"Connection: Upgrade", b"Upgrade: h2c")),
    "Upgrade to websocket": Served("9110 7.8", get(b"Host: test", b"Connection: Upgrade", b"Upgrade: websocket")),
    "Upgrade without Connection": Served("9110 7.8", get(b"Host: test", b"Upgrade: h2c")),
    "Upgrade of a POST": Served("9110 7.8", posted("Connection: upgrade", "Upgrade: x/1")),
    "Upgrade in HTTP/1.0": Served(
        "9110 7.8", b"GET /v2 HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", closed=True
    ),
    "Connection: close": Served("9112 9.6", posted("Connection: close"), closed=True),
    "Connection: close in capitals": Served("9112 9.6", posted("Connection: CLOSE"), closed=True),
    "close among others": Served("9112 9.6", posted("Connection: keep-alive, close"), closed=True),
    "close in another line": Served("9112 9.6", posted("Connection: x", "Connection: close"), closed=True),
    "nothing after Connection: close": Served("9112 9.6", posted("Connection: close") + HIDDEN, closed=True),
    "HTTP/1.0": Served("9112 9.3", b"GET /v2 HTTP/1.0\r\n\r\n", closed=True),
    "HTTP/1.0 with keep-alive": Served("9112 9.3", b"GET /v2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", closed=True),
    "pipeline": Served("9112 9.3.2", get(b"Host: test") * 5, (200,) * 5),
    "failed requests in a pipeline": Served(
        "9112 9.3.2", target(b"/none") + get(b"Host: test") + posted(body=b"{") + posted(), (404, 200, 400, 200)
    ),
}
